import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DIRTY_BITMAP_SIZE_MAX, DirtyBitmap, dirtyBitmapBytes } from '../../src/iommu-type1/dirty-bitmap.js';

/** The bits of a little-endian bitmap, as numbers of those that are set. */
function bitsOf(bytes: Uint8Array): number[] {
  const bits: number[] = [];
  for (const [at, byte] of bytes.entries()) {
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) bits.push(at * 8 + bit);
  }
  return bits;
}

const pages = fc.integer({ min: 1, max: 300 });

describe('DirtyBitmap', () => {
  it('holds exactly the pages that were set, like a set of numbers', () => {
    const runs = fc.array(fc.record({ at: fc.nat(299), count: fc.integer({ min: 1, max: 300 }) }), { maxLength: 6 });
    fc.assert(
      fc.property(pages, runs, (size, marks) => {
        const bitmap = new DirtyBitmap(size);
        const model = new Set<number>();
        for (const mark of marks) {
          const at = mark.at % size;
          const count = Math.min(mark.count, size - at);
          bitmap.set(at, count);
          for (let page = at; page < at + count; page++) model.add(page);
        }
        const expected = [...model].sort((a, b) => a - b);
        expect(bitsOf(bitmap.shifted(0))).toEqual(expected);
        for (let page = 0; page < size; page++) expect(bitmap.has(page)).toBe(model.has(page));
      }),
    );
  });

  it('moves up by any shift, in whole words, with nothing lost and nothing added', () => {
    fc.assert(
      fc.property(pages, fc.uniqueArray(fc.nat(299)), fc.nat(63), (size, marks, shift) => {
        const bitmap = new DirtyBitmap(size);
        const model = marks.filter((page) => page < size).sort((a, b) => a - b);
        for (const page of model) bitmap.set(page);
        const moved = bitmap.shifted(shift);
        expect(moved.length).toBe(dirtyBitmapBytes(size + shift));
        expect(bitsOf(moved)).toEqual(model.map((page) => page + shift));
      }),
    );
  });

  it('sets all pages and no bit past the last one', () => {
    const bitmap = new DirtyBitmap(67);
    bitmap.setAll();
    expect(bitsOf(bitmap.shifted(0))).toEqual(Array.from({ length: 67 }, (_, page) => page));
    bitmap.clear();
    expect(bitsOf(bitmap.shifted(0))).toEqual([]);
  });

  it('keeps its marks when the page size changes, rounded to whole pages', () => {
    const small = new DirtyBitmap(64);
    small.set(5);
    small.set(33);
    const large = small.resized(4);
    expect(bitsOf(large.shifted(0))).toEqual([0, 2]);
    expect(bitsOf(large.resized(8).shifted(0))).toEqual([0, 1, 4, 5]);
  });

  it('stands for 64 GiB in pages of 4 KiB', () => {
    const pages = 2 ** 24;
    const bitmap = new DirtyBitmap(pages);
    bitmap.set(1, pages - 2);
    const moved = bitmap.shifted(3);
    expect(moved.length).toBe(2 ** 21 + 8);
    expect([moved[0], moved[1], moved[2 ** 21 - 1], moved[2 ** 21]]).toEqual([0xf0, 0xff, 0xff, 0x03]);
  });

  it('CORE-176 is 8 bytes for each 64 pages begun, 2^28 at most', () => {
    expect([0, 1, 63, 64, 65, 128, 129].map(dirtyBitmapBytes)).toEqual([0, 8, 8, 8, 16, 16, 24]);
    expect(DIRTY_BITMAP_SIZE_MAX).toBe(2 ** 28);
  });
});
