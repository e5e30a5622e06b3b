import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RadixIndex } from '../src/radix-index.js';

/** Keys that meet in the same leaf, in the same node, at both ends of a word, and nowhere but at the root. */
const key = fc.oneof(
  fc.nat(200),
  fc.nat(10_000),
  fc.constantFrom(0, 31, 32, 33, 63, 64, 4095, 4096, 2 ** 30 - 1, 2 ** 30, 2 ** 36 - 1, 2 ** 52, 2 ** 53 - 1),
  fc.maxSafeNat(),
);
const command = fc.oneof(
  { weight: 3, arbitrary: fc.record({ op: fc.constant('set' as const), key, value: fc.integer({ min: 1 }) }) },
  { weight: 2, arbitrary: fc.record({ op: fc.constant('delete' as const), key, value: fc.constant(0) }) },
);

function nearest(map: Map<number, number>, key: number, below: boolean): number {
  const keys = [...map.keys()].filter((other) => (below ? other <= key : other >= key));
  if (keys.length === 0) return -1;
  return below ? Math.max(...keys) : Math.min(...keys);
}

describe('an index', () => {
  it('agrees with a map that is searched from end to end', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), fc.array(key, { maxLength: 10 }), (commands, others) => {
        const index = new RadixIndex();
        const map = new Map<number, number>();
        for (const { op, key, value } of commands) {
          if (op === 'set') {
            index.set(key, value);
            map.set(key, value);
          } else {
            index.delete(key);
            map.delete(key);
          }
          expect(index.size).toBe(map.size);
        }
        const asked = [...others, ...commands.map((command) => command.key)];
        for (const at of asked.flatMap((key) => [
          Math.max(key - 1, 0),
          key,
          Math.min(key + 1, Number.MAX_SAFE_INTEGER),
        ])) {
          expect(index.get(at)).toBe(map.get(at) ?? 0);
          expect(index.floor(at)).toBe(nearest(map, at, true));
          expect(index.ceil(at)).toBe(nearest(map, at, false));
        }
        for (const at of map.keys()) index.delete(at);
        expect([index.size, index.floor(Number.MAX_SAFE_INTEGER), index.ceil(0)]).toEqual([0, -1, -1]);
      }),
      { numRuns: 500 },
    );
  });

  it('has nothing below 0', () => {
    const index = new RadixIndex();
    index.set(0, 5);
    expect(index.floor(-1)).toBe(-1);
    expect(index.ceil(-1)).toBe(0);
  });

  it('keeps values of 53 bits and below 0', () => {
    const index = new RadixIndex();
    index.set(7, Number.MAX_SAFE_INTEGER);
    index.set(8, -3);
    expect([index.get(7), index.get(8)]).toEqual([Number.MAX_SAFE_INTEGER, -3]);
  });

  it('can be emptied, at once or key by key, and filled again', () => {
    const index = new RadixIndex();
    const count = 20_000;
    for (let round = 0; round < 3; round++) {
      for (let i = 0; i < count; i++) index.set(i * 37, i + 1);
      expect(index.size).toBe(count);
      expect(index.floor(37 * 100 + 36)).toBe(3700);
      if (round === 0) index.clear();
      else for (let i = 0; i < count; i++) index.delete(i * 37);
      expect([index.size, index.floor(count * 37), index.ceil(0)]).toEqual([0, -1, -1]);
    }
  });
});
