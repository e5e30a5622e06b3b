/**
 * What the config spaces of the samples have in common: 255 bytes that are read as they are, and written at the few places
 * that take a write. Nothing in them has an effect: decoding is always on, and addresses in BARs are only stored.
 */
import type { AccessWidth } from './access.js';
import { CONFIG_SPACE_SIZE } from './layout.js';
import { loadLittle } from './little-endian.js';

/** Offsets of registers that every PCI function has. */
export const ConfigOffset = {
  ID: 0x00,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION: 0x08,
  BAR0: 0x10,
  BAR1: 0x14,
  BAR2: 0x18,
  BAR3: 0x1c,
  BAR4: 0x20,
  SUBSYSTEM: 0x2c,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
} as const;

/** What a program writes to a BAR to learn its size. */
export const ALL_ONES = 0xffff_ffff;

/** Config space of a sample. Writes are told apart by the offset of the access as a whole. */
export abstract class SampleConfigSpace {
  protected readonly bytes = new Uint8Array(CONFIG_SPACE_SIZE);
  readonly #view = new DataView(this.bytes.buffer);

  /** Stores what can be stored of a little-endian value; a width below four leaves the upper bytes of a BAR 0. */
  abstract write(offset: number, width: AccessWidth, value: number): void;

  /** The little-endian value of `width` bytes. */
  read(offset: number, width: AccessWidth): number {
    return loadLittle(this.bytes, offset, width); // Differs: what lies past the last byte is foreign memory in C, and 0 here
  }

  protected load32(offset: number): number {
    return this.#view.getUint32(offset, true);
  }

  protected store32(offset: number, value: number): void {
    this.#view.setUint32(offset, value, true);
  }

  protected store16(offset: number, value: number): void {
    this.#view.setUint16(offset, value, true);
  }
}
