/*
 * MSI: up to 32 interrupts out of one address and the low bits of one number.
 */
import { CapId, Msi as Reg } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

/** What the capability offers. */
export interface MsiOptions {
  /** 1, 2, 4, 8, 16 or 32. */
  readonly vectors: number;
  /** Addresses of 64 bits. */
  readonly wide?: boolean;
  /** Each interrupt can be masked. */
  readonly maskable?: boolean;
  readonly at?: number;
}

const QMASK_SHIFT = 1;
const QSIZE_SHIFT = 4;

/** The MSI capability of a function. */
export class Msi {
  readonly #fn: EmulatedFunction;
  readonly #at: number;
  readonly #wide: boolean;
  /** Offset of the mask register; 0: there is none. */
  readonly #mask: number;

  /** @param at - where the capability is; its flags say what it can do */
  constructor(fn: EmulatedFunction, at: number) {
    this.#fn = fn;
    this.#at = at;
    const flags = fn.config.get(at + Reg.FLAGS, 2);
    this.#wide = (flags & Reg.FLAGS_64BIT) !== 0;
    this.#mask = (flags & Reg.FLAGS_MASKBIT) === 0 ? 0 : at + (this.#wide ? Reg.MASK_64 : Reg.MASK_32);
    this.#allow(1 << ((flags & Reg.FLAGS_QMASK) >> QMASK_SHIFT));
    if (this.#mask !== 0) fn.config.hook(this.#mask, { written: () => this.#sendPending() });
    fn.msi = this;
  }

  /** Whether the function interrupts by messages of this kind. */
  get enabled(): boolean {
    return (this.#flags & Reg.FLAGS_ENABLE) !== 0;
  }

  /** How many messages it may tell apart. */
  get allocated(): number {
    return 1 << ((this.#flags & Reg.FLAGS_QSIZE) >> QSIZE_SHIFT);
  }

  /** Sends a message, or notes that it waits for its mask. Vectors that are not given share those that are. */
  fire(vector: number): void {
    if (!this.enabled) return;
    const { allocated } = this;
    const number = vector & (allocated - 1);
    if (this.#masked(number)) {
      this.#setPending(number, true);
      return;
    }
    const { config } = this.#fn;
    const low = config.get(this.#at + Reg.ADDRESS_LO, 4);
    const high = this.#wide ? config.get(this.#at + Reg.ADDRESS_HI, 4) : 0;
    const data = config.get(this.#at + (this.#wide ? Reg.DATA_64 : Reg.DATA_32), 2);
    this.#fn.dma.message((BigInt(high) << 32n) | BigInt(low), (data & ~(allocated - 1)) | number);
  }

  get #flags(): number {
    return this.#fn.config.get(this.#at + Reg.FLAGS, 2);
  }

  #masked(vector: number): boolean {
    return this.#mask !== 0 && ((this.#fn.config.get(this.#mask, 4) >>> vector) & 1) !== 0;
  }

  #setPending(vector: number, pending: boolean): void {
    const bit = 1 << vector;
    this.#fn.config.putBits(this.#mask + 4, 4, bit, pending ? bit : 0);
  }

  /** The mask has changed: what has waited goes out. */
  #sendPending(): void {
    const { config } = this.#fn;
    const ready = config.get(this.#mask + 4, 4) & ~config.get(this.#mask, 4);
    for (let vector = 0; vector < 32; vector++) {
      if (((ready >>> vector) & 1) === 0) continue;
      this.#setPending(vector, false);
      this.fire(vector);
    }
  }

  #allow(vectors: number): void {
    const { config } = this.#fn;
    const at = this.#at;
    config.allow(at + Reg.FLAGS, 2, Reg.FLAGS_ENABLE | Reg.FLAGS_QSIZE);
    config.allow(at + Reg.ADDRESS_LO, 4, 0xffff_fffc);
    if (this.#wide) config.allow(at + Reg.ADDRESS_HI, 4, 0xffff_ffff);
    config.allow(at + (this.#wide ? Reg.DATA_64 : Reg.DATA_32), 2, 0xffff);
    if (this.#mask !== 0) config.allow(this.#mask, 4, (2 ** vectors - 1) >>> 0);
  }
}

/** Gives a function the capability. */
export function addMsi(fn: EmulatedFunction, { vectors, wide = true, maskable = false, at }: MsiOptions): Msi {
  const length = (wide ? 14 : 10) + (maskable ? 10 : 0);
  const offset = fn.capabilities.add(CapId.MSI, length, at);
  const flags = (Math.log2(vectors) << QMASK_SHIFT) | (wide ? Reg.FLAGS_64BIT : 0) | (maskable ? Reg.FLAGS_MASKBIT : 0);
  fn.config.set(offset + Reg.FLAGS, 2, flags);
  return new Msi(fn, offset);
}
