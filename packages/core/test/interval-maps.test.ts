// The two interval maps, that of type1 and that of an IOAS, beside lists that are searched from end to end.

import { Host } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Dma } from '../src/iommu-type1/dma.js';
import { DmaTree } from '../src/iommu-type1/dma-tree.js';
import { IoptArea } from '../src/iommufd/area.js';
import { AreaTree } from '../src/iommufd/area-tree.js';
import type { IovaRange } from '../src/iommufd/iova-range.js';

const untracked = { release() {} };

/** Adds or removes one interval, then asks about another. */
interface Step<N> {
  readonly add: readonly [first: N, count: N] | undefined;
  /** Which of those there are goes when none is added. */
  readonly remove: number;
  readonly ask: readonly [first: N, count: N];
}

function steps<N>(interval: fc.Arbitrary<readonly [N, N]>): fc.Arbitrary<Step<N>[]> {
  const add = fc.option(interval, { freq: 3, nil: undefined });
  return fc.array(fc.record({ add, remove: fc.nat(63), ask: interval }), { maxLength: 60 });
}

describe('DmaTree', () => {
  const pages = 2 ** 52;
  const interval = fc
    .tuple(
      fc.oneof(
        fc.nat(40),
        fc.nat(40).map((n) => pages - 41 + n),
      ),
      fc.integer({ min: 1, max: 8 }),
    )
    .map(([first, count]) => [first, Math.min(count, pages - first)] as const);

  it('holds what a list holds, and finds what that has in a range: any, the lowest, the next', async () => {
    await using host = new Host({ checked: true });
    const task = host.spawn({ comm: 'user' });
    const make = (page: number, count: number) => {
      const dma = new Dma({ page, vaddr: 0n, prot: 3, task, lockCap: false, tracked: untracked });
      dma.pages = count;
      return dma;
    };
    fc.assert(
      fc.property(steps(interval), (sequence) => {
        const tree = new DmaTree();
        const list: Dma[] = [];
        const within = (first: number, last: number) => list.filter((dma) => dma.page <= last && dma.lastPage >= first);
        for (const { add, remove, ask } of sequence) {
          if (!add) {
            const [gone] = list.length > 0 ? list.splice(remove % list.length, 1) : [];
            if (gone) tree.unlink(gone);
          } else if (within(add[0], add[0] + add[1] - 1).length === 0) {
            const dma = make(...add);
            tree.link(dma);
            list.push(dma);
            list.sort((a, b) => a.page - b.page);
          }
          const [first, last] = [ask[0], ask[0] + ask[1] - 1];
          expect([...tree]).toEqual(list);
          expect(tree.size).toBe(list.length);
          const found = tree.find(first, last);
          expect(found === undefined ? [] : within(first, last)).toEqual(within(first, last));
          if (found) expect(within(first, last)).toContain(found);
          expect(tree.first(first, last)).toBe(within(first, last)[0]);
          // twice: the second answer comes from what the first one left
          for (const page of [first, first, last]) expect(tree.at(page)).toBe(within(page, page)[0]);
          for (const [at, dma] of list.entries()) expect(tree.next(dma)).toBe(list[at + 1]);
        }
      }),
      { numRuns: 300 },
    );
    await task.exit(0);
  });
});

describe('AreaTree', () => {
  const top = 2n ** 64n - 1n;
  const interval = fc
    .tuple(
      fc.oneof(
        fc.nat(40),
        fc.nat(40).map((n) => n - 41),
      ),
      fc.integer({ min: 1, max: 12 }),
    )
    .map(([at, count]) => {
      const first = at < 0 ? top + 1n + BigInt(at) : BigInt(at);
      return [first, first + BigInt(count) - 1n > top ? top - first + 1n : BigInt(count)] as const;
    });

  function holes(list: readonly IoptArea[]): IovaRange[] {
    const found: IovaRange[] = [];
    let from = 0n;
    for (const { start, last } of list) {
      if (start > from) found.push({ start: from, last: start - 1n });
      from = last + 1n;
    }
    if (from <= top) found.push({ start: from, last: top });
    return found;
  }

  it('holds what a list holds, and finds the lowest area in a range and the lowest room for some bytes', () => {
    fc.assert(
      fc.property(steps(interval), fc.boolean(), (sequence, askEarly) => {
        const tree = new AreaTree();
        const list: IoptArea[] = [];
        const first = (start: bigint, last: bigint) => list.find((area) => area.start <= last && area.last >= start);
        const lowest = (start: bigint, last: bigint, length: bigint) => {
          // the lowest place for so many bytes in a hole, within the range
          const fit = (hole: IovaRange) => {
            const from = hole.start > start ? hole.start : start;
            const to = hole.last < last ? hole.last : last;
            return from <= to && to - from >= length - 1n ? from : undefined;
          };
          const places = holes(list)
            .map(fit)
            .filter((place) => place !== undefined);
          return { found: tree.lowestFit(start, last, length, fit), expected: places[0] };
        };
        // the holes are counted from the first question on: before there are areas, or when there are some
        if (askEarly) lowest(0n, top, 1n);
        for (const { add, remove, ask } of sequence) {
          if (!add) {
            const [gone] = list.length > 0 ? list.splice(remove % list.length, 1) : [];
            if (gone) tree.remove(gone);
          } else if (!first(add[0], add[0] + add[1] - 1n)) {
            const [start, length] = add;
            const area = new IoptArea({ start, last: start + length - 1n, startByte: 0n, prot: 3, tracked: untracked });
            tree.insert(area);
            list.push(area);
            list.sort((a, b) => (a.start < b.start ? -1 : 1));
          }
          const [start, length] = ask;
          expect([...tree]).toEqual(list);
          expect(tree.size).toBe(list.length);
          expect(tree.first(start, start + length - 1n)).toBe(first(start, start + length - 1n));
          for (const last of [start + 20n > top ? top : start + 20n, top]) {
            const { found, expected } = lowest(start, last, length);
            expect(found).toBe(expected);
          }
        }
      }),
      { numRuns: 300 },
    );
  });
});
