/*
 * Switching a function on and off.
 */
import type { PciDev } from './pci-dev.js';

/**
 * Lets a function decode the resources that it has, and its bridges pass them on. Counted.
 *
 * @throws EINVAL - a resource has no address
 * @source drivers/pci/pci.c pci_enable_device()
 */
export async function enableDevice(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}

/** The last one clears bus mastering. Source: drivers/pci/pci.c pci_disable_device() */
export function disableDevice(_pdev: PciDev): void {
  throw new TypeError('to come');
}

/** Source: drivers/pci/pci.c pci_set_master() */
export function setMaster(_pdev: PciDev): void {
  throw new TypeError('to come');
}

/** Source: drivers/pci/pci.c pci_clear_master() */
export function clearMaster(_pdev: PciDev): void {
  throw new TypeError('to come');
}
