import { describe, expect, it } from 'vitest';
import { createSeams, freeRunning, VirtualClock } from '../src/index.js';

describe('createSeams', () => {
  it('is checked in tests', () => {
    expect(createSeams().checked).toBe(true);
    expect(createSeams({ checked: false }).lockdep.enabled).toBe(false);
  });

  it('lets everybody go on at once', () => {
    expect(createSeams().scheduler).toBe(freeRunning);
    expect(freeRunning.switchPoint('x')).toBeUndefined();
  });

  it('shares nothing between two', () => {
    const [a, b] = [createSeams(), createSeams()];
    a.faults.failAt(0);
    a.tracker.track('pin', () => 'pin');
    a.log.info('x');
    expect(() => b.faults.check('x')).not.toThrow();
    expect([b.tracker.leaks(), b.log.entries]).toEqual([[], []]);
  });
});

describe('the clock of a host', () => {
  it('tracks timers and sleeps until they are over', async () => {
    const clock = new VirtualClock();
    const seams = createSeams({ clock });
    const timer = seams.clock.setTimer(10, () => {});
    seams.clock.setTimer(20, () => {});
    const abort = new AbortController();
    const sleep = seams.clock.sleep(30, abort.signal);
    expect(seams.tracker.leaks().map(({ what }) => what)).toEqual(['for 10 ms', 'for 20 ms', 'sleep of 30 ms']);
    timer.cancel();
    timer.cancel();
    await clock.advance(20);
    abort.abort();
    await expect(sleep).rejects.toThrow('EINTR');
    expect(seams.tracker.leaks()).toEqual([]);
    expect(clock.pending).toBe(0);
  });

  it('runs a timer as a task of its own', async () => {
    const clock = new VirtualClock();
    const seams = createSeams({ clock });
    let task: string | undefined;
    seams.lockdep.run('ioctl', () => seams.clock.setTimer(10, () => (task = seams.lockdep.task)));
    await seams.lockdep.run('test', () => clock.advance(10));
    expect(task).toBe('timer');
  });

  it('logs a timer that dies, and time goes on', async () => {
    const clock = new VirtualClock();
    const seams = createSeams({ clock });
    const error = new Error('timer');
    seams.clock.setTimer(10, () => {
      throw error;
    });
    await clock.advance(20);
    expect(clock.now()).toBe(20);
    expect(seams.log.oopses).toEqual([error]);
  });

  it('refuses to sleep under a spin lock', async () => {
    const seams = createSeams({ clock: new VirtualClock() });
    seams.lockdep.enterAtomic('lock', { stack: '', place: '' });
    await expect(seams.clock.sleep(1)).rejects.toThrow(expect.objectContaining({ kind: 'atomic-sleep' }));
  });
});
