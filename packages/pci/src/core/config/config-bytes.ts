/*
 * A table with a byte for each byte of config space, read and written as registers are: little endian, in three widths.
 */
import type { PciWidth } from '../../bus/function.js';

/** Ones, as many as a width has bits. */
export const ONES: Readonly<Record<PciWidth, number>> = { 1: 0xff, 2: 0xffff, 4: 0xffff_ffff };

/** Bytes of config space, or what is known of each of them. */
export class ConfigBytes {
  readonly bytes: Uint8Array;
  readonly #view: DataView;

  /** @param size - bytes; all zero */
  constructor(size: number) {
    this.bytes = new Uint8Array(size);
    this.#view = new DataView(this.bytes.buffer);
  }

  get(offset: number, width: PciWidth): number {
    if (width === 4) return this.#view.getUint32(offset, true);
    return width === 2 ? this.#view.getUint16(offset, true) : this.#view.getUint8(offset);
  }

  /** What does not fit the width is cut off. */
  set(offset: number, width: PciWidth, value: number): void {
    if (width === 4) this.#view.setUint32(offset, value, true);
    else if (width === 2) this.#view.setUint16(offset, value, true);
    else this.#view.setUint8(offset, value);
  }
}
