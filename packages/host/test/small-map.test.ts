import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SmallMap, SmallSet } from '../src/small-map.js';

/** More than stand in the arrays. */
const KEYS = 15;

describe('SmallMap', () => {
  it.each([
    ['names', (n: number): unknown => `n${n}`],
    ['numbers', (n: number): unknown => n],
  ])('is a Map, whatever is put in and taken out (by %s)', (_, keyOf) => {
    const key = fc.nat(KEYS).map(keyOf);
    const command = fc.oneof(fc.record({ set: key, value: fc.integer() }), fc.record({ delete: key }));
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const small = new SmallMap<unknown, number>();
        const model = new Map<unknown, number>();
        for (const one of commands) {
          if ('set' in one) {
            expect(small.set(one.set, one.value)).toBe(small);
            model.set(one.set, one.value);
          } else expect(small.delete(one.delete)).toBe(model.delete(one.delete));
          expect(small.entries()).toEqual([...model]);
          expect(small.size).toBe(model.size);
        }
        expect([small.keys(), small.values()]).toEqual([[...model.keys()], [...model.values()]]);
        for (let n = 0; n <= KEYS; n++) {
          expect(small.get(keyOf(n))).toBe(model.get(keyOf(n)));
          expect(small.has(keyOf(n))).toBe(model.has(keyOf(n)));
        }
      }),
    );
  });

  it('keeps values that are texts apart from keys', () => {
    const small = new SmallMap<string, string>();
    small.set('a', 'b');
    expect(small.has('b')).toBe(false);
    small.delete('b');
    expect(small.get('a')).toBe('b');
  });

  it('is walked as it was at first', () => {
    const map = new SmallMap<number, number>();
    for (const key of [1, 2, 3]) map.set(key, key);
    const seen: number[] = [];
    for (const key of map.keys()) {
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

describe('SmallSet', () => {
  it('is a Set, whatever is put in and taken out', () => {
    const command = fc.record({ put: fc.boolean(), value: fc.nat(KEYS) });
    fc.assert(
      fc.property(fc.array(command, { maxLength: 100 }), (commands) => {
        const set = new SmallSet<number>();
        const naive = new Set<number>();
        for (const { put, value } of commands) {
          if (put) {
            expect(set.add(value)).toBe(set);
            naive.add(value);
          } else expect(set.delete(value)).toBe(naive.delete(value));
          expect([[...set], set.size, set.has(value)]).toEqual([[...naive], naive.size, naive.has(value)]);
        }
      }),
    );
  });

  it('has each value once, in the order in which they came', () => {
    const set = new SmallSet<string>();
    expect(set.add('b').add('a').add('b')).toBe(set);
    expect([[...set], set.size, set.has('a'), set.has('c')]).toEqual([['b', 'a'], 2, true, false]);
    expect([set.delete('b'), set.delete('b'), [...set]]).toEqual([true, false, ['a']]);
  });
});
