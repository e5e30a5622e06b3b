import { describe, expect, it } from 'vitest';
import { Completion, createSeams, SpinLock, VirtualClock } from '../src/index.js';

function setUp() {
  const clock = new VirtualClock();
  const seams = createSeams({ clock, checked: true });
  return { clock, seams, completion: new Completion(seams, 'comp') };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 8; i++) await undefined;
}

describe('Completion', () => {
  it('lets one waiter go on for each complete, in order, also one that comes later', async () => {
    const { completion } = setUp();
    const woken: number[] = [];
    for (const id of [1, 2, 3]) void completion.wait().then(() => woken.push(id));
    await settle();
    completion.complete();
    completion.complete();
    await settle();
    expect([woken, completion.done]).toEqual([[1, 2], false]);
    completion.complete();
    completion.complete();
    expect(completion.done).toBe(true);
    await completion.wait();
    await settle();
    expect([woken, completion.done]).toEqual([[1, 2, 3], false]);
  });

  it('lets everybody go on after completeAll, until it is begun anew', async () => {
    const { completion } = setUp();
    const waiting = Promise.all([completion.wait(), completion.wait()]);
    await settle();
    completion.completeAll();
    await waiting;
    await completion.wait();
    expect([completion.tryWait(), completion.done]).toEqual([true, true]);
    completion.reinit();
    expect([completion.tryWait(), completion.done]).toEqual([false, false]);
  });

  it('gives up when the signal says so, and leaves the completion to others', async () => {
    const { completion } = setUp();
    const abort = new AbortController();
    const gone = completion.wait(abort.signal);
    const other = completion.wait();
    await settle();
    abort.abort();
    await expect(gone).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    completion.complete();
    await other;
    expect(completion.done).toBe(false);
  });

  it('may not be waited for under a spin lock', async () => {
    const { seams, completion } = setUp();
    let wait: Promise<void> | undefined;
    new SpinLock(seams, 'lock').run(() => {
      wait = completion.wait();
    });
    await expect(wait).rejects.toThrow(expect.objectContaining({ kind: 'atomic-sleep' }));
  });

  describe('waitTimeout', () => {
    it('is done before the time is over, and leaves no timer', async () => {
      const { clock, seams, completion } = setUp();
      const abort = new AbortController();
      const wait = completion.waitTimeout(100, abort.signal);
      await clock.advance(99);
      completion.complete();
      await expect(wait).resolves.toBe('done');
      expect([clock.pending, seams.tracker.leaks()]).toEqual([0, []]);
    });

    it('times out at its time, not before, and takes nothing', async () => {
      const { clock, seams, completion } = setUp();
      let result: string | undefined;
      const wait = completion.waitTimeout(100).then((value) => (result = value));
      await clock.advance(99);
      expect(result).toBeUndefined();
      await clock.advance(1);
      await wait;
      expect([result, seams.tracker.leaks()]).toEqual(['timeout', []]);
      completion.complete();
      expect(completion.done).toBe(true);
    });

    it('is interrupted, and leaves no timer', async () => {
      const { clock, completion } = setUp();
      const abort = new AbortController();
      const wait = completion.waitTimeout(100, abort.signal);
      await settle();
      abort.abort();
      await expect(wait).resolves.toBe('interrupted');
      await expect(completion.waitTimeout(100, abort.signal)).resolves.toBe('interrupted');
      expect(clock.pending).toBe(0);
    });

    it('takes what is there, whatever the signal says and however short the time', async () => {
      const { completion } = setUp();
      completion.complete();
      completion.complete();
      await expect(completion.waitTimeout(0)).resolves.toBe('done');
      await expect(completion.waitTimeout(10, AbortSignal.abort())).resolves.toBe('done');
      await expect(completion.waitTimeout(0)).resolves.toBe('timeout');
    });
  });
});
