/*
 * The driver of ports: it keeps them enabled, and looks after the slot below those that have one.
 */
import { SystemError } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import { readConfigDword } from './config.js';
import { disableDevice, enableDevice, setMaster } from './enable.js';
import { rescanBus, stopAndRemoveBusDevice } from './hotplug.js';
import type { PciSlot } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { PCI_ANY_ID, type PciDeviceId, PciDriver, registerDriver } from './pci-driver.js';
import { isHotplugBridge } from './ports.js';
import { Exp, ExpType, PciClass } from './regs.js';
import { bridgeSecondaryBusReset } from './reset-methods.js';
import { createSlot, destroySlot, SLOT_ALL_DEVICES } from './slots.js';

/** Class of bridges, and of those that decode subtractively. */
const BRIDGE_CLASSES = [PciClass.BRIDGE_PCI << 8, (PciClass.BRIDGE_PCI << 8) | 1];
const CLASS_MASK = 0xff_ffff;
/** Where the slot capabilities have the number of the slot. */
const SLOT_NUMBER_SHIFT = 19;

/**
 * Makes the driver of ports known. It is part of the kernel, and of no module.
 *
 * @throws ENOMEM
 * @source drivers/pci/pcie/portdrv.c pcie_portdriver
 */
export async function registerPortDriver(bus: PciBusType): Promise<PciDriver> {
  const slots = new WeakMap<PciDev, PciSlot>();
  const driver = new PciDriver({
    name: 'pcieport',
    bus,
    idTable: BRIDGE_CLASSES.map(classId),
    managesDma: true,
    probe: async (pdev) => {
      const slot = await probePort(pdev);
      if (slot) slots.set(pdev, slot);
    },
    remove: (pdev) => {
      const slot = slots.get(pdev);
      if (slot) destroySlot(slot);
      slots.delete(pdev);
      disableDevice(pdev);
    },
  });
  await registerDriver(driver);
  return driver;
}

/** Source: drivers/pci/pcie/portdrv.c pcie_portdrv_probe(), drivers/pci/hotplug/pciehp_core.c pciehp_probe() */
async function probePort(pdev: PciDev): Promise<PciSlot | undefined> {
  const { ROOT_PORT, UPSTREAM, DOWNSTREAM } = ExpType;
  const isPort = pdev.isPcie && [ROOT_PORT, UPSTREAM, DOWNSTREAM].some((type) => pdev.pcieType === type);
  if (!isPort) throw new SystemError('ENODEV', 'not a port', { subject: pdev.name });
  await enableDevice(pdev);
  setMaster(pdev);
  const { subordinate } = pdev;
  if (!subordinate || !isHotplugBridge(pdev) || !hasNativeHotplug(pdev)) return undefined;
  const number = readConfigDword(pdev, pdev.pcieCap + Exp.SLTCAP) >>> SLOT_NUMBER_SHIFT;
  try {
    // Source: drivers/pci/hotplug/pciehp_hpc.c pciehp_reset_slot()
    return createSlot(subordinate, SLOT_ALL_DEVICES, String(number), {
      resetSlot: (probe) => {
        if (!probe) bridgeSecondaryBusReset(pdev);
      },
      switchSlot: async (on) => {
        if (on) await rescanBus(subordinate);
        else for (const below of [...subordinate.devices].reverse()) await stopAndRemoveBusDevice(below);
      },
    });
  } catch (error) {
    disableDevice(pdev);
    throw error;
  }
}

/** Firmware may look after slots itself. Source: drivers/pci/pcie/portdrv.c get_port_device_capability() */
function hasNativeHotplug({ pciBus }: PciDev): boolean {
  return pciBus.domain.root.nativeHotplug !== false;
}

function classId(value: number): PciDeviceId {
  return {
    vendor: PCI_ANY_ID,
    device: PCI_ANY_ID,
    subvendor: PCI_ANY_ID,
    subdevice: PCI_ANY_ID,
    class: value,
    classMask: CLASS_MASK,
  };
}
