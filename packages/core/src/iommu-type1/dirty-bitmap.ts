/**
 * One bit for each page of a mapping, bit k in byte k / 8, so that it can be copied to a little-endian user as it is.
 * 64 GiB in pages of 4 KiB are 2 MiB: ranges are filled, and shifts done, bytes at a time.
 */
import { VfioError } from '../errors.js';

/** Bytes of the bitmap of `pages` pages: whole 64-bit words. Source: drivers/vfio/vfio_iommu_type1.c DIRTY_BITMAP_BYTES() */
export function dirtyBitmapBytes(pages: number): number {
  return Math.ceil(pages / 64) * 8;
}

/** Most pages that one bitmap may stand for. Source: drivers/vfio/vfio_iommu_type1.c DIRTY_BITMAP_PAGES_MAX */
export const DIRTY_BITMAP_PAGES_MAX = 2 ** 31 - 1;

/** Bytes of the largest bitmap. Source: drivers/vfio/vfio_iommu_type1.c DIRTY_BITMAP_SIZE_MAX */
export const DIRTY_BITMAP_SIZE_MAX = dirtyBitmapBytes(DIRTY_BITMAP_PAGES_MAX);

/** The dirty pages of a mapping. */
export class DirtyBitmap {
  /** Pages that the bitmap stands for. */
  readonly pages: number;
  readonly #bytes: Uint8Array;

  /** @throws ENOMEM - this process has no room for it */
  constructor(pages: number) {
    this.pages = pages;
    this.#bytes = allocate(dirtyBitmapBytes(pages));
  }

  /** Whether page `index` is dirty. */
  has(index: number): boolean {
    return ((this.#bytes[index >>> 3] ?? 0) & (1 << (index & 7))) !== 0;
  }

  /** Marks `count` pages from `index` on. */
  set(index: number, count = 1): void {
    const bytes = this.#bytes;
    const end = index + count;
    const firstWhole = Math.ceil(index / 8);
    const lastWhole = Math.floor(end / 8);
    if (firstWhole > lastWhole) {
      orInto(bytes, lastWhole, bitsFrom(index & 7) & bitsBelow(end & 7));
      return;
    }
    if (index & 7) orInto(bytes, firstWhole - 1, bitsFrom(index & 7));
    bytes.fill(0xff, firstWhole, lastWhole);
    if (end & 7) orInto(bytes, lastWhole, bitsBelow(end & 7));
  }

  /** Marks all pages; the bits past the last one stay 0. */
  setAll(): void {
    this.set(0, this.pages);
  }

  /** Forgets all marks. */
  clear(): void {
    this.#bytes.fill(0);
  }

  /**
   * The bitmap moved up by `shift` bits, in whole 64-bit words, as a copy.
   *
   * @param shift - 0 to 63; that many bits at the start are 0
   */
  shifted(shift: number): Uint8Array {
    const source = this.#bytes;
    const into = allocate(dirtyBitmapBytes(this.pages + shift));
    const skip = shift >>> 3;
    const bits = shift & 7;
    if (bits === 0) {
      into.set(source.subarray(0, into.length - skip), skip);
      return into;
    }
    let carry = 0;
    const end = Math.min(source.length, into.length - skip);
    for (let i = 0; i < end; i++) {
      const byte = source[i] ?? 0;
      into[i + skip] = ((byte << bits) | carry) & 0xff;
      carry = byte >>> (8 - bits);
    }
    if (end + skip < into.length) into[end + skip] = carry;
    return into;
  }

  /**
   * The same marks for another page size.
   *
   * @param pages - pages of the new size in the mapping
   */
  resized(pages: number): DirtyBitmap {
    const result = new DirtyBitmap(pages);
    const scale = pages / this.pages;
    for (let i = 0; i < this.pages; i++) {
      if (this.has(i)) result.set(Math.floor(i * scale), Math.max(1, scale));
    }
    return result;
  }
}

function allocate(bytes: number): Uint8Array {
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw new VfioError('ENOMEM', `no room for ${bytes} bytes of dirty bitmap`, { cause });
  }
}

function bitsFrom(bit: number): number {
  return (0xff << bit) & 0xff;
}

function bitsBelow(bit: number): number {
  return (1 << bit) - 1;
}

function orInto(bytes: Uint8Array, at: number, bits: number): void {
  bytes[at] = (bytes[at] ?? 0) | bits;
}
