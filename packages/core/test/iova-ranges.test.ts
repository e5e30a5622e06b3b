import { createSeams, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { combineIovaRanges } from '../src/iova-ranges.js';

interface Range {
  iova: bigint;
  length: bigint;
}

function log() {
  return createSeams({ clock: new VirtualClock(), checked: true }).log;
}

function range(iova: number, last: number): Range {
  return { iova: BigInt(iova), length: BigInt(last - iova + 1) };
}

/** Joins one pair at a time: the first of those with the smallest gap. */
function naive(ranges: readonly Range[], required: number): Range[] {
  const left = [...ranges].sort((a, b) => Number(a.iova - b.iova));
  while (left.length > Math.max(required, 1)) {
    let best = 0;
    const gap = (i: number) => left[i + 1]!.iova - (left[i]!.iova + left[i]!.length);
    for (let i = 1; i < left.length - 1; i++) if (gap(i) < gap(best)) best = i;
    const [first, second] = [left[best]!, left[best + 1]!];
    left.splice(best, 2, { iova: first.iova, length: second.iova + second.length - first.iova });
  }
  return left;
}

/** Disjoint ranges in random order, some of them adjacent. */
const disjoint: fc.Arbitrary<Range[]> = fc
  .array(fc.tuple(fc.integer({ min: 0, max: 5 }), fc.integer({ min: 1, max: 9 })), { maxLength: 40 })
  .chain((pieces) => {
    let at = 0n;
    const ranges = pieces.map(([gap, length]) => {
      const iova = at + BigInt(gap);
      at = iova + BigInt(length);
      return { iova, length: BigInt(length) };
    });
    return fc.shuffledSubarray(ranges, { minLength: ranges.length });
  });

describe('combineIovaRanges', () => {
  it('CORE-155 spans first to last when one range is required', () => {
    const ranges = [range(0x9000, 0x9fff), range(0x1000, 0x1fff), range(0x4000, 0x4fff)];
    expect(combineIovaRanges(ranges, 1, log())).toEqual([range(0x1000, 0x9fff)]);
  });

  it('CORE-155 joins across the smallest gaps first, the lower of equal ones', () => {
    const ranges = [range(0, 9), range(20, 29), range(35, 39), range(45, 49), range(100, 109)];
    expect(combineIovaRanges(ranges, 4, log())).toEqual([range(0, 9), range(20, 39), range(45, 49), range(100, 109)]);
    expect(combineIovaRanges(ranges, 3, log())).toEqual([range(0, 9), range(20, 49), range(100, 109)]);
    expect(combineIovaRanges(ranges, 2, log())).toEqual([range(0, 49), range(100, 109)]);
  });

  it('leaves ranges alone that are few enough', () => {
    const ranges = [range(20, 29), range(0, 9)];
    expect(combineIovaRanges(ranges, 2, log())).toEqual([range(0, 9), range(20, 29)]);
    expect(combineIovaRanges(ranges, 5, log())).toEqual([range(0, 9), range(20, 29)]);
  });

  it('reaches to the end of the address space', () => {
    const top = { iova: (1n << 64n) - 4096n, length: 4096n };
    expect(combineIovaRanges([top, range(0, 4095)], 1, log())).toEqual([{ iova: 0n, length: 1n << 64n }]);
  });

  it('warns once about what can not be done: no ranges, none required', () => {
    const own = log();
    expect(combineIovaRanges([], 1, own)).toEqual([]);
    expect(combineIovaRanges([range(0, 9), range(20, 29)], 0, own)).toEqual([range(0, 29)]);
    expect(own.warnings()).toHaveLength(1);
    expect(combineIovaRanges([], 2, log())).toEqual([]);
  });

  it('does not touch what it is given', () => {
    const ranges = Object.freeze([Object.freeze(range(20, 29)), Object.freeze(range(0, 9))]);
    expect(combineIovaRanges(ranges, 1, log())).toEqual([range(0, 29)]);
  });

  it('CORE-155 agrees with joining one pair at a time', () => {
    fc.assert(
      fc.property(disjoint, fc.integer({ min: 1, max: 20 }), (ranges, required) => {
        const combined = combineIovaRanges(ranges, required, log());
        expect(combined).toEqual(naive(ranges, required));
        for (const { iova, length } of ranges) {
          expect(combined.some((c) => c.iova <= iova && iova + length <= c.iova + c.length)).toBe(true);
        }
      }),
      { numRuns: 300 },
    );
  });
});
