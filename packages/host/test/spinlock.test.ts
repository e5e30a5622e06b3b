import { describe, expect, it } from 'vitest';
import { createSeams, SpinLock } from '../src/index.js';

describe.each([true, false])('SpinLock, checked %s', (checked) => {
  const setUp = () => new SpinLock(createSeams({ checked }), 'irqlock');

  it('runs a section and gives its result', () => {
    const lock = setUp();
    expect(lock.run(() => [lock.locked, 1])).toEqual([true, 1]);
    expect(lock.locked).toBe(false);
  });

  it('refuses a section that waits', () => {
    const lock = setUp();
    const atomicSleep = expect.objectContaining({ kind: 'atomic-sleep' });
    expect(() => lock.run(async () => {})).toThrow(atomicSleep);
    expect(() => lock.run(() => Promise.reject(new Error('never seen')))).toThrow(atomicSleep);
    expect(lock.locked).toBe(false);
  });

  it('refuses a section inside itself', () => {
    const lock = setUp();
    expect(() => lock.run(() => lock.run(() => {}))).toThrow(expect.objectContaining({ kind: 'lock' }));
    expect(lock.run(() => 1)).toBe(1);
  });

  it('is free after a section that throws', () => {
    const lock = setUp();
    const fail = () => {
      throw new Error('EIO');
    };
    expect(() => lock.run(fail)).toThrow('EIO');
    expect(lock.run(() => 1)).toBe(1);
  });

  it('can be asserted', () => {
    const lock = setUp();
    lock.run(() => lock.assertHeld());
    if (checked) expect(() => lock.assertHeld()).toThrow(expect.objectContaining({ kind: 'lock' }));
    else expect(() => lock.assertHeld()).not.toThrow();
  });
});
