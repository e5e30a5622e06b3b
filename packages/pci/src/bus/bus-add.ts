/*
 * The end of enumeration: functions that are on their bus, with their resources, are offered to drivers.
 */
import { isSystemError } from '@vfio/host';
import type { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';

/** Offers a function to the drivers of the bus. Source: drivers/pci/bus.c pci_bus_add_device() */
export async function busAddDevice(pdev: PciDev): Promise<void> {
  pdev.matchDriver = true;
  if (!pdev.pciBus.domain.type.record?.autoprobe) return;
  try {
    await pdev.pciHost.devices.attach(pdev);
  } catch (error) {
    // What is in the way of a driver is no obstacle to the device.
    if (!isSystemError(error)) throw error;
  }
}

/** As `busAddDevice`, of all on a bus and below that are new. Source: drivers/pci/bus.c pci_bus_add_devices() */
export async function busAddDevices(bus: PciBus): Promise<void> {
  for (const pdev of [...bus.devices]) if (!pdev.matchDriver) await busAddDevice(pdev);
  for (const child of [...bus.children]) await busAddDevices(child);
}
