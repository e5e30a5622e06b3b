import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { FewMap, FewSet } from '../src/few-map.js';

/** More than stand in the arrays. */
const KEYS = 20;

describe('a map for few', () => {
  it('does what a map does, beyond a few entries too', () => {
    const command = fc.record({ put: fc.boolean(), key: fc.nat(KEYS), value: fc.nat() });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 100 }), (commands) => {
        const map = new FewMap<number, number>();
        const naive = new Map<number, number>();
        for (const { put, key, value } of commands) {
          if (put) {
            expect(map.set(key, value)).toBe(map);
            naive.set(key, value);
          } else expect(map.delete(key)).toBe(naive.delete(key));
          expect([map.size, map.has(key), map.get(key)]).toEqual([naive.size, naive.has(key), naive.get(key)]);
          expect([...map]).toEqual([...naive]);
        }
        expect([map.keys(), map.values()]).toEqual([[...naive.keys()], [...naive.values()]]);
      }),
    );
  });

  it('is walked as it was at first', () => {
    const map = new FewMap<number, number>();
    for (const key of [1, 2, 3]) map.set(key, key);
    const seen: number[] = [];
    for (const [key] of map) {
      seen.push(key);
      map.delete(2);
      map.set(9, 9);
    }
    expect([seen, map.keys()]).toEqual([
      [1, 2, 3],
      [1, 3, 9],
    ]);
  });
});

describe('a set for few', () => {
  it('does what a set does, beyond a few values too', () => {
    const command = fc.record({ put: fc.boolean(), value: fc.nat(KEYS) });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 100 }), (commands) => {
        const set = new FewSet<number>();
        const naive = new Set<number>();
        for (const { put, value } of commands) {
          if (put) {
            set.add(value);
            naive.add(value);
          } else expect(set.delete(value)).toBe(naive.delete(value));
          expect([[...set], set.size, set.has(value)]).toEqual([[...naive], naive.size, naive.has(value)]);
        }
      }),
    );
  });

  it('has each value once, in the order in which they came', () => {
    const set = new FewSet<string>();
    expect(set.add('b').add('a').add('b')).toBe(set);
    expect([[...set], set.size, set.has('a'), set.has('c')]).toEqual([['b', 'a'], 2, true, false]);
    expect([set.delete('b'), set.delete('b'), [...set]]).toEqual([true, false, ['a']]);
  });
});
