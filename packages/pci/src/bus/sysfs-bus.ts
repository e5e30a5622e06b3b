/*
 * Files of /sys/bus/pci, of its drivers, and of the directories of buses.
 */
import { type AttributeGroup, SystemError } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import { cpuList, cpuMask } from './cpus.js';
import { rescanBus } from './hotplug.js';
import type { PciBus } from './pci-bus.js';
import { addDynid, PCI_ANY_ID, type PciDeviceId, type PciDriver, removeDynid, takesDevice } from './pci-driver.js';
import { storedNumber } from './sysfs-number.js';

/** Fields of `new_id`: vendor, device, subvendor, subdevice, class, class mask, driver data. */
const ID_FIELDS = 7;

/** What somebody wrote to `new_id` or `remove_id`. */
interface ParsedId {
  readonly id: PciDeviceId;
  readonly driverData: number;
  /** No field was left out. */
  readonly complete: boolean;
}

/** Files in /sys/bus/pci. Source: drivers/pci/pci-sysfs.c pci_bus_groups */
export function busGroups(type: () => PciBusType): AttributeGroup[] {
  let alignment = '';
  return [
    {
      attributes: [
        {
          name: 'rescan',
          mode: 0o200,
          store: async (text) => {
            if (storedNumber(text) === 0n) return;
            for (const { rootBus } of [...type().domains]) await rescanBus(rootBus);
          },
        },
        {
          name: 'resource_alignment',
          mode: 0o644,
          show: () => (alignment === '' ? '' : `${alignment}\n`),
          store: (text) => {
            alignment = text.replace(/\n$/, '');
          },
        },
      ],
    },
  ];
}

/** Files in the directory of each driver. Source: drivers/pci/pci-driver.c pci_drv_groups */
export function driverGroups(driver: PciDriver): AttributeGroup[] {
  return [
    {
      attributes: [
        { name: 'new_id', mode: 0o200, store: async (text) => await newId(driver, text) },
        { name: 'remove_id', mode: 0o200, store: (text) => removeDynid(driver, parseId(text).id) },
      ],
    },
  ];
}

/**
 * @throws EINVAL - no id, or driver data that the driver does not know
 * @throws EEXIST - the driver takes such a device already; who writes all fields is believed
 * @source drivers/pci/pci-driver.c new_id_store()
 */
async function newId(driver: PciDriver, text: string): Promise<void> {
  const { id, driverData, complete } = parseId(text);
  if (!complete && takesDevice(driver, id)) {
    throw new SystemError('EEXIST', `driver ${driver.name} has an id for it`, { syscall: 'new_id_store' });
  }
  // A driver may rely on the data of its table: only values that are in it are accepted, and our tables have none.
  if (driverData !== 0 && driver.pci.idTable) {
    throw new SystemError('EINVAL', `driver data ${driverData} is in no entry of the driver's table`);
  }
  await addDynid(driver, id);
}

/**
 * Reads an id as administrators write it, in hexadecimal.
 *
 * @throws EINVAL - fewer than vendor and device
 * @source drivers/pci/pci-driver.c new_id_store()
 */
function parseId(text: string): ParsedId {
  const fields: number[] = [];
  for (let rest = text; fields.length < ID_FIELDS; ) {
    const match = /^\s*(?:0x(?=[0-9a-f]))?([0-9a-f]+)/i.exec(rest);
    if (!match?.[1]) break;
    fields.push(Number(BigInt.asUintN(32, BigInt(`0x${match[1]}`))));
    rest = rest.slice(match[0].length);
  }
  const [vendor, device, subvendor = PCI_ANY_ID, subdevice = PCI_ANY_ID, cls = 0, classMask = 0, driverData = 0] =
    fields;
  if (vendor === undefined || device === undefined) {
    throw new SystemError('EINVAL', `no vendor and device in ${JSON.stringify(text)}`);
  }
  const id = { vendor, device, subvendor, subdevice, class: cls, classMask };
  return { id, driverData, complete: fields.length === ID_FIELDS };
}

/** Files in the directory of each bus. Source: drivers/pci/probe.c, drivers/pci/pci-sysfs.c pcibus_groups */
export function pciBusGroups(type: PciBusType): AttributeGroup[] {
  const { host } = type;
  return [
    {
      attributes: [
        { name: 'cpuaffinity', mode: 0o444, show: () => `${cpuMask(host)}\n` },
        { name: 'cpulistaffinity', mode: 0o444, show: () => `${cpuList(host)}\n` },
      ],
    },
  ];
}

/** The file `rescan` of one bus. Source: drivers/pci/pci-sysfs.c bus_rescan_store() */
export function busRescanGroup(bus: PciBus): AttributeGroup {
  return {
    attributes: [
      {
        name: 'rescan',
        mode: 0o200,
        store: async (text) => {
          if (storedNumber(text) !== 0n) await rescanBus(bus);
        },
      },
    ],
  };
}
