/*
 * Functions that come and go while the machine runs.
 */
import { isSystemError } from '@vfio/host';
import { assignResources } from './assign-resources.js';
import { busAddDevices } from './bus-add.js';
import { scanChildBus, unregisterBusDevice } from './enumerate.js';
import { disablePasid } from './pasid.js';
import type { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';

/**
 * Takes a function and everything below it off the bus, drivers first.
 *
 * @source drivers/pci/remove.c pci_stop_and_remove_bus_device_locked()
 */
export async function stopAndRemoveBusDevice(pdev: PciDev): Promise<void> {
  using _held = await pdev.pciBus.domain.type.rescanRemove.lock();
  // Somebody may have been faster.
  if (pdev.pciBus.devices.includes(pdev)) await removeBusDevice(pdev);
}

/**
 * As `stopAndRemoveBusDevice`, by somebody who holds `rescanRemove`, or is part of what holds it.
 *
 * @source drivers/pci/remove.c pci_stop_and_remove_bus_device()
 */
export async function removeBusDevice(pdev: PciDev): Promise<void> {
  await stopBusDevice(pdev);
  await destroyDevice(pdev);
}

/** Finds what is new on a bus and below, and adds it. Source: drivers/pci/probe.c pci_rescan_bus() */
export async function rescanBus(bus: PciBus): Promise<void> {
  using _held = await bus.domain.type.rescanRemove.lock();
  if (!bus.dev) return;
  try {
    await scanChildBus(bus);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    bus.domain.host.log.err(`rescan of bus ${bus.dev?.name} ends early: ${error.message}`);
  }
  assignResources(bus.domain.rootBus);
  await busAddDevices(bus);
}

/**
 * The function is gone from its slot, without warning: configuration reads give all ones, drivers are removed.
 *
 * @source drivers/pci/hotplug/pciehp_pci.c pciehp_unconfigure_device()
 */
export async function surpriseRemove(pdev: PciDev): Promise<void> {
  disconnect(pdev);
  await stopAndRemoveBusDevice(pdev);
}

/** Source: drivers/pci/pci.h pci_dev_set_disconnected() */
function disconnect(pdev: PciDev): void {
  for (const below of pdev.subordinate?.devices ?? []) disconnect(below);
  pdev.disconnected = true;
  pdev.port?.close();
  pdev.hw.unplug();
}

/** Drivers go, last function first, those below before their bridge's. Source: drivers/pci/remove.c pci_stop_bus_device() */
async function stopBusDevice(pdev: PciDev): Promise<void> {
  for (const below of [...(pdev.subordinate?.devices ?? [])].reverse()) await stopBusDevice(below);
  pdev.matchDriver = false;
  await pdev.pciHost.devices.releaseDriver(pdev);
}

/** Source: drivers/pci/remove.c pci_remove_bus_device(), pci_destroy_dev() */
async function destroyDevice(pdev: PciDev): Promise<void> {
  const { pciBus, subordinate } = pdev;
  if (subordinate) {
    for (const below of [...subordinate.devices].reverse()) await destroyDevice(below);
    await unregisterBusDevice(subordinate);
    pciBus.children.splice(pciBus.children.indexOf(subordinate), 1);
    pdev.subordinate = undefined;
  }
  // The driver of a physical function may have taken its virtual ones with it.
  const at = pciBus.devices.indexOf(pdev);
  if (at < 0) return;
  if (pciBus.domain.root.acpi) await pciBus.domain.type.firmware().remove(pdev);
  await pdev.pciHost.devices.del(pdev);
  disablePasid(pdev);
  pciBus.devices.splice(pciBus.devices.indexOf(pdev), 1);
  pciBus.domain.type.vga.forget(pdev);
  for (const resource of pdev.resource) if (resource.parent) pciBus.domain.release(resource);
  pdev.port?.close();
  pdev.port = undefined;
  pdev.put();
}
