/** What the guest sees of the device beyond its memory: BAR2, with the EDID blob and the display interface. */
import type { AccessWidth } from '../common/access.js';
import { DISPI_REGISTERS, type Dispi } from './dispi.js';
import { EDID_MAX_SIZE, type Edid } from './edid.js';

/** Bytes of BAR2. */
export const MMIO_SIZE = 0x1000;
/** Where the registers of the display interface begin. */
export const DISPI_OFFSET = 0x500;
const DISPI_END = DISPI_OFFSET + 2 * DISPI_REGISTERS;

/**
 * The registers in BAR2. The ports of a VGA adapter, from 0x400 on, and QEMU's own registers, from 0x600 on, are absent: zero,
 * and deaf.
 */
export class Mmio {
  readonly #edid: Edid;
  readonly #dispi: Dispi;

  constructor(edid: Edid, dispi: Dispi) {
    this.#edid = edid;
    this.#dispi = dispi;
  }

  /** Source: samples/vfio-mdev/mbochs.c handle_mmio_read() */
  read(offset: number, width: AccessWidth): number {
    if (offset < EDID_MAX_SIZE) return this.#edid.readByGuest(offset, width);
    return isDispi(offset, width) ? this.#dispi.read((offset - DISPI_OFFSET) / 2) : 0;
  }

  /** Source: samples/vfio-mdev/mbochs.c handle_mmio_write() */
  write(offset: number, width: AccessWidth, value: number): void {
    if (isDispi(offset, width)) this.#dispi.write((offset - DISPI_OFFSET) / 2, value);
  }
}

/** A register of the display interface answers only to an access of its own width. */
function isDispi(offset: number, width: AccessWidth): boolean {
  return width === 2 && offset >= DISPI_OFFSET && offset < DISPI_END;
}
