/*
 * Errors of the PCI core device.
 */
import { VfioError } from '@vfio/core';
import type { ErrnoCode } from '@vfio/host';
import type { PciDev } from '../bus/pci-dev.js';

/** An error about a function. */
export function failure(code: ErrnoCode, pdev: PciDev, reason: string, syscall: string): VfioError {
  return new VfioError(code, reason, { syscall, subject: pdev.name });
}
