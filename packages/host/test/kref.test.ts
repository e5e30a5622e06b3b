import { describe, expect, it } from 'vitest';
import { createSeams, Kref } from '../src/index.js';

const thing = (name: string, released: () => void) => ({ describe: () => name, released });

describe('Kref', () => {
  it('begins with one reference, and releases with the last', () => {
    let released = 0;
    const kref = new Kref(
      createSeams(),
      thing('group 3', () => released++),
    );
    kref.get();
    expect([kref.count, kref.put(), released]).toEqual([2, false, 0]);
    expect([kref.put(), released, kref.count]).toEqual([true, 1, 0]);
  });

  it('is not revived', () => {
    const kref = new Kref(
      createSeams({ checked: true }),
      thing('group 3', () => {}),
    );
    expect(kref.getUnlessZero()).toBe(true);
    kref.put();
    kref.put();
    expect(kref.getUnlessZero()).toBe(false);
    expect(() => kref.get()).toThrow(expect.objectContaining({ kind: 'refcount' }));
    expect(() => kref.put()).toThrow(expect.objectContaining({ kind: 'refcount' }));
  });

  it('releases once when unchecked, whatever comes', () => {
    let released = 0;
    const seams = createSeams({ checked: false });
    const kref = new Kref(
      seams,
      thing('group 3', () => released++),
    );
    kref.put();
    kref.put();
    kref.get();
    kref.put();
    expect(released).toBe(1);
    expect(seams.log.warnings()).toHaveLength(1);
  });

  it('is tracked while it lives, when asked to', () => {
    const seams = createSeams({ checked: true });
    new Kref(
      seams,
      thing('not tracked', () => {}),
    );
    const kref = new Kref(
      seams,
      thing('vfio-device 3', () => expect(seams.tracker.leaks()).toEqual([])),
      'vfio-device',
    );
    expect(seams.tracker.leaks()).toMatchObject([{ kind: 'vfio-device', what: 'vfio-device 3' }]);
    expect(seams.tracker.leaks()[0]?.origin).toMatch(/^at .*kref\.test/);
    expect(kref.put()).toBe(true);
  });
});
