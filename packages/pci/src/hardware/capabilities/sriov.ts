/*
 * SR-IOV: virtual functions that exist while a bit of their physical function is set.
 */
import { ExtCapId, Sriov } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';
import type { VirtualFunction } from '../virtual-function.js';

/** What makes a virtual function. */
export type MakeVf = (index: number) => VirtualFunction;

/** A BAR that each virtual function has. */
export interface VfBar {
  readonly size: number;
  readonly wide?: boolean;
  readonly prefetch?: boolean;
}

/** What the capability offers. */
export interface SriovOptions {
  readonly totalVfs: number;
  /** Routing id of the first one, from the physical function's; and from each to the next. */
  readonly offset: number;
  readonly stride: number;
  readonly vfDevice: number;
  readonly bars: Readonly<Record<number, VfBar>>;
  readonly makeVf: MakeVf;
  readonly at?: number;
}

const PAGE_SIZES = 0x553;
const PAGE_4K = 1;
const CONTROL_BITS = Sriov.CTRL_VFE | Sriov.CTRL_INTR | Sriov.CTRL_MSE | Sriov.CTRL_ARI;

/** The SR-IOV capability of a function. */
export class SriovCapability {
  readonly #pf: EmulatedFunction;
  readonly #at: number;
  readonly #makeVf: MakeVf;
  /** Those that exist now. */
  #vfs: VirtualFunction[] = [];
  /** All that ever did, by index. */
  readonly #made = new Map<number, VirtualFunction>();

  constructor(pf: EmulatedFunction, at: number, makeVf: MakeVf) {
    this.#pf = pf;
    this.#at = at;
    this.#makeVf = makeVf;
    const { config } = pf;
    config.allow(at + Sriov.CTRL, 2, CONTROL_BITS);
    config.allow(at + Sriov.NUM_VF, 2, 0xffff);
    config.allow(at + Sriov.SYS_PGSIZE, 4, PAGE_SIZES);
    config.hook(at + Sriov.CTRL, { written: () => this.#switched() });
    pf.onReset(() => this.#switched());
    pf.sriov = this;
  }

  /** Whether virtual functions decode memory. */
  get memorySpace(): boolean {
    return (this.#control & Sriov.CTRL_MSE) !== 0 && this.#pf.powered;
  }

  /** The virtual function of an index, while it exists. */
  at(index: number): VirtualFunction | undefined {
    return this.#vfs[index];
  }

  /** What the physical function's memory switch or power state was has changed. */
  updateDecoding(): void {
    for (const vf of this.#vfs) vf.updateDecoding();
  }

  get #control(): number {
    return this.#pf.config.get(this.#at + Sriov.CTRL, 2);
  }

  /** The control register has changed. */
  #switched(): void {
    const { config } = this.#pf;
    const enabled = (this.#control & Sriov.CTRL_VFE) !== 0;
    if (!enabled) {
      for (const vf of this.#vfs.splice(0)) vf.vanish();
      return;
    }
    const total = config.get(this.#at + Sriov.TOTAL_VF, 2);
    const count = Math.min(config.get(this.#at + Sriov.NUM_VF, 2), total);
    // Their number is fixed while they exist.
    if (this.#vfs.length === 0) this.#vfs = Array.from({ length: count }, (_, index) => this.#appear(index));
    this.updateDecoding();
  }

  /** One comes back where it was: whoever resets the physical function and sets it up again finds the same ones. */
  #appear(index: number): VirtualFunction {
    const vf = this.#made.get(index) ?? this.#makeVf(index);
    this.#made.set(index, vf);
    vf.appear();
    return vf;
  }
}

/** Gives a function the capability. */
export function addSriov(pf: EmulatedFunction, options: SriovOptions): SriovCapability {
  const { totalVfs, offset, stride, vfDevice, bars, makeVf } = options;
  const { config } = pf;
  const at = pf.capabilities.addExtended(ExtCapId.SRIOV, 1, Sriov.SIZEOF, options.at);
  config.set(at + Sriov.INITIAL_VF, 2, totalVfs);
  config.set(at + Sriov.TOTAL_VF, 2, totalVfs);
  config.set(at + Sriov.VF_OFFSET, 2, offset);
  config.set(at + Sriov.VF_STRIDE, 2, stride);
  config.set(at + Sriov.VF_DID, 2, vfDevice);
  config.set(at + Sriov.SUP_PGSIZE, 4, PAGE_SIZES);
  config.set(at + Sriov.SYS_PGSIZE, 4, PAGE_4K);
  for (const [index, { size, wide = false, prefetch = false }] of Object.entries(bars)) {
    const register = at + Sriov.BAR + 4 * Number(index);
    const mask = -BigInt(size);
    config.set(register, 4, (wide ? 4 : 0) | (prefetch ? 8 : 0));
    config.allow(register, 4, Number(mask & 0xffff_fff0n));
    if (wide) config.allow(register + 4, 4, Number((mask >> 32n) & 0xffff_ffffn));
  }
  return new SriovCapability(pf, at, makeVf);
}
