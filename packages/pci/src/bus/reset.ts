/*
 * Resets: of one function by the best method that it has, of a slot, of a bus.
 */
import type { Held } from '@vfio/host';
import type { PciBus, PciSlot } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';

/** In the order in which they are tried. Source: drivers/pci/pci.c pci_reset_fn_methods */
export const resetMethodNames = ['device_specific', 'acpi', 'flr', 'af_flr', 'pm', 'bus', 'cxl_bus'] as const;
export type ResetMethod = (typeof resetMethodNames)[number];

/** Takes the lock of a device and keeps users from its config space; undefined when somebody has it. Source: drivers/pci/pci.c pci_dev_trylock() */
export function devTrylock(_pdev: PciDev): Held | undefined {
  throw new TypeError('to come');
}

/** Source: drivers/pci/pci.c pci_dev_lock() */
export async function devLock(_pdev: PciDev): Promise<Held> {
  throw new TypeError('to come');
}

/**
 * Resets a function whose lock the caller has; nothing is saved, nobody is told.
 *
 * @throws ENOTTY - it has no method
 * @source drivers/pci/pci.c __pci_reset_function_locked()
 */
export async function resetFunctionLocked(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}

/**
 * Resets a function, with its state saved and restored and its driver told.
 *
 * @throws ENOTTY - it has no method
 * @throws EAGAIN - its lock, or that of the bridge above, is held
 * @source drivers/pci/pci.c pci_try_reset_function()
 */
export async function tryResetFunction(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}

/** As `tryResetFunction`, waiting for the lock. Source: drivers/pci/pci.c pci_reset_function() */
export async function resetFunction(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}

/** Whether the functions of a slot can be reset together. Source: drivers/pci/pci.c pci_probe_reset_slot() */
export function probeResetSlot(_slot: PciSlot | undefined): boolean {
  throw new TypeError('to come');
}

/** Whether a bus can be reset. Source: drivers/pci/pci.c pci_probe_reset_bus() */
export function probeResetBus(_bus: PciBus): boolean {
  throw new TypeError('to come');
}

/**
 * Resets the slot or the bus that a function is on, with everything below; states are saved and restored, drivers told.
 *
 * @throws ENOTTY - neither can be reset
 * @throws EAGAIN - the lock of a function is held
 * @source drivers/pci/pci.c pci_reset_bus()
 */
export async function resetBus(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}
