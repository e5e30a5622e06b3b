// Devices by the names that people have for them: address, UUID, vfioN.

import type { Process } from '@vfio/host';
import { CommandError } from './errors.js';
import { linkName, namesIn } from './files.js';

/** A device on a bus. */
export interface DeviceName {
  /** Name on its bus: `0000:01:00.0`, a UUID. */
  readonly address: string;
  /** Absent for one that is only in an IOMMU group. */
  readonly bus?: string;
  /** Its directory: `/sys/bus/pci/devices/0000:01:00.0`. */
  readonly directory: string;
  readonly driver: string | undefined;
}

const busRoot = '/sys/bus';
const groupRoot = '/sys/kernel/iommu_groups';

/**
 * Finds a device.
 *
 * @param name - address (of PCI also without the domain), UUID in any case, `vfioN`
 * @throws CommandError - there is none, or several buses have one
 */
export function findDevice(process: Process, name: string): DeviceName {
  const address = addressOf(process, name) ?? name;
  const onBuses = devicesNamed(process, address);
  const found = onBuses.length > 0 ? onBuses : devicesInGroups(process, address);
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

/** Devices of a chipset are in groups without being on a bus. */
function devicesInGroups(process: Process, address: string): DeviceName[] {
  return namesIn(process, groupRoot)
    .map((group) => `${groupRoot}/${group}/devices`)
    .filter((devices) => namesIn(process, devices).includes(address))
    .map((devices) => ({ address, directory: `${devices}/${address}`, driver: undefined }));
}

/** A device that is known to be on a bus. */
export function deviceOn(process: Process, bus: string, address: string): DeviceName & { readonly bus: string } {
  const directory = `${busRoot}/${bus}/devices/${address}`;
  return { address, bus, directory, driver: linkName(process, `${directory}/driver`) };
}

/** All devices on all buses. */
export function allDevices(process: Process) {
  return namesIn(process, busRoot).flatMap((bus) =>
    namesIn(process, `${busRoot}/${bus}/devices`).map((address) => deviceOn(process, bus, address)),
  );
}
