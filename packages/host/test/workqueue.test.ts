import { describe, expect, it } from 'vitest';
import { createSeams, Mutex, type Scheduler, Work, WorkQueue } from '../src/index.js';

function setUp(options: { checked?: boolean; scheduler?: Scheduler; maxActive?: number } = {}) {
  const seams = createSeams({ checked: true, ...options });
  const queue = new WorkQueue(seams, 'vfio', { maxActive: options.maxActive ?? 1 });
  return { seams, queue };
}

/** Something that a work item waits for. */
function gate() {
  let open = () => {};
  const opened = new Promise<void>((resolve) => (open = resolve));
  return { open, opened };
}

async function settle(): Promise<void> {
  for (let i = 0; i < 10; i++) await undefined;
}

describe('WorkQueue', () => {
  it('runs work later, in order, one after the other', async () => {
    const { queue } = setUp();
    const ran: string[] = [];
    const item = (name: string) =>
      new Work(async () => {
        ran.push(`${name} begins`);
        await settle();
        ran.push(`${name} ends`);
      }, name);
    queue.queue(item('a'));
    queue.queue(item('b'));
    expect(ran).toEqual([]);
    await queue.flush();
    expect(ran).toEqual(['a begins', 'a ends', 'b begins', 'b ends']);
  });

  it('runs several at a time when it may', async () => {
    const { queue } = setUp({ maxActive: 2 });
    let [now, most] = [0, 0];
    for (let i = 0; i < 5; i++) {
      queue.queue(
        new Work(async () => {
          most = Math.max(most, ++now);
          await settle();
          now--;
        }),
      );
    }
    await queue.flush();
    expect([now, most]).toEqual([0, 2]);
  });

  it('takes an item once until it runs, and again while it runs, but never runs it twice at a time', async () => {
    const { queue } = setUp({ maxActive: 4 });
    const { open, opened } = gate();
    let [now, runs] = [0, 0];
    const work = new Work(async () => {
      expect(++now).toBe(1);
      runs++;
      await opened;
      now--;
    });
    expect([queue.queue(work), queue.queue(work)]).toEqual([true, false]);
    await settle();
    expect([work.pending, work.running]).toEqual([false, true]);
    expect([queue.queue(work), queue.queue(work)]).toEqual([true, false]);
    await settle();
    expect([work.pending, runs]).toEqual([true, 1]);
    open();
    await queue.flush();
    expect([work.pending, work.running, runs]).toEqual([false, false, 2]);
  });

  it('can be queued by itself', async () => {
    const { queue } = setUp();
    let runs = 0;
    const work: Work = new Work(() => {
      if (++runs < 3) queue.queue(work);
    });
    queue.queue(work);
    await queue.destroy();
    expect(runs).toBe(3);
  });

  it('flushes what was queued before, not what comes after', async () => {
    const { queue } = setUp({ maxActive: 2 });
    const { open, opened } = gate();
    const { open: openLater, opened: openedLater } = gate();
    let flushed = false;
    queue.queue(new Work(() => opened, 'before'));
    const flush = queue.flush().then(() => (flushed = true));
    const later = new Work(() => openedLater, 'later');
    queue.queue(later);
    await settle();
    expect(flushed).toBe(false);
    open();
    await flush;
    expect(later.running).toBe(true);
    openLater();
    await queue.destroy();
  });

  it('logs an item that dies, and goes on', async () => {
    const { seams, queue } = setUp();
    const error = new Error('NULL pointer');
    let ran = false;
    queue.queue(
      new Work(() => {
        throw error;
      }, 'dies'),
    );
    queue.queue(
      new Work(() => {
        ran = true;
      }, 'next'),
    );
    await queue.flush();
    expect([ran, seams.log.oopses, seams.tracker.leaks()]).toEqual([true, [error], []]);
  });

  it('is tracked while it waits and runs', async () => {
    const { seams, queue } = setUp();
    const { open, opened } = gate();
    const work = new Work(() => opened, 'reset');
    queue.queue(work);
    expect(seams.tracker.leaks()).toMatchObject([{ kind: 'work', what: 'reset on vfio' }]);
    await settle();
    expect([work.running, seams.tracker.count('work')]).toEqual([true, 1]);
    open();
    await queue.flush();
    expect(seams.tracker.count('work')).toBe(0);
  });

  it('runs nothing more when destroyed', async () => {
    const { seams, queue } = setUp();
    await queue.destroy();
    expect(queue.queue(new Work(() => {}))).toBe(false);
    expect(seams.log.warnings()).toHaveLength(1);
  });

  it('can fail to be made', () => {
    const seams = createSeams();
    seams.faults.failOn('alloc_workqueue:vfio');
    expect(() => new WorkQueue(seams, 'vfio')).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
  });

  it('passes a switch point before each item', async () => {
    const labels: string[] = [];
    const { queue } = setUp({ scheduler: { switchPoint: (label) => void labels.push(label) } });
    queue.queue(new Work(() => {}));
    await settle();
    expect(labels).toContain('work vfio');
  });
});

describe('Work.cancelSync', () => {
  it('takes an item back that waits', async () => {
    const { seams, queue } = setUp();
    let ran = false;
    const work = new Work(() => {
      ran = true;
    });
    queue.queue(work);
    await expect(work.cancelSync()).resolves.toBe(true);
    await queue.flush();
    expect([ran, seams.tracker.leaks()]).toEqual([false, []]);
  });

  it('waits for an item that runs', async () => {
    const { queue } = setUp();
    const { open, opened } = gate();
    const work = new Work(() => opened);
    queue.queue(work);
    await settle();
    let cancelled: boolean | undefined;
    const cancel = work.cancelSync().then((value) => (cancelled = value));
    await settle();
    expect(cancelled).toBeUndefined();
    open();
    await cancel;
    expect([cancelled, work.running]).toEqual([false, false]);
  });

  it('has nothing to do for an item that was never queued', async () => {
    await expect(new Work(() => {}).cancelSync()).resolves.toBe(false);
  });
});

describe('WorkQueue and the lock checker', () => {
  it('runs an item as a task that inherits nothing', async () => {
    const { seams, queue } = setUp();
    const lock = new Mutex(seams, 'lock');
    const seen: unknown[] = [];
    await seams.lockdep.run('ioctl', async () => {
      using _held = await lock.lock();
      queue.queue(new Work(() => void seen.push(seams.lockdep.task, seams.lockdep.holds(lock)), 'reset'));
    });
    await queue.flush();
    expect(seen).toEqual(['kworker vfio:reset', false]);
  });

  it('reports an item that waits for itself', async () => {
    const { seams, queue } = setUp();
    const work: Work = new Work(async () => void (await work.cancelSync()), 'self');
    queue.queue(work);
    queue.queue(new Work(() => queue.flush(), 'flush'));
    await queue.flush();
    expect(seams.log.oopses).toMatchObject([{ kind: 'lock' }, { kind: 'lock' }]);
  });

  it('reports a wait for an item with a lock held that the item takes', async () => {
    const { seams, queue } = setUp();
    const lock = new Mutex(seams, 'igate');
    const work = new Work(() => lock.runExclusive(() => {}), 'inject');
    queue.queue(work);
    await queue.flush();
    const underLock = (fn: () => Promise<unknown>) => seams.lockdep.run('ioctl', () => lock.runExclusive(fn));
    await expect(underLock(() => work.cancelSync())).rejects.toThrow(/takes '\(work\)inject'.*with 'igate' held/);
    await expect(underLock(() => queue.flush())).rejects.toThrow(expect.objectContaining({ kind: 'lock' }));
  });
});
