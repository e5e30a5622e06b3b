import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { SmallMap } from '../src/small-map.js';

describe('SmallMap', () => {
  it('is a Map, whatever is put in and taken out', () => {
    const name = fc.integer({ min: 0, max: 15 }).map((n) => `n${n}`);
    const command = fc.oneof(fc.record({ set: name, value: fc.integer() }), fc.record({ delete: name }));
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const small = new SmallMap<number>();
        const model = new Map<string, number>();
        for (const one of commands) {
          if ('set' in one) {
            small.set(one.set, one.value);
            model.set(one.set, one.value);
          } else {
            small.delete(one.delete);
            model.delete(one.delete);
          }
          expect(small.entries()).toEqual([...model]);
          expect(small.size).toBe(model.size);
        }
        for (let n = 0; n < 16; n++) {
          expect(small.get(`n${n}`)).toBe(model.get(`n${n}`));
          expect(small.has(`n${n}`)).toBe(model.has(`n${n}`));
        }
      }),
    );
  });

  it('keeps values that are texts apart from names', () => {
    const small = new SmallMap<string>();
    small.set('a', 'b');
    expect(small.has('b')).toBe(false);
    small.delete('b');
    expect(small.get('a')).toBe('b');
  });
});
