import { describe, expect, it } from 'vitest';
import { anything, count, flag, list, object, oneOf, optional, text } from '../src/shape.js';

const shape = object({
  name: text(8),
  force: flag,
  level: oneOf(['low', 'high']),
  more: optional(list(count, 2)),
  x: anything,
});

describe('object', () => {
  it('takes what fits, and leaves out what is not there', () => {
    const value = { name: 'a', force: true, level: 'low', x: null };
    expect(shape(value, 'args')).toEqual(value);
    expect(Object.keys(shape({ ...value, more: undefined }, 'args'))).not.toContain('more');
    expect(shape({ ...value, more: [1, 2] }, 'args').more).toEqual([1, 2]);
  });

  it.each([
    [{ name: 'too long a name', force: true, level: 'low' }, 'args.name has 15 characters, 8 at most'],
    [{ name: 'a', force: 1, level: 'low' }, 'args.force is neither true nor false'],
    [{ name: 'a', force: true, level: 'mid' }, 'args.level is none of low, high'],
    [{ name: 'a', force: true, level: 'low', more: [1, 2, 3] }, 'args.more has 3 elements, 2 at most'],
    [{ name: 'a', force: true, level: 'low', more: [1, -2] }, 'args.more[1] is no whole number'],
    [{ name: 'a', force: true, level: 'low', other: 1 }, 'args.other is not known'],
    ['text', 'args is no object'],
    [[], 'args is no object'],
  ])('refuses %j', (value, why) => {
    expect(() => shape(value, 'args')).toThrow(why);
  });
});
