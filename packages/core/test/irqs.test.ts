import { describe, expect, it } from 'vitest';
import { setIrqsValidateAndPrepare } from '../src/irqs.js';
import { type IrqSet, IrqSetFlag } from '../src/uapi/vfio.js';

const { DATA_NONE, DATA_BOOL, DATA_EVENTFD, ACTION_TRIGGER, ACTION_MASK } = IrqSetFlag;
const EINVAL = expect.objectContaining({ code: 'EINVAL' });

function header(changes: Partial<IrqSet>): IrqSet {
  return { argsz: 20, flags: DATA_NONE | ACTION_TRIGGER, index: 0, start: 0, count: 1, ...changes };
}

/** An index of 8 interrupts, of 5 indices. */
function validate(changes: Partial<IrqSet>, numIrqs = 8): number {
  return setIrqsValidateAndPrepare(header(changes), numIrqs, 5);
}

describe('setIrqsValidateAndPrepare', () => {
  it('answers with the bytes of data for each kind', () => {
    expect(validate({})).toBe(0);
    expect(validate({ flags: DATA_BOOL | ACTION_MASK, count: 3, argsz: 23 })).toBe(3);
    expect(validate({ flags: DATA_EVENTFD | ACTION_TRIGGER, start: 2, count: 6, argsz: 100 })).toBe(24);
    expect(validate({ flags: DATA_EVENTFD | ACTION_TRIGGER, count: 0 })).toBe(0);
  });

  it('CORE-124 refuses a short head, an index too big and an unknown flag', () => {
    // as short as that it has no room for the data either, not even for none: the reason tells the checks apart
    const message = expect.stringContaining('argsz is 19, 20 are needed');
    expect(() => validate({ argsz: 19 })).toThrow(expect.objectContaining({ code: 'EINVAL', message }));
    expect(() => validate({ index: 5 })).toThrow(EINVAL);
    expect(() => validate({ flags: DATA_NONE | 0x40 })).toThrow(EINVAL);
    expect(() => validate({ flags: (DATA_NONE | 0x8000_0000) >>> 0 })).toThrow(EINVAL);
    expect(validate({ index: 4 })).toBe(0);
  });

  it('CORE-124 wants exactly one kind of data, and leaves the action bits to the driver', () => {
    expect(() => validate({ flags: ACTION_TRIGGER })).toThrow(EINVAL);
    expect(() => validate({ flags: DATA_NONE | DATA_BOOL | ACTION_TRIGGER, argsz: 100 })).toThrow(EINVAL);
    expect(() => validate({ flags: DATA_BOOL | DATA_EVENTFD | ACTION_TRIGGER, argsz: 100 })).toThrow(EINVAL);
    expect(validate({ flags: DATA_NONE | ACTION_MASK | ACTION_TRIGGER })).toBe(0);
    expect(validate({ flags: DATA_NONE })).toBe(0);
  });

  it('CORE-125 refuses a start past the end even with count 0, and a range past the end', () => {
    expect(() => validate({ start: 8, count: 0 })).toThrow(EINVAL);
    expect(() => validate({ start: 7, count: 2 })).toThrow(EINVAL);
    expect(() => validate({ start: 0, count: 0 }, 0)).toThrow(EINVAL);
    expect(validate({ start: 7, count: 1 })).toBe(0);
    expect(validate({ start: 7, count: 0 })).toBe(0);
  });

  it('CORE-125 refuses counts near 2^32 without wrapping', () => {
    for (const count of [0xffff_fffb, 0xffff_fffc, 0xffff_ffff]) {
      expect(() => validate({ start: 4, count })).toThrow(EINVAL);
      expect(() => validate({ start: 4, count }, 2 ** 31 - 1)).toThrow(EINVAL);
    }
    // the sum may not even reach 2^32 - 1, whatever the index holds
    expect(() => validate({ start: 4, count: 0xffff_fffb }, 2 ** 33)).toThrow(EINVAL);
    expect(validate({ start: 4, count: 0xffff_fffa }, 2 ** 33)).toBe(0);
  });

  it('CORE-126 refuses an argsz without room for all elements', () => {
    expect(() => validate({ flags: DATA_BOOL | ACTION_TRIGGER, count: 3, argsz: 22 })).toThrow(EINVAL);
    expect(() => validate({ flags: DATA_EVENTFD | ACTION_TRIGGER, count: 2, argsz: 27 })).toThrow(EINVAL);
    expect(validate({ flags: DATA_EVENTFD | ACTION_TRIGGER, count: 2, argsz: 28 })).toBe(8);
  });
});
