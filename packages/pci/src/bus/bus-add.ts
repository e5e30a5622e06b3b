/*
 * The end of enumeration: functions that are on their bus, with their resources, are offered to drivers.
 */
import { isSystemError } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import type { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { PciClass, ResourceIndex } from './regs.js';
import { ResourceFlag } from './resource-tree.js';

/** Where firmware copies the ROM of the display to. */
const SHADOW_START = 0xc_0000;
const SHADOW_SIZE = 0x2_0000;

/** Offers a function to the drivers of the bus. Source: drivers/pci/bus.c pci_bus_add_device() */
export async function busAddDevice(pdev: PciDev): Promise<void> {
  fixupVideo(pdev);
  pdev.matchDriver = true;
  if (!pdev.pciBus.domain.type.record?.autoprobe) return;
  try {
    await pdev.pciHost.devices.attach(pdev);
  } catch (error) {
    // What is in the way of a driver is no obstacle to the device.
    if (!isSystemError(error)) throw error;
  }
}

/**
 * The ROM of the display that the machine started with is where firmware has copied it to.
 *
 * @source arch/x86/pci/fixup.c pci_fixup_video()
 */
function fixupVideo(pdev: PciDev): void {
  if (pdev.classCode >>> 8 !== PciClass.DISPLAY_VGA || !pdev.hw.platformRom) return;
  const rom = resourceAt(pdev, ResourceIndex.ROM);
  if ((rom.flags & ResourceFlag.ROM_SHADOW) !== 0) return;
  if (rom.parent) pdev.pciBus.domain.release(rom);
  rom.start = SHADOW_START;
  rom.end = SHADOW_START + SHADOW_SIZE - 1;
  rom.flags = ResourceFlag.MEM | ResourceFlag.ROM_SHADOW | ResourceFlag.PCI_FIXED;
}

/** As `busAddDevice`, of all on a bus and below that are new. Source: drivers/pci/bus.c pci_bus_add_devices() */
export async function busAddDevices(bus: PciBus): Promise<void> {
  for (const pdev of [...bus.devices]) if (!pdev.matchDriver) await busAddDevice(pdev);
  for (const child of [...bus.children]) await busAddDevices(child);
}
