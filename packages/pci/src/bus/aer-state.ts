/*
 * What the bus keeps of the errors of a function.
 */
import { findExtCapability } from './caps.js';
import { readConfigDword, writeConfigDword } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Err, ExtCapId } from './regs.js';

/** How bad an error is. */
export type AerSeverity = 'correctable' | 'non-fatal' | 'fatal';

/** What the bus keeps of a function's errors. */
export interface AerState {
  /** Offset of the capability. */
  readonly cap: number;
  /** Errors by their bit in the status register. */
  readonly correctable: number[];
  readonly nonfatal: number[];
  readonly fatal: number[];
  /** Messages that a root port has received. */
  readonly root: { correctable: number; nonfatal: number; fatal: number };
}

/** Kinds of errors in a status register. */
export const AER_BITS = 32;

/** Finds the capability of a new function. Source: drivers/pci/pcie/aer.c pci_aer_init() */
export function aerInit(pdev: PciDev): void {
  const cap = findExtCapability(pdev, ExtCapId.ERR);
  if (cap === 0) return;
  const none = () => new Array<number>(AER_BITS).fill(0);
  pdev.aer = {
    cap,
    correctable: none(),
    nonfatal: none(),
    fatal: none(),
    root: { correctable: 0, nonfatal: 0, fatal: 0 },
  };
  clearAerStatus(pdev);
}

/** Forgets what the registers say of errors. Source: drivers/pci/pcie/aer.c pci_aer_clear_status() */
export function clearAerStatus(pdev: PciDev): void {
  if (!pdev.aer) return;
  for (const register of [Err.UNCOR_STATUS, Err.COR_STATUS]) {
    const at = pdev.aer.cap + register;
    const status = readConfigDword(pdev, at);
    if (status !== 0) writeConfigDword(pdev, at, status);
  }
}
