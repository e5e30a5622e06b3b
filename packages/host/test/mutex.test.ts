import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, type Held, Mutex, type Scheduler } from '../src/index.js';

function setUp(checked = true) {
  const seams = createSeams({ checked });
  return { seams, mutex: new Mutex(seams, 'group_lock') };
}

describe('Mutex', () => {
  it('is had by one at a time, in the order of asking, under any schedule', async () => {
    await fc.assert(
      fc.asyncProperty(fc.scheduler(), fc.integer({ min: 1, max: 6 }), fc.nat(3), async (s, tasks, steps) => {
        const asked: (string | undefined)[] = [];
        const got: (string | undefined)[] = [];
        const scheduler: Scheduler = {
          switchPoint: async (label) => {
            const { task } = seams.lockdep;
            await s.schedule(Promise.resolve(), label);
            asked.push(task);
          },
        };
        const seams = createSeams({ checked: true, scheduler });
        const mutex = new Mutex(seams, 'group_lock');
        let inside = 0;
        const run = async () => {
          using _held = await mutex.lock();
          got.push(seams.lockdep.task);
          expect(++inside).toBe(1);
          for (let i = 0; i < steps; i++) await s.schedule(Promise.resolve(), 'inside');
          expect(mutex.locked).toBe(true);
          inside--;
        };
        const all = Array.from({ length: tasks }, (_, id) => seams.lockdep.spawn(`task ${id}`, run));
        await s.waitFor(Promise.all(all));
        expect(got).toHaveLength(tasks);
        expect(got).toEqual(asked);
        expect(mutex.locked).toBe(false);
      }),
      { numRuns: 100 },
    );
  });

  it('serves first come, first served, also against one who comes at the moment of release', async () => {
    const { mutex } = setUp();
    const got: number[] = [];
    const first = await mutex.lock();
    const take = async (id: number) => {
      using _held = await mutex.lock();
      got.push(id);
    };
    const waiting = [take(1), take(2), take(3)];
    await undefined;
    first.release();
    expect(mutex.tryLock()).toBeUndefined();
    waiting.push(take(4));
    await Promise.all(waiting);
    expect(got).toEqual([1, 2, 3, 4]);
  });

  it('agrees with a plain queue under random commands', async () => {
    const commands = fc.array(fc.constantFrom('lock', 'try', 'release', 'abort'), { maxLength: 40 });
    await fc.assert(
      fc.asyncProperty(commands, async (list) => {
        const { mutex } = setUp(false);
        const queue: { id: number; abort: AbortController }[] = [];
        const real: { id: number; held: Held }[] = [];
        let holder: number | undefined;
        for (const [id, command] of list.entries()) {
          if (command === 'lock') {
            const abort = new AbortController();
            mutex.lock({ signal: abort.signal }).then(
              (held) => real.push({ id, held }),
              () => {},
            );
            if (holder === undefined) holder = id;
            else queue.push({ id, abort });
          } else if (command === 'try') {
            const held = mutex.tryLock();
            expect(held !== undefined).toBe(holder === undefined);
            if (held) {
              real.push({ id, held });
              holder = id;
            }
          } else if (command === 'release') {
            real.pop()?.held.release();
            holder = queue.shift()?.id;
          } else {
            queue.pop()?.abort.abort();
          }
          for (let i = 0; i < 6; i++) await undefined;
          expect(real.map((entry) => entry.id)).toEqual(holder === undefined ? [] : [holder]);
          expect(mutex.locked).toBe(holder !== undefined);
        }
      }),
      { numRuns: 200 },
    );
  });

  it('gives up a wait when the signal says so, and not a lock that is free', async () => {
    const { mutex } = setUp();
    const abort = new AbortController();
    const held = await mutex.lock();
    const waiting = mutex.lock({ signal: abort.signal });
    await undefined;
    abort.abort();
    await expect(waiting).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    await expect(mutex.lock({ signal: abort.signal })).rejects.toThrow(expect.objectContaining({ code: 'EINTR' }));
    held.release();
    expect(mutex.locked).toBe(false);
    (await mutex.lock({ signal: abort.signal })).release();
  });

  it('passes a switch point before it takes', async () => {
    let go = () => {};
    const labels: string[] = [];
    const scheduler: Scheduler = {
      switchPoint: (label) => {
        labels.push(label);
        return new Promise((resolve) => (go = resolve));
      },
    };
    const mutex = new Mutex(createSeams({ scheduler }), 'group_lock');
    const pending = mutex.lock();
    await undefined;
    expect([labels, mutex.locked]).toEqual([['mutex group_lock'], false]);
    go();
    (await pending).release();
  });

  it('gives the lock back when the exclusive function throws', async () => {
    const { mutex } = setUp();
    await expect(mutex.runExclusive(() => 7)).resolves.toBe(7);
    await expect(mutex.runExclusive(() => Promise.reject(new Error('EIO')))).rejects.toThrow('EIO');
    expect(mutex.locked).toBe(false);
  });

  it.each([true, false])('reports a second release, checked %s', async (checked) => {
    const { mutex } = setUp(checked);
    const held = await mutex.lock();
    held.release();
    expect(() => held.release()).toThrow(expect.objectContaining({ kind: 'lock' }));
    const next = await mutex.lock();
    expect(() => held[Symbol.dispose]()).toThrow(expect.objectContaining({ kind: 'lock' }));
    expect(mutex.locked).toBe(true);
    next.release();
  });

  describe('assertHeld', () => {
    it('knows whether this task holds it', async () => {
      const { seams, mutex } = setUp();
      await seams.lockdep.run('one', async () => {
        expect(() => mutex.assertHeld()).toThrow("mutex 'group_lock' is not held");
        using _held = await mutex.lock();
        mutex.assertHeld();
        seams.lockdep.spawn('two', () => expect(() => mutex.assertHeld()).toThrow('not held by this task'));
      });
    });

    it('knows outside of tasks whether anybody does', async () => {
      const { mutex } = setUp();
      expect(() => mutex.assertHeld()).toThrow(expect.objectContaining({ kind: 'lock' }));
      using _held = await mutex.lock();
      mutex.assertHeld();
    });

    it('says nothing when unchecked', () => {
      expect(() => setUp(false).mutex.assertHeld()).not.toThrow();
    });
  });
});
