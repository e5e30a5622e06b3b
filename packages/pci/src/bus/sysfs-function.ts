/*
 * The files of a function: what it is, what it has, and the switches of administrators. What belongs to one concern (reset,
 * virtual functions, errors) comes from the file of that concern.
 */
import { type Attribute, type AttributeGroup, type Process, SysfsFile, SystemError } from '@vfio/host';
import { cpuList, cpuMask } from './cpus.js';
import { disableDevice, enableDevice } from './enable.js';
import { rescanBus, stopAndRemoveBusDevice } from './hotplug.js';
import { isPciDev, type PciDev } from './pci-dev.js';
import { HeaderType, ResourceIndex } from './regs.js';
import { aerAttributes } from './sysfs-aer.js';
import { configAttribute } from './sysfs-config.js';
import { linkAttributes } from './sysfs-link.js';
import { storedInt, storedNumber } from './sysfs-number.js';
import { powerAttributes, resetAttributes } from './sysfs-reset.js';
import { resourceAttributes } from './sysfs-resource.js';
import { romAttributes } from './sysfs-rom.js';
import { sriovAttributes } from './sysfs-sriov.js';
import { modalias } from './uevent.js';
import { isVga } from './vga.js';

/** A value to be read. */
function show(name: string, value: () => string | number): Attribute {
  return { name, mode: 0o444, show: () => `${value()}\n` };
}

/**
 * All files of a function, each group once.
 *
 * @source drivers/pci/pci-sysfs.c pci_dev_groups, pci_dev_attr_groups
 */
export function functionGroups(pdev: PciDev): readonly AttributeGroup[] {
  pdev.sysfsGroups ??= [
    { attributes: [...identity(pdev), ...switches(pdev), ...presence(pdev)] },
    { binAttributes: [configAttribute(pdev), ...resourceAttributes(pdev)] },
    { attributes: linkAttributes(pdev) },
    {
      attributes: [
        ...powerAttributes(pdev),
        ...resetAttributes(pdev),
        ...sriovAttributes(pdev),
        ...aerAttributes(pdev),
      ],
    },
    { binAttributes: romAttributes(pdev) },
    // Both are there for every function; what is in them depends on its capabilities.
    { name: 'aer' },
    { name: 'link' },
  ];
  return pdev.sysfsGroups;
}

/** Source: drivers/pci/pci-sysfs.c pci_dev_attrs */
function identity(pdev: PciDev): Attribute[] {
  const { pciHost } = pdev;
  return [
    show('resource', () => resourceText(pdev)),
    show('vendor', () => hex(pdev.vendor, 4)),
    show('device', () => hex(pdev.deviceId, 4)),
    show('subsystem_vendor', () => hex(pdev.subsystemVendor, 4)),
    show('subsystem_device', () => hex(pdev.subsystemDevice, 4)),
    show('revision', () => hex(pdev.revision, 2)),
    show('class', () => hex(pdev.classCode, 6)),
    show('irq', () => irqNumber(pdev)),
    show('local_cpus', () => cpuMask(pciHost)),
    show('local_cpulist', () => cpuList(pciHost)),
    show('modalias', () => modalias(pdev)),
    show('dma_mask_bits', () => pdev.dmaMaskBits),
    show('consistent_dma_mask_bits', () => pdev.coherentDmaMaskBits),
    show('ari_enabled', () => Number(pdev.pciBus.ariEnabled)),
    ...(isVga(pdev) ? [show('boot_vga', () => Number(isBootVga(pdev)))] : []),
  ];
}

/** Source: drivers/pci/pci-sysfs.c numa_node_store(), enable_store(), broken_parity_status_store(), msi_bus_store() */
function switches(pdev: PciDev): Attribute[] {
  let node = -1;
  return [
    {
      name: 'numa_node',
      mode: 0o644,
      show: () => `${node}\n`,
      store: (text, process) => {
        assertAdmin(process, pdev);
        const wanted = storedInt(text);
        if (wanted !== -1 && wanted !== 0) throw new SystemError('EINVAL', 'no such node');
        node = wanted;
      },
    },
    {
      name: 'enable',
      mode: 0o644,
      show: () => `${pdev.enableCnt}\n`,
      store: async (text, process) => {
        assertAdmin(process, pdev);
        await storeEnable(pdev, storedNumber(text) !== 0n);
      },
    },
    {
      name: 'broken_parity_status',
      mode: 0o644,
      show: () => `${Number(pdev.brokenParityStatus)}\n`,
      store: (text) => {
        pdev.brokenParityStatus = storedNumber(text) !== 0n;
      },
    },
    {
      name: 'msi_bus',
      mode: 0o644,
      show: () => `${Number(!pdev.noMsi)}\n`,
      store: (text, process) => {
        const allowed = storedNumber(text) !== 0n;
        assertAdmin(process, pdev);
        pdev.noMsi = !allowed;
      },
    },
  ];
}

/** Source: drivers/pci/pci-sysfs.c dev_rescan_store(), remove_store() */
function presence(pdev: PciDev): Attribute[] {
  return [
    {
      name: 'rescan',
      mode: 0o200,
      store: async (text) => {
        if (storedNumber(text) !== 0n) await rescanBus(pdev.pciBus);
      },
    },
    {
      name: 'remove',
      mode: 0o220,
      store: async (text) => {
        if (storedNumber(text) === 0n) return;
        const file = pdev.sysfs.lookup('remove');
        if (file instanceof SysfsFile && (await pdev.sysfs.removeSelf(file))) await stopAndRemoveBusDevice(pdev);
      },
    },
  ];
}

/** A driver that has the function decides itself. */
async function storeEnable(pdev: PciDev, on: boolean): Promise<void> {
  using _held = await pdev.lock.lock();
  if (pdev.driver) throw new SystemError('EBUSY', `driver ${pdev.driver.name} has it`, { subject: pdev.name });
  if (on) await enableDevice(pdev);
  else if (pdev.enableCnt > 0) disableDevice(pdev);
  else throw new SystemError('EIO', 'not enabled', { subject: pdev.name });
}

/** @throws EPERM */
function assertAdmin(process: Process, pdev: PciDev): void {
  if (!process.credentials.capable('SYS_ADMIN'))
    throw new SystemError('EPERM', 'needs SYS_ADMIN', { subject: pdev.name });
}

/** With MSI the number of its first vector, else that of the pin. Source: drivers/pci/pci-sysfs.c irq_show() */
function irqNumber(pdev: PciDev): number {
  const first = pdev.msi?.type === 'msi' ? pdev.msi.vectors.get(0) : undefined;
  return first ? first.line.irq : pdev.irq;
}

/** Source: drivers/pci/pci-sysfs.c resource_show() */
function resourceText(pdev: PciDev): string {
  const count = pdev.subordinate || pdev.hdrType === HeaderType.BRIDGE ? ResourceIndex.COUNT : ResourceIndex.BRIDGE;
  const lines = pdev.resource.slice(0, count).map((resource) => {
    const { start, end, flags } = resource.size === 0 ? { start: 0, end: 0, flags: 0 } : resource;
    return [start, end, flags].map((value) => hex(value, 16)).join(' ');
  });
  return lines.join('\n');
}

/** The first of them is the one that the machine started with. */
function isBootVga(pdev: PciDev): boolean {
  const { devices } = pdev.pciBus.domain.type;
  return devices.find((dev) => isPciDev(dev) && isVga(dev)) === pdev;
}

function hex(value: number, digits: number): string {
  return `0x${value.toString(16).padStart(digits, '0')}`;
}
