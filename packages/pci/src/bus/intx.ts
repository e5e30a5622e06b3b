/*
 * The interrupt pin: routing, and masking by the command register.
 */
import type { PciDev } from './pci-dev.js';

/** Sets or clears the disable bit. Source: drivers/pci/pci.c pci_intx() */
export function intx(_pdev: PciDev, _enable: boolean): void {
  throw new TypeError('to come');
}

/** Whether the pin can be masked by the disable bit. Source: include/linux/pci.h pci_intx_mask_supported() */
export function intxMaskSupported(pdev: PciDev): boolean {
  return !pdev.brokenIntxMasking && pdev.pin !== 0;
}

/**
 * Masks the pin if the function asserts it.
 *
 * @returns whether it does
 * @source drivers/pci/irq.c pci_check_and_mask_intx()
 */
export function checkAndMaskIntx(_pdev: PciDev): boolean {
  throw new TypeError('to come');
}

/**
 * Unmasks the pin unless the function asserts it.
 *
 * @returns whether it is unmasked
 * @source drivers/pci/irq.c pci_check_and_unmask_intx()
 */
export function checkAndUnmaskIntx(_pdev: PciDev): boolean {
  throw new TypeError('to come');
}
