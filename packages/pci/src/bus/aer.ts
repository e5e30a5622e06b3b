/*
 * Errors that functions report, and what their drivers are asked to do about them.
 */

import type { PciDev } from './pci-dev.js';
import type { ErsResult } from './pci-driver.js';

/** What the bus keeps of a function's errors. */
export interface AerState {
  /** Offset of the capability. */
  readonly cap: number;
  correctable: number;
  nonfatal: number;
  fatal: number;
}

/**
 * Takes a function through the recovery from an error.
 *
 * @returns how it ended
 * @source drivers/pci/pcie/err.c pcie_do_recovery()
 */
export async function doRecovery(_pdev: PciDev, _severity: 'non-fatal' | 'fatal'): Promise<ErsResult> {
  throw new TypeError('to come');
}

/**
 * A function tells its root port of an error. Called by hardware, so that nobody waits for the recovery that it may start.
 *
 * @source drivers/pci/pcie/aer.c aer_irq(), aer_isr()
 */
export function reportError(_pdev: PciDev, _severity: 'correctable' | 'non-fatal' | 'fatal'): void {
  throw new TypeError('to come');
}
