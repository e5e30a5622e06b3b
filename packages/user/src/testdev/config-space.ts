// Config space of the test device: what can be written at all is a mask beside the bytes.

import { CLASS_CODE, DEVICE_ID, Msix, regionSizes, VENDOR_ID } from './layout.js';
import type { TestRegion } from './memory.js';

/** Registers of the header. */
const At = {
  VENDOR: 0x00,
  DEVICE: 0x02,
  COMMAND: 0x04,
  STATUS: 0x06,
  REVISION_CLASS: 0x08,
  CACHE_LINE: 0x0c,
  BARS: 0x10,
  SUBSYSTEM_VENDOR: 0x2c,
  SUBSYSTEM: 0x2e,
  CAPABILITIES: 0x34,
  INTERRUPT_LINE: 0x3c,
  INTERRUPT_PIN: 0x3d,
  MSIX: 0x40,
} as const;

/** Memory decoding, bus master, INTx off. */
const COMMAND_MASK = 0x0406;
const STATUS_CAPABILITIES = 0x0010;
const PIN_A = 1;
/** Enable, and mask of all vectors. */
const MSIX_CONTROL_MASK = 0xc000;
const MSIX_ID = 0x11;
const msixAt = { control: 2, table: 4, pending: 8 } as const;
const BARS = 6;

/** 256 bytes; decoding is always on, and addresses in BARs are only stored. */
export class TestConfigSpace implements TestRegion {
  readonly size = regionSizes[7] ?? 0;
  readonly #bytes = new Uint8Array(this.size);
  /** Bits that take a write. */
  readonly #mask = new Uint8Array(this.size);

  constructor() {
    this.reset();
    const mask = new DataView(this.#mask.buffer);
    mask.setUint16(At.COMMAND, COMMAND_MASK, true);
    mask.setUint8(At.CACHE_LINE, 0xff);
    mask.setUint8(At.INTERRUPT_LINE, 0xff);
    mask.setUint16(At.MSIX + msixAt.control, MSIX_CONTROL_MASK, true);
    for (let bar = 0; bar < BARS; bar++) {
      const size = regionSizes[bar] ?? 0;
      if (size > 0) mask.setUint32(At.BARS + 4 * bar, -size, true);
    }
  }

  /** All registers are as they were first. */
  reset(): void {
    this.#bytes.fill(0);
    const view = new DataView(this.#bytes.buffer);
    view.setUint16(At.VENDOR, VENDOR_ID, true);
    view.setUint16(At.DEVICE, DEVICE_ID, true);
    view.setUint16(At.STATUS, STATUS_CAPABILITIES, true);
    view.setUint32(At.REVISION_CLASS, CLASS_CODE * 2 ** 8, true);
    view.setUint16(At.SUBSYSTEM_VENDOR, VENDOR_ID, true);
    view.setUint16(At.SUBSYSTEM, DEVICE_ID, true);
    view.setUint8(At.CAPABILITIES, At.MSIX);
    view.setUint8(At.INTERRUPT_PIN, PIN_A);
    view.setUint8(At.MSIX, MSIX_ID);
    view.setUint16(At.MSIX + msixAt.control, Msix.VECTORS - 1, true);
    view.setUint32(At.MSIX + msixAt.table, Msix.TABLE | Msix.BAR, true);
    view.setUint32(At.MSIX + msixAt.pending, Msix.PENDING | Msix.BAR, true);
  }

  read(offset: number, into: Uint8Array): void {
    into.set(this.#bytes.subarray(offset, offset + into.length));
  }

  write(offset: number, from: Uint8Array): void {
    for (const [i, byte] of from.entries()) {
      const mask = this.#mask[offset + i] ?? 0;
      this.#bytes[offset + i] = ((this.#bytes[offset + i] ?? 0) & ~mask) | (byte & mask);
    }
  }
}
