/*
 * Advanced features of conventional PCI: the reset of one function, for those that have no PCI Express capability.
 */
import { Af, CapId } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

const LENGTH = 6;

/** Lets an existing capability do its work. */
export function attachAdvancedFeatures(fn: EmulatedFunction, at: number): void {
  if ((fn.config.get(at + Af.CAP, 1) & Af.CAP_FLR) === 0) return;
  fn.config.hook(at + Af.CTRL, {
    written: (_before, _lanes, written) => {
      if ((written & Af.CTRL_FLR) !== 0) fn.reset('flr');
    },
  });
}

/** Gives a function the capability, with the reset. */
export function addAdvancedFeatures(fn: EmulatedFunction, at?: number): void {
  const offset = fn.capabilities.add(CapId.AF, LENGTH, at);
  fn.config.set(offset + Af.LENGTH, 1, LENGTH);
  fn.config.set(offset + Af.CAP, 1, Af.CAP_TP | Af.CAP_FLR);
  attachAdvancedFeatures(fn, offset);
}
