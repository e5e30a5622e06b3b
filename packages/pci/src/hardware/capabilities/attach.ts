/*
 * Capabilities of a function whose config space is known as bytes: each that has a behaviour gets it.
 */
import { CapId, ExtCapId, Msix as MsixReg, Sriov } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';
import { attachAdvancedFeatures } from './advanced-features.js';
import { attachExpress } from './express.js';
import { Msi } from './msi.js';
import { Msix } from './msix.js';
import { attachPowerManagement } from './power-management.js';
import { attachAcs, attachAer, attachPcix } from './simple.js';
import { type MakeVf, SriovCapability } from './sriov.js';
import { attachVpd } from './vital-product-data.js';

/** What bytes of config space do not tell. */
export interface AttachOptions {
  /** Vital product data; nothing but an end tag when absent. */
  readonly vpd?: Uint8Array;
  /** What makes virtual functions. */
  readonly makeVf?: MakeVf;
}

const VPD_END = 0x78;

type Attach = (fn: EmulatedFunction, at: number, options: AttachOptions) => void;

const standard: Readonly<Record<number, Attach>> = {
  [CapId.PM]: attachPowerManagement,
  [CapId.MSI]: (fn, at) => void new Msi(fn, at),
  [CapId.MSIX]: attachMsix,
  [CapId.EXP]: attachExpress,
  [CapId.AF]: attachAdvancedFeatures,
  [CapId.PCIX]: attachPcix,
  [CapId.VPD]: (fn, at, { vpd }) => attachVpd(fn, at, vpd ?? Uint8Array.of(VPD_END)),
};

const extended: Readonly<Record<number, Attach>> = {
  [ExtCapId.ERR]: attachAer,
  [ExtCapId.ACS]: attachAcs,
  [ExtCapId.SRIOV]: (fn, at, { makeVf }) => {
    if (makeVf && fn.config.get(at + Sriov.TOTAL_VF, 2) > 0) new SriovCapability(fn, at, makeVf);
  },
};

/** A table in a BAR that the function has not is one that nobody can use. */
function attachMsix(fn: EmulatedFunction, at: number): void {
  const bars = [MsixReg.TABLE, MsixReg.PBA].map((register) => fn.config.get(at + register, 4) & MsixReg.BIR_MASK);
  if (bars.every((bar) => fn.hasBar(bar))) new Msix(fn, at);
}

/** Gives the capabilities of a function their behaviour. Its BARs are there already. */
export function attachCapabilities(fn: EmulatedFunction, options: AttachOptions = {}): void {
  for (const { id, offset } of fn.capabilities.standard()) standard[id]?.(fn, offset, options);
  for (const { id, offset } of fn.capabilities.extended()) extended[id]?.(fn, offset, options);
}
