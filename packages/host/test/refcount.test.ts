import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, RefCount } from '../src/index.js';

const refcountBug = expect.objectContaining({ kind: 'refcount' });

describe('RefCount', () => {
  it('agrees with a number under random commands, checked', () => {
    const commands = fc.array(fc.constantFrom('inc', 'incNotZero', 'decAndTest'), { maxLength: 60 });
    fc.assert(
      fc.property(fc.nat(3), commands, (initial, list) => {
        const count = new RefCount(createSeams({ checked: true }), 'thing', initial);
        let model = initial;
        for (const command of list) {
          if (command === 'incNotZero') {
            expect(count.incNotZero()).toBe(model > 0);
            if (model > 0) model++;
          } else if (model === 0) {
            expect(() => count[command]()).toThrow(refcountBug);
          } else if (command === 'inc') {
            count.inc();
            model++;
          } else {
            expect(count.decAndTest()).toBe(--model === 0);
          }
          expect(count.value).toBe(model);
        }
      }),
    );
  });

  it('says where the last reference went', () => {
    const count = new RefCount(createSeams({ checked: true }), { describe: () => 'group 3' }, 1);
    function lastPut() {
      count.decAndTest();
    }
    lastPut();
    expect(() => count.inc()).toThrow(
      expect.objectContaining({
        message: expect.stringMatching(
          /reference of group 3 taken when it was 0: use after free, at .*the last was .*lastPut/,
        ),
        origin: expect.stringContaining('lastPut'),
      }),
    );
  });

  it('sticks and warns when unchecked, so that nothing is freed twice', () => {
    for (const misuse of ['inc', 'decAndTest'] as const) {
      const seams = createSeams({ checked: false });
      const count = new RefCount(seams, 'group 3');
      expect(count[misuse]()).not.toBe(true);
      expect(seams.log.warnings()).toMatchObject([{ text: expect.stringContaining('group 3') }]);
      const stuck = count.value;
      count.inc();
      expect([count.decAndTest(), count.decAndTest(), count.incNotZero()]).toEqual([false, false, true]);
      expect(count.value).toBe(stuck);
      expect(seams.log.warnings()).toHaveLength(1);
    }
  });

  it('does not overflow', () => {
    const checked = new RefCount(createSeams({ checked: true }), 'thing', 0x7fff_ffff);
    expect(() => checked.inc()).toThrow(refcountBug);
    const seams = createSeams({ checked: false });
    const count = new RefCount(seams, 'thing', 0x7fff_ffff);
    expect(count.incNotZero()).toBe(true);
    expect(seams.log.warnings()).toHaveLength(1);
    expect(count.decAndTest()).toBe(false);
  });

  it('can begin anew', () => {
    const count = new RefCount(createSeams(), 'thing', 1);
    count.decAndTest();
    count.set(2);
    expect([count.decAndTest(), count.decAndTest()]).toEqual([false, true]);
    expect(() => count.set(-1)).toThrow(RangeError);
  });
});
