/*
 * What a reset makes a function forget, kept by the kernel and written back.
 */
import type { PciDev } from './pci-dev.js';

/** @internal registers by offset, as `saveState` read them */
export interface SavedState {
  readonly header: readonly number[];
  /** By capability: its registers. */
  readonly caps: ReadonlyMap<number, readonly number[]>;
}

/** A copy that a driver keeps beside the device's own. Source: drivers/pci/pci.c struct pci_saved_state */
export type StoredState = SavedState;

/** Source: drivers/pci/pci.c pci_save_state() */
export function saveState(_pdev: PciDev): void {
  throw new TypeError('to come');
}

/** Nothing happens unless a state was saved. Source: drivers/pci/pci.c pci_restore_state() */
export function restoreState(_pdev: PciDev): void {
  throw new TypeError('to come');
}

/** @returns undefined when nothing was saved. Source: drivers/pci/pci.c pci_store_saved_state() */
export function storeSavedState(_pdev: PciDev): StoredState | undefined {
  throw new TypeError('to come');
}

/**
 * Makes a copy the device's saved state; without one there is none.
 *
 * @throws EINVAL - the copy is not of this device
 * @source drivers/pci/pci.c pci_load_saved_state()
 */
export function loadSavedState(_pdev: PciDev, _stored: StoredState | undefined): void {
  throw new TypeError('to come');
}
