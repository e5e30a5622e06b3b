/*
 * Power management: the power states of a function, and what leaving D3hot does to it.
 */
import { CapId, Pm } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

/** What the capability offers. */
export interface PowerManagementOptions {
  /** It keeps its registers in D3hot. */
  readonly noSoftReset?: boolean;
  readonly d1?: boolean;
  readonly d2?: boolean;
  /** States out of which it can wake the machine up: bits 11 to 15 of its capabilities. */
  readonly pme?: number;
  readonly at?: number;
}

const D0 = 0;
const D3_HOT = 3;
const VERSION = 3;

/** Lets an existing capability do its work. */
export function attachPowerManagement(fn: EmulatedFunction, at: number): void {
  const { config } = fn;
  const pmc = config.get(at + Pm.PMC, 2);
  const control = at + Pm.CTRL;
  const wakes = (pmc & Pm.CAP_PME_MASK) !== 0;
  config.allow(control, 2, Pm.CTRL_STATE_MASK | (wakes ? Pm.CTRL_PME_ENABLE : 0));
  if (wakes) config.clearOnOne(control, 2, Pm.CTRL_PME_STATUS);
  // A function in a slot that could have auxiliary power keeps what it was told about waking up.
  if ((pmc & 0x8000) !== 0) config.keep(control, 2, Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS);
  const supported = [true, (pmc & Pm.CAP_D1) !== 0, (pmc & Pm.CAP_D2) !== 0, true];
  config.hook(control, {
    written: (before) => {
      const from = before & Pm.CTRL_STATE_MASK;
      const to = config.get(control, 2) & Pm.CTRL_STATE_MASK;
      if (to === from) return;
      // A state that it has not is not entered.
      if (!supported[to]) {
        config.putBits(control, 2, Pm.CTRL_STATE_MASK, from);
        return;
      }
      if (from === D3_HOT && to === D0 && (config.get(control, 2) & Pm.CTRL_NO_SOFT_RESET) === 0) fn.reset('soft');
      fn.setPowered(to === D0);
    },
  });
}

/** Gives a function the capability. */
export function addPowerManagement(fn: EmulatedFunction, options: PowerManagementOptions = {}): void {
  const { noSoftReset = true, d1 = false, d2 = false, pme = 0, at } = options;
  const offset = fn.capabilities.add(CapId.PM, Pm.SIZEOF, at);
  const pmc = VERSION | (d1 ? Pm.CAP_D1 : 0) | (d2 ? Pm.CAP_D2 : 0) | (pme & Pm.CAP_PME_MASK);
  fn.config.set(offset + Pm.PMC, 2, pmc);
  fn.config.set(offset + Pm.CTRL, 2, noSoftReset ? Pm.CTRL_NO_SOFT_RESET : 0);
  attachPowerManagement(fn, offset);
}
