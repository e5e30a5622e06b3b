/*
 * Config space as a file of registers. Each bit is one of four kinds: it keeps what is written, it is cleared by a one, it reads
 * as something else decides, or it never changes. A register that does more than that has a hook.
 */
import type { PciWidth } from '../bus/function.js';

/** What a register does besides keeping bits. Registers are dwords; offsets are those of their first byte. */
export interface ConfigHook {
  /** Before it is read: `put` what it says now. */
  read?(): void;
  /**
   * After its bits have been written.
   *
   * @param before - the dword until then
   * @param lanes - ones in the bytes that the cycle has written
   * @param written - what was on the bus, zero in other bytes
   */
  written?(before: number, lanes: number, written: number): void;
}

const ONES: Readonly<Record<PciWidth, number>> = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff };

/** The registers of one function. */
export class ConfigSpace {
  /** Bytes. */
  readonly size: number;
  readonly #bytes: Uint8Array;
  /** What reset brings back. */
  readonly #initial: Uint8Array;
  readonly #writable: Uint8Array;
  readonly #clearable: Uint8Array;
  readonly #sticky: Uint8Array;
  /** By dword: whether it has hooks. Most have none, and cycles are many. */
  readonly #hooked: Uint8Array;
  readonly #hooks = new Map<number, ConfigHook[]>();

  /** @param size - bytes: 256 or 4096 */
  constructor(size: number) {
    this.size = size;
    this.#bytes = new Uint8Array(size);
    this.#initial = new Uint8Array(size);
    this.#writable = new Uint8Array(size);
    this.#clearable = new Uint8Array(size);
    this.#sticky = new Uint8Array(size);
    this.#hooked = new Uint8Array(size >> 2);
  }

  /** One configuration read. All ones behind the end. */
  read(offset: number, width: PciWidth): number {
    if (offset + width > this.size) return ONES[width];
    if (this.#hooked[offset >> 2] !== 0) {
      for (const { read } of this.#hooks.get(offset >> 2) ?? []) read?.();
    }
    return this.get(offset, width);
  }

  /** One configuration write. Lost behind the end. */
  write(offset: number, width: PciWidth, value: number): void {
    if (offset + width > this.size) return;
    const dword = offset >> 2;
    const hooked = this.#hooked[dword] !== 0;
    const before = hooked ? this.get(dword << 2, 4) : 0;
    for (let byte = 0; byte < width; byte++) this.#writeByte(offset + byte, (value >>> (8 * byte)) & 0xff);
    if (!hooked) return;
    const shift = 8 * (offset & 3);
    const lanes = (ONES[width] << shift) >>> 0;
    const written = ((value & ONES[width]) << shift) >>> 0;
    for (const hook of this.#hooks.get(dword) ?? []) hook.written?.(before, lanes, written);
  }

  /** What a register has, without a cycle. */
  get(offset: number, width: PciWidth): number {
    const bytes = this.#bytes;
    const low = bytes[offset] ?? 0;
    if (width === 1) return low;
    const word = low | ((bytes[offset + 1] ?? 0) << 8);
    if (width === 2) return word;
    return (word | ((bytes[offset + 2] ?? 0) << 16) | ((bytes[offset + 3] ?? 0) << 24)) >>> 0;
  }

  /** What a register has from its beginning, and gets back on reset. */
  set(offset: number, width: PciWidth, value: number): void {
    this.put(offset, width, value);
    store(this.#initial, offset, width, value);
  }

  /** The hardware changes a register. */
  put(offset: number, width: PciWidth, value: number): void {
    store(this.#bytes, offset, width, value);
  }

  /** The hardware changes bits of a register. */
  putBits(offset: number, width: PciWidth, mask: number, value: number): void {
    this.put(offset, width, (this.get(offset, width) & ~mask) | (value & mask));
  }

  /** Which bits of a register keep what is written; the others do not. */
  allow(offset: number, width: PciWidth, mask: number): void {
    store(this.#writable, offset, width, mask);
  }

  /** Which bits keep what is written. */
  writable(offset: number, width: PciWidth): number {
    return load(this.#writable, offset, width);
  }

  /** Which bits of a register are cleared by a one. They do not keep what is written. */
  clearOnOne(offset: number, width: PciWidth, mask: number): void {
    store(this.#clearable, offset, width, mask);
    this.allow(offset, width, this.writable(offset, width) & ~mask);
  }

  /** Which bits are cleared by a one. */
  clearable(offset: number, width: PciWidth): number {
    return load(this.#clearable, offset, width);
  }

  /** Which bits of a register survive a reset. */
  keep(offset: number, width: PciWidth, mask: number): void {
    store(this.#sticky, offset, width, mask);
  }

  /** Adds what a register does. Several hooks of one are called in the order in which they came. */
  hook(offset: number, hook: ConfigHook): void {
    const dword = offset >> 2;
    const hooks = this.#hooks.get(dword) ?? [];
    hooks.push(hook);
    this.#hooks.set(dword, hooks);
    this.#hooked[dword] = 1;
  }

  /** Everything is as it was in the beginning, but for what survives. No hook is called. */
  reset(): void {
    for (let at = 0; at < this.size; at++) {
      const sticky = this.#sticky[at] ?? 0;
      this.#bytes[at] = ((this.#bytes[at] ?? 0) & sticky) | ((this.#initial[at] ?? 0) & ~sticky);
    }
  }

  /** A copy of what is there now. */
  snapshot(): Uint8Array {
    return this.#bytes.slice();
  }

  #writeByte(at: number, value: number): void {
    const writable = this.#writable[at] ?? 0;
    const cleared = value & (this.#clearable[at] ?? 0);
    this.#bytes[at] = (((this.#bytes[at] ?? 0) & ~writable) | (value & writable)) & ~cleared;
  }
}

function load(bytes: Uint8Array, offset: number, width: PciWidth): number {
  let value = 0;
  for (let byte = 0; byte < width; byte++) value |= (bytes[offset + byte] ?? 0) << (8 * byte);
  return value >>> 0;
}

function store(bytes: Uint8Array, offset: number, width: PciWidth, value: number): void {
  for (let byte = 0; byte < width; byte++) bytes[offset + byte] = value >>> (8 * byte);
}
