import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, IdAllocator } from '../src/index.js';

describe('IdAllocator', () => {
  it('agrees with a set under random commands', () => {
    const commands = fc.array(fc.option(fc.nat(150), { freq: 2 }), { maxLength: 300 });
    fc.assert(
      fc.property(fc.nat(3), fc.nat(140), commands, (min, size, list) => {
        const ids = new IdAllocator(createSeams({ checked: true }), 'group', min + size, min);
        const model = new Set<number>();
        for (const freed of list) {
          if (freed === null) {
            let lowest = min;
            while (model.has(lowest)) lowest++;
            if (lowest > min + size) {
              expect(() => ids.alloc()).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
            } else {
              expect(ids.alloc()).toBe(lowest);
              model.add(lowest);
            }
          } else if (model.delete(freed)) {
            ids.free(freed);
          } else {
            expect(() => ids.free(freed)).toThrow(expect.objectContaining({ kind: 'double-free' }));
          }
          expect(ids.used).toBe(model.size);
        }
        for (let n = 0; n < 160; n++) expect(ids.has(n)).toBe(model.has(n));
      }),
    );
  });

  it('fills a range to its end', () => {
    const ids = new IdAllocator(createSeams(), 'minor', 99);
    expect(Array.from({ length: 100 }, () => ids.alloc())).toEqual(Array.from({ length: 100 }, (_, n) => n));
    expect(() => ids.alloc()).toThrow(expect.objectContaining({ code: 'ENOSPC' }));
    ids.free(63);
    expect(ids.alloc()).toBe(63);
  });

  it('can fail for want of memory, and then has taken nothing', () => {
    const seams = createSeams();
    const ids = new IdAllocator(seams, 'minor', 10);
    seams.faults.failOn('ida_alloc:minor');
    expect(() => ids.alloc()).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect([ids.used, ids.alloc()]).toEqual([0, 0]);
  });

  it('warns of a wrong free when unchecked', () => {
    const seams = createSeams({ checked: false });
    const ids = new IdAllocator(seams, 'minor', 10);
    for (const n of [0, -1, 11, 0.5]) ids.free(n);
    expect(seams.log.warnings()).toHaveLength(4);
    expect(ids.used).toBe(0);
  });

  it('refuses what is no range', () => {
    for (const [max, min] of [
      [1, 2],
      [-1, -2],
      [2 ** 31, 0],
      [0.5, 0],
    ] as const) {
      expect(() => new IdAllocator(createSeams(), 'x', max, min)).toThrow(RangeError);
    }
  });
});
