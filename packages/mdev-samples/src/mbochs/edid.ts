/**
 * The description of the monitor (EDID), which the VMM writes and the guest reads. A region of its own has registers that
 * the VMM sets and a place for the blob; the guest finds the blob in the registers of the device while the link is up.
 */
import { GfxLinkState, regionGfxEdid } from '@vfio/core';
import type { AccessWidth } from '../common/access.js';
import { loadLittle, storeLittle } from '../common/little-endian.js';

/** Bytes of the region. */
export const EDID_REGION_SIZE = 0x1000;
/** Where the blob is in its region. */
const BLOB_OFFSET = 0x800;
/** Bytes that a blob may have, and that the guest sees of it. */
export const EDID_MAX_SIZE = 0x400;

const EDID_SIZE = regionGfxEdid.offsetOf('edidSize');
const LINK_STATE = regionGfxEdid.offsetOf('linkState');

/** What the VMM told about the monitor. */
export class Edid {
  readonly #registers: Uint8Array;
  readonly #blob = new Uint8Array(EDID_MAX_SIZE);

  /**
   * @param maxXres - pixels, 0 for no limit
   * @param maxYres - pixels, 0 for no limit
   */
  constructor(maxXres: number, maxYres: number) {
    this.#registers = regionGfxEdid.encode(
      { edidOffset: BLOB_OFFSET, edidMaxSize: EDID_MAX_SIZE, maxXres, maxYres }, // the link is neither up nor down
      'little',
    );
  }

  /**
   * What the guest finds at an offset below `EDID_MAX_SIZE`: zeros, unless the link is up and the blob goes that far.
   *
   * @source samples/vfio-mdev/mbochs.c handle_mmio_read()
   */
  readByGuest(offset: number, width: AccessWidth): number {
    const up = loadLittle(this.#registers, LINK_STATE, 4) === GfxLinkState.UP;
    return up && offset < loadLittle(this.#registers, EDID_SIZE, 4) ? loadLittle(this.#blob, offset, width) : 0;
  }

  /**
   * Reads in the region.
   *
   * @source samples/vfio-mdev/mbochs.c handle_edid_regs(), handle_edid_blob()
   */
  read(offset: number, width: AccessWidth): number {
    // Differs: where nothing is read, C returns what happens to be on its stack, and this 0
    if (offset >= BLOB_OFFSET) return loadLittle(this.#blob, offset - BLOB_OFFSET, width);
    return width === 4 ? loadLittle(this.#registers, offset, width) : 0;
  }

  /** Writes in the region: two registers of four bytes, and the blob; everything else is lost. */
  write(offset: number, width: AccessWidth, value: number): void {
    if (offset >= BLOB_OFFSET) storeLittle(this.#blob, offset - BLOB_OFFSET, width, value);
    else if (width === 4 && (offset === EDID_SIZE || offset === LINK_STATE)) {
      storeLittle(this.#registers, offset, width, value); // any value: nobody checks it
    }
  }
}
