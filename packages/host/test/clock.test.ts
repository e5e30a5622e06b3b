import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { RealClock, VirtualClock } from '../src/index.js';

describe('VirtualClock', () => {
  it('stands still until it is moved', async () => {
    const clock = new VirtualClock(500);
    expect(clock.now()).toBe(500);
    await clock.advance(20);
    expect(clock.now()).toBe(520);
  });

  it('runs the timers that fall due, in order, each at its time', async () => {
    const clock = new VirtualClock();
    const ran: [string, number][] = [];
    const timer = (name: string, ms: number) => clock.setTimer(ms, () => ran.push([name, clock.now()]));
    timer('b', 20);
    timer('a', 10);
    timer('c', 20);
    timer('late', 31);
    await clock.advance(30);
    expect(ran).toEqual([
      ['a', 10],
      ['b', 20],
      ['c', 20],
    ]);
    expect(clock.now()).toBe(30);
    expect(clock.next()).toBe(1);
  });

  it('agrees with sorting, whatever is set and cancelled', async () => {
    const timers = fc.array(fc.record({ ms: fc.nat(20), cancelled: fc.boolean() }), { maxLength: 30 });
    await fc.assert(
      fc.asyncProperty(timers, async (list) => {
        const clock = new VirtualClock();
        const ran: number[] = [];
        const set = list.map(({ ms }, index) => clock.setTimer(ms, () => ran.push(index)));
        for (const [index, { cancelled }] of list.entries()) if (cancelled) set[index]!.cancel();
        const expected = [...list.keys()].filter((index) => !list[index]!.cancelled);
        expected.sort((a, b) => list[a]!.ms - list[b]!.ms || a - b);
        expect(clock.pending).toBe(expected.length);
        await clock.advance(20);
        expect(ran).toEqual(expected);
      }),
      { numRuns: 50 },
    );
  });

  it('lets the promise jobs of a timer run before the next timer', async () => {
    const clock = new VirtualClock();
    const seen: string[] = [];
    const task = async () => {
      await clock.sleep(10);
      for (let i = 0; i < 20; i++) await undefined;
      seen.push('task');
    };
    const running = task();
    clock.setTimer(11, () => seen.push('timer'));
    await clock.advance(20);
    await running;
    expect(seen).toEqual(['task', 'timer']);
  });

  it('runs timers that are set meanwhile, if they fall due', async () => {
    const clock = new VirtualClock();
    const at: number[] = [];
    const periodic = () => {
      at.push(clock.now());
      clock.setTimer(10, periodic);
    };
    clock.setTimer(10, periodic);
    await clock.advance(35);
    expect(at).toEqual([10, 20, 30]);
  });

  it('runs timers that pending jobs set', async () => {
    const clock = new VirtualClock();
    let done = false;
    void Promise.resolve().then(() => clock.setTimer(5, () => (done = true)));
    await clock.advance(5);
    expect(done).toBe(true);
  });

  it('moves to the next timer alone', async () => {
    const clock = new VirtualClock();
    const ran: string[] = [];
    clock.setTimer(10, () => ran.push('a'));
    clock.setTimer(10, () => ran.push('b'));
    expect(await clock.runNext()).toBe(true);
    expect([ran, clock.now(), clock.next()]).toEqual([['a'], 10, 0]);
    expect(await clock.runNext()).toBe(true);
    expect(await clock.runNext()).toBe(false);
    expect(clock.next()).toBeUndefined();
  });

  it('ends a sleep early, and forgets its timer', async () => {
    const clock = new VirtualClock();
    const abort = new AbortController();
    const sleep = clock.sleep(1000, abort.signal);
    abort.abort();
    await expect(sleep).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    await expect(clock.sleep(1000, abort.signal)).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    expect(clock.pending).toBe(0);
  });

  it('throws what a timer throws, and can go on', async () => {
    const clock = new VirtualClock();
    clock.setTimer(10, () => {
      throw new Error('timer');
    });
    let later = false;
    clock.setTimer(20, () => (later = true));
    await expect(clock.advance(30)).rejects.toThrow('timer');
    expect(clock.now()).toBe(10);
    await clock.advance(10);
    expect(later).toBe(true);
  });

  it('does not go back', async () => {
    await expect(new VirtualClock().advance(-1)).rejects.toThrow(RangeError);
    await expect(new VirtualClock().advance(Number.NaN)).rejects.toThrow(RangeError);
  });
});

describe('RealClock', () => {
  it('fires no earlier than asked, and later than before', async () => {
    const clock = new RealClock();
    const start = clock.now();
    await clock.sleep(2);
    expect(clock.now() - start).toBeGreaterThanOrEqual(2);
  });

  it('does not fire when cancelled', async () => {
    const clock = new RealClock();
    let fired = false;
    clock.setTimer(0, () => (fired = true)).cancel();
    await clock.sleep(3);
    expect(fired).toBe(false);
  });

  it('does not take a very long time for a short one', async () => {
    const clock = new RealClock();
    const warnings: Error[] = [];
    const warned = (warning: Error) => warnings.push(warning);
    process.on('warning', warned);
    let fired = false;
    const timer = clock.setTimer(2 ** 40, () => {
      fired = true;
    });
    await clock.sleep(3);
    timer.cancel();
    process.off('warning', warned);
    expect([fired, warnings]).toEqual([false, []]);
  });
});
