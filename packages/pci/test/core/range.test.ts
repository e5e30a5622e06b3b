import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { rangeIntersectRange } from '../../src/core/range.js';

/** Byte by byte. */
function naively(start: number, count: number, register: number, size: number) {
  const shared = Array.from({ length: count }, (_, at) => start + at).filter(
    (byte) => byte >= register && byte < register + size,
  );
  const first = shared[0];
  if (first === undefined) return undefined;
  return { bufferOffset: first - start, count: shared.length, registerOffset: first - register };
}

describe('rangeIntersectRange', () => {
  it('is what looking at each byte says', () => {
    const small = fc.nat({ max: 24 });
    const length = fc.integer({ min: 1, max: 12 });
    fc.assert(
      fc.property(small, length, small, length, (start, count, register, size) => {
        expect(rangeIntersectRange(start, count, register, size)).toEqual(naively(start, count, register, size));
      }),
      { numRuns: 2000 },
    );
  });
});
