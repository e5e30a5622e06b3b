/*
 * Functions that come and go while the machine runs.
 */
import type { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';

/**
 * Takes a function and everything below it off the bus, drivers first.
 *
 * @source drivers/pci/remove.c pci_stop_and_remove_bus_device_locked()
 */
export async function stopAndRemoveBusDevice(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}

/** Finds what is new on a bus and below, and adds it. Source: drivers/pci/probe.c pci_rescan_bus() */
export async function rescanBus(_bus: PciBus): Promise<void> {
  throw new TypeError('to come');
}

/**
 * The function is gone from its slot, without warning: configuration reads give all ones, drivers are removed.
 *
 * @source drivers/pci/hotplug/pciehp_pci.c pciehp_unconfigure_device()
 */
export async function surpriseRemove(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}
