/*
 * Finding capabilities.
 */
import type { PciDev } from './pci-dev.js';

/** Offset of a capability, or 0. Source: drivers/pci/pci.c pci_find_capability() */
export function findCapability(_pdev: PciDev, _id: number): number {
  throw new TypeError('to come');
}

/** Offset of the next capability of that kind behind one, or 0. Source: drivers/pci/pci.c pci_find_next_capability() */
export function findNextCapability(_pdev: PciDev, _after: number, _id: number): number {
  throw new TypeError('to come');
}

/** Offset of an extended capability, or 0. Source: drivers/pci/pci.c pci_find_ext_capability() */
export function findExtCapability(_pdev: PciDev, _id: number): number {
  throw new TypeError('to come');
}
