/*
 * Files of /sys/bus/pci, of its drivers, and of the directories of buses.
 */
import { type AttributeGroup, kstrtoull, SystemError } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import { cpuList, cpuMask } from './cpus.js';
import { rescanBus } from './hotplug.js';
import type { PciBus } from './pci-bus.js';
import { addDynid, PCI_ANY_ID, type PciDeviceId, type PciDriver, removeDynid } from './pci-driver.js';

/** Fields of `new_id`: vendor, device, subvendor, subdevice, class, class mask, driver data. */
const ID_FIELDS = 7;

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
            if (kstrtoull(text) === 0n) return;
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

async function newId(driver: PciDriver, text: string): Promise<void> {
  const { id, driverData } = parseId(text);
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
function parseId(text: string): { readonly id: PciDeviceId; readonly driverData: number } {
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
  return { id: { vendor, device, subvendor, subdevice, class: cls, classMask }, driverData };
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
          if (kstrtoull(text) !== 0n) await rescanBus(bus);
        },
      },
    ],
  };
}
