/*
 * Functions that are reset together: which they are, whether all of them are VFIO's, and the reset of all when the last of them
 * is closed.
 */
import type { DeviceSet } from '@vfio/core';
import { isSystemError, Undo } from '@vfio/host';
import type { PciBus, PciSlot } from '../bus/pci-bus.js';
import type { PciDev } from '../bus/pci-dev.js';
import { probeResetBus, probeResetSlot, resetBus } from '../bus/reset.js';
import type { PciCoreDevice } from './core-device.js';
import { isPciCoreDevice } from './is-core-device.js';

/** The members of a set, oldest first: devices of PCI drivers, whose keys are only theirs. */
export function members(set: DeviceSet): PciCoreDevice[] {
  return set.devices.filter((device) => isPciCoreDevice(device));
}

/** Whether a function and those beside it can be reset by their slot or their bus. */
export function canResetTogether({ slot, pciBus }: PciDev): boolean {
  return probeResetSlot(slot) || probeResetBus(pciBus);
}

/**
 * Functions that are reset with one: those of its slot, or of its bus, and everything below.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_for_each_slot_or_bus()
 */
export function affectedBy({ slot, pciBus }: PciDev): PciDev[] {
  const all = walkBus(pciBus);
  return slot && probeResetSlot(slot) ? all.filter((pdev) => belowSlot(pdev, slot)) : all;
}

/** Source: drivers/pci/bus.c pci_walk_bus() */
function walkBus(bus: PciBus): PciDev[] {
  return bus.devices.flatMap((pdev) => (pdev.subordinate ? [pdev, ...walkBus(pdev.subordinate)] : [pdev]));
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_below_slot() */
function belowSlot(pdev: PciDev, slot: PciSlot): boolean {
  for (let at: PciDev | undefined = pdev; at; at = at.pciBus.self) {
    if (at.pciBus === slot.bus) return at.slot === slot;
  }
  return false;
}

/**
 * A function through which all of a set can be reset: there is a way, and everybody who would be reset is in the set.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_set_resettable()
 */
export function devSetResettable(set: DeviceSet): PciDev | undefined {
  set.lock.assertHeld();
  const pdev = members(set)[0]?.pdev;
  if (!pdev || !canResetTogether(pdev)) return undefined;
  return affectedBy(pdev).every((one) => set.find(one) !== undefined) ? pdev : undefined;
}

/**
 * Wakes all of a set.
 *
 * @param undo - lets them go again
 * @throws what waking one of them says
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_set_pm_runtime_get()
 */
export async function devSetPmGet(set: DeviceSet, undo: Undo): Promise<void> {
  for (const { pdev } of members(set)) {
    await pdev.pm.resumeAndGet();
    undo.add(() => pdev.pm.put());
  }
}

/**
 * A device is being closed: if nobody uses the others, and one of them was not reset since it was used, all are reset. What does
 * not work is left for the next time.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_set_try_reset()
 */
export async function devSetTryReset(set: DeviceSet): Promise<void> {
  if (!devSetNeedsReset(set)) return;
  const pdev = devSetResettable(set);
  if (!pdev) return;
  try {
    await using awake = new Undo();
    await devSetPmGet(set, awake);
    await resetBus(pdev);
    for (const device of members(set)) device.needsReset = false;
  } catch (error) {
    if (!isSystemError(error)) throw error;
  }
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_dev_set_needs_reset() */
function devSetNeedsReset(set: DeviceSet): boolean {
  // Who is being closed still counts.
  return set.openCount() <= 1 && members(set).some(({ needsReset }) => needsReset);
}
