/*
 * MSI-X: a table of addresses and numbers in a BAR, an entry for each interrupt, and the bits of those that wait.
 */
import type { PciWidth } from '../../bus/function.js';
import { CapId, Msix as Reg } from '../../bus/regs.js';
import type { BarDevice } from '../bar.js';
import type { EmulatedFunction } from '../function.js';

/** What the capability offers, and where its table and its pending bits are. */
export interface MsixOptions {
  readonly vectors: number;
  readonly bar: number;
  readonly table: number;
  /** The BAR of the pending bits; the table's by default. */
  readonly pbaBar?: number;
  readonly pba: number;
  readonly at?: number;
}

const LENGTH = 12;
const PBA_WORD_BYTES = 8;
const PBA_WORD_BITS = 64;

/** The MSI-X capability of a function. */
export class Msix {
  readonly #fn: EmulatedFunction;
  readonly #at: number;
  readonly #table: DataView<ArrayBuffer>;
  readonly #pending: Uint8Array;
  readonly vectors: number;

  /** @param at - where the capability is; the BARs that it names are there already */
  constructor(fn: EmulatedFunction, at: number) {
    this.#fn = fn;
    this.#at = at;
    const { config } = fn;
    this.vectors = (config.get(at + Reg.FLAGS, 2) & Reg.FLAGS_QSIZE) + 1;
    this.#table = new DataView(new ArrayBuffer(this.vectors * Reg.ENTRY_SIZE));
    this.#pending = new Uint8Array(Math.ceil(this.vectors / PBA_WORD_BITS) * PBA_WORD_BYTES);
    config.allow(at + Reg.FLAGS, 2, Reg.FLAGS_ENABLE | Reg.FLAGS_MASKALL);
    config.hook(at, { written: () => this.#sendPending() });
    const table = config.get(at + Reg.TABLE, 4);
    const pba = config.get(at + Reg.PBA, 4);
    fn.bar(table & Reg.BIR_MASK).overlay(table & ~Reg.BIR_MASK, this.#table.byteLength, this.#tableDevice());
    fn.bar(pba & Reg.BIR_MASK).overlay(pba & ~Reg.BIR_MASK, this.#pending.length, this.#pbaDevice());
    fn.onReset(() => this.#reset());
    this.#reset();
    fn.msix = this;
  }

  /** Whether the function interrupts by messages of this kind. */
  get enabled(): boolean {
    return (this.#flags & Reg.FLAGS_ENABLE) !== 0;
  }

  /** Whether an interrupt waits for its mask. */
  pending(vector: number): boolean {
    return (((this.#pending[vector >> 3] ?? 0) >> (vector & 7)) & 1) !== 0;
  }

  /**
   * Sends a message, or notes that it waits for its mask.
   *
   * @throws RangeError - it has no such vector
   */
  fire(vector: number): void {
    if (vector < 0 || vector >= this.vectors) throw new RangeError(`vector ${vector} of ${this.vectors}`);
    if (!this.enabled) return;
    if (this.#masked(vector)) {
      this.#setPending(vector, true);
      return;
    }
    const entry = vector * Reg.ENTRY_SIZE;
    const low = this.#table.getUint32(entry + Reg.ENTRY_LOWER_ADDR, true);
    const high = this.#table.getUint32(entry + Reg.ENTRY_UPPER_ADDR, true);
    const data = this.#table.getUint32(entry + Reg.ENTRY_DATA, true);
    this.#fn.dma.message((BigInt(high) << 32n) | BigInt(low), data);
  }

  get #flags(): number {
    return this.#fn.config.get(this.#at + Reg.FLAGS, 2);
  }

  #masked(vector: number): boolean {
    if ((this.#flags & Reg.FLAGS_MASKALL) !== 0) return true;
    const control = this.#table.getUint32(vector * Reg.ENTRY_SIZE + Reg.ENTRY_VECTOR_CTRL, true);
    return (control & Reg.ENTRY_CTRL_MASKBIT) !== 0;
  }

  #setPending(vector: number, pending: boolean): void {
    const bit = 1 << (vector & 7);
    const byte = this.#pending[vector >> 3] ?? 0;
    this.#pending[vector >> 3] = pending ? byte | bit : byte & ~bit;
  }

  /** A mask has changed: what has waited goes out. */
  #sendPending(): void {
    if (!this.enabled) return;
    for (let vector = 0; vector < this.vectors; vector++) {
      if (!this.pending(vector) || this.#masked(vector)) continue;
      this.#setPending(vector, false);
      this.fire(vector);
    }
  }

  /** Nothing waits, and every entry is masked. */
  #reset(): void {
    this.#pending.fill(0);
    new Uint8Array(this.#table.buffer).fill(0);
    for (let vector = 0; vector < this.vectors; vector++) {
      this.#table.setUint32(vector * Reg.ENTRY_SIZE + Reg.ENTRY_VECTOR_CTRL, Reg.ENTRY_CTRL_MASKBIT, true);
    }
  }

  #tableDevice(): BarDevice {
    const table = this.#table;
    return {
      read: (offset, width) => readView(table, offset, width),
      write: (offset, width, value) => {
        // Entries are of dwords; what is narrower is undefined, and lost here.
        if (width !== 4) return;
        table.setUint32(offset, value, true);
        if (offset % Reg.ENTRY_SIZE === Reg.ENTRY_VECTOR_CTRL) this.#sendPending();
      },
    };
  }

  #pbaDevice(): BarDevice {
    const { buffer, byteOffset, byteLength } = this.#pending;
    const view = new DataView(buffer, byteOffset, byteLength);
    return { read: (offset, width) => readView(view, offset, width), write: () => undefined };
  }
}

/** Gives a function the capability. */
export function addMsix(fn: EmulatedFunction, options: MsixOptions): Msix {
  const { vectors, bar, table, pbaBar = bar, pba, at } = options;
  const offset = fn.capabilities.add(CapId.MSIX, LENGTH, at);
  fn.config.set(offset + Reg.FLAGS, 2, vectors - 1);
  fn.config.set(offset + Reg.TABLE, 4, table | bar);
  fn.config.set(offset + Reg.PBA, 4, pba | pbaBar);
  return new Msix(fn, offset);
}

function readView(view: DataView, offset: number, width: PciWidth): number {
  if (width === 4) return view.getUint32(offset, true);
  return width === 2 ? view.getUint16(offset, true) : view.getUint8(offset);
}
