// Devices by the names that people have for them: address, UUID, vfioN.

import type { Process } from '@vfio/host';
import { CommandError } from './errors.js';
import { linkName, namesIn } from './files.js';

/** A device on a bus. */
export interface DeviceName {
  /** Name on its bus: `0000:01:00.0`, a UUID. */
  readonly address: string;
  readonly bus: string;
  /** Its directory: `/sys/bus/pci/devices/0000:01:00.0`. */
  readonly directory: string;
  readonly driver: string | undefined;
}

const busRoot = '/sys/bus';

/**
 * Finds a device.
 *
 * @param name - address (of PCI also without the domain), UUID in any case, `vfioN`
 * @throws CommandError - there is none, or several buses have one
 */
export function findDevice(process: Process, name: string): DeviceName {
  const found = devicesNamed(process, addressOf(process, name) ?? name);
  const [device, other] = found;
  if (!device) throw new CommandError(`no device '${name}': see vfio ls`);
  if (other) {
    const paths = found.map(({ directory }) => directory).join(' and ');
    throw new CommandError(`'${name}' is ${paths}: name one of them`);
  }
  return device;
}

/** The device that a `vfioN` belongs to. */
function addressOf(process: Process, name: string): string | undefined {
  return /^vfio\d+$/.test(name) ? linkName(process, `/sys/class/vfio-dev/${name}/device`) : undefined;
}

function devicesNamed(process: Process, name: string): DeviceName[] {
  const spellings = new Set([name, name.toLowerCase(), `0000:${name.toLowerCase()}`]);
  return namesIn(process, busRoot).flatMap((bus) => {
    const known = new Set(namesIn(process, `${busRoot}/${bus}/devices`));
    const address = [...spellings].find((spelling) => known.has(spelling));
    return address === undefined ? [] : [deviceOn(process, bus, address)];
  });
}

/** A device that is known to be on a bus. */
export function deviceOn(process: Process, bus: string, address: string): DeviceName {
  const directory = `${busRoot}/${bus}/devices/${address}`;
  return { address, bus, directory, driver: linkName(process, `${directory}/driver`) };
}

/** All devices on all buses. */
export function allDevices(process: Process): DeviceName[] {
  return namesIn(process, busRoot).flatMap((bus) =>
    namesIn(process, `${busRoot}/${bus}/devices`).map((address) => deviceOn(process, bus, address)),
  );
}
