import { describe, expect, it } from 'vitest';
import { createSeams, type Held, isKernelBug, type KernelBug, Mutex, RwLock, SpinLock } from '../src/index.js';

const lockBug = expect.objectContaining({ kind: 'lock' });

function setUp() {
  const seams = createSeams({ checked: true });
  const task = <T>(fn: () => Promise<T>) => seams.lockdep.run('task', fn);
  return { seams, task, mutex: (name: string) => new Mutex(seams, name) };
}

async function takeInOrder(...locks: Mutex[]): Promise<void> {
  const held: Held[] = [];
  try {
    for (const lock of locks) held.push(await lock.lock());
  } finally {
    for (const one of held.reverse()) one.release();
  }
}

async function bugOf(promise: Promise<unknown>): Promise<KernelBug> {
  const error = await promise.catch((caught: unknown) => caught);
  if (!isKernelBug(error)) throw new Error(`no bug was reported: ${error}`);
  return error;
}

describe('Lockdep order', () => {
  it('reports an inversion that did not deadlock, and names both places', async () => {
    const { task, mutex } = setUp();
    const [a, b] = [mutex('group_lock'), mutex('dev_set')];
    async function opensDevice() {
      using _a = await a.lock();
      using _b = await b.lock();
    }
    async function resetsBus() {
      using _b = await b.lock();
      using _a = await a.lock();
    }
    await task(opensDevice);
    const bug = await bugOf(task(resetsBus));
    expect(bug.kind).toBe('lock');
    expect(bug.message).toMatch(/takes 'group_lock' at .*resetsBus.* with 'dev_set' held since .*resetsBus/);
    expect(bug.message).toMatch(
      /before, .*took 'dev_set' at .*opensDevice.* with 'group_lock' held since .*opensDevice/,
    );
    expect(bug.origin).toContain('opensDevice');
    expect([a.locked, b.locked]).toEqual([false, false]);
  });

  it('follows a cycle through other locks, across tasks', async () => {
    const { task, mutex } = setUp();
    const [a, b, c, d] = [mutex('a'), mutex('b'), mutex('c'), mutex('d')];
    await task(() => takeInOrder(a, b));
    await task(() => takeInOrder(b, c));
    await task(() => takeInOrder(c, d));
    const bug = await bugOf(task(() => takeInOrder(d, a)));
    expect(bug.message.split('\n')).toHaveLength(4);
  });

  it('knows classes, not objects', async () => {
    const { task, mutex } = setUp();
    await task(() => takeInOrder(mutex('a'), mutex('b')));
    await expect(task(() => takeInOrder(mutex('b'), mutex('a')))).rejects.toThrow(lockBug);
  });

  it('accepts one order, however often', async () => {
    const { task, mutex } = setUp();
    const [a, b, c] = [mutex('a'), mutex('b'), mutex('c')];
    for (let i = 0; i < 3; i++) {
      await task(() => takeInOrder(a, b, c));
      await task(() => takeInOrder(a, c));
    }
  });

  it('sees the order against locks that are held longer', async () => {
    const { task, mutex } = setUp();
    const [a, b, c] = [mutex('a'), mutex('b'), mutex('c')];
    await task(() => takeInOrder(a, b, c));
    await expect(task(() => takeInOrder(c, a))).rejects.toThrow(lockBug);
  });

  it('forgets a lock that was given back first', async () => {
    const { task, mutex } = setUp();
    const [a, b] = [mutex('a'), mutex('b')];
    await task(() => takeInOrder(a, b));
    await task(async () => {
      const held = await b.lock();
      held.release();
      await takeInOrder(a);
    });
  });

  it('lets a trylock break the order, but keeps what is taken after it', async () => {
    const { task, mutex } = setUp();
    const [a, b, c] = [mutex('a'), mutex('b'), mutex('c')];
    await task(() => takeInOrder(a, b));
    await task(async () => {
      using _b = await b.lock();
      using held = a.tryLock();
      expect(held).toBeDefined();
      using _c = await c.lock();
    });
    await expect(task(() => takeInOrder(c, a))).rejects.toThrow(lockBug);
  });

  it('keeps no order for a class that is not validated', async () => {
    const { seams, task, mutex } = setUp();
    const device = new Mutex(seams, 'device', { validate: false });
    const child = new Mutex(seams, 'device', { validate: false });
    const other = mutex('a');
    await task(() => takeInOrder(device, child, other));
    await task(() => takeInOrder(other, child, device));
    await expect(task(() => takeInOrder(device, device))).rejects.toThrow(lockBug);
  });

  it('keeps different orders of two hosts apart', async () => {
    const [one, two] = [setUp(), setUp()];
    await one.task(() => takeInOrder(one.mutex('a'), one.mutex('b')));
    await two.task(() => takeInOrder(two.mutex('b'), two.mutex('a')));
  });

  it('orders read-write locks and spin locks too', async () => {
    const { seams, task, mutex } = setUp();
    const [a, rw, spin] = [mutex('a'), new RwLock(seams, 'rw'), new SpinLock(seams, 'spin')];
    const inner = new SpinLock(seams, 'inner');
    await task(async () => {
      using _r = await rw.read();
      using _a = await a.lock();
      spin.run(() => inner.run(() => {}));
    });
    await expect(
      task(async () => {
        using _a = await a.lock();
        using _r = await rw.write();
      }),
    ).rejects.toThrow(lockBug);
    expect(() => seams.lockdep.run('irq', () => inner.run(() => spin.run(() => {})))).toThrow(lockBug);
  });
});

describe('Lockdep recursion', () => {
  it('reports a mutex that its holder takes again, at once', async () => {
    const { task, mutex } = setUp();
    const lock = mutex('a');
    const bug = await bugOf(
      task(async () => {
        using _a = await lock.lock();
        using _b = await lock.lock();
      }),
    );
    expect(bug.message).toMatch(/takes a lock that it holds: 'a' at .*, held since /);
    expect(lock.locked).toBe(false);
  });

  it('reports a second lock of the class, unless by a subclass', async () => {
    const { task, mutex } = setUp();
    const [first, second] = [mutex('a'), mutex('a')];
    await expect(task(() => takeInOrder(first, second))).rejects.toThrow(/without subclass/);
    await task(async () => {
      using _a = await first.lock();
      using _b = await second.lock({ subclass: 1 });
    });
    await expect(
      task(async () => {
        using _b = await second.lock({ subclass: 1 });
        using _a = await first.lock();
      }),
    ).rejects.toThrow(lockBug);
  });

  it('reports a second reader in one task', async () => {
    const { seams, task } = setUp();
    const lock = new RwLock(seams, 'rw');
    await expect(
      task(async () => {
        using _a = await lock.read();
        using _b = await lock.read();
      }),
    ).rejects.toThrow(lockBug);
  });

  it('lets two tasks wait for one another', async () => {
    const { task, mutex } = setUp();
    const lock = mutex('a');
    await Promise.all([task(() => takeInOrder(lock)), task(() => takeInOrder(lock))]);
  });
});

describe('Lockdep tasks', () => {
  it('does not mix what tasks hold that run at the same time', async () => {
    const { seams, mutex } = setUp();
    const [a, b] = [mutex('a'), mutex('b')];
    const held: string[][] = [];
    const hold = (lock: Mutex) => async () => {
      using _held = await lock.lock();
      for (let i = 0; i < 5; i++) await undefined;
      held.push(seams.lockdep.held());
    };
    await Promise.all([seams.lockdep.run('one', hold(a)), seams.lockdep.run('two', hold(b))]);
    expect(held).toEqual([['a'], ['b']]);
  });

  it('reports a task that ends with a lock held, with what it threw as the cause', async () => {
    const { seams, task, mutex } = setUp();
    await expect(task(() => mutex('a').lock())).rejects.toThrow(/ended with 'a' held, taken at /);
    const error = new Error('EIO');
    const bug = await bugOf(
      task(async () => {
        await mutex('a').lock();
        throw error;
      }),
    );
    expect(bug.cause).toBe(error);
    expect(() => seams.lockdep.run('irq', () => void mutex('a').tryLock())).toThrow(lockBug);
  });

  it('hands through what a task gives and throws', async () => {
    const { seams } = setUp();
    expect(seams.lockdep.run('task', () => 3)).toBe(3);
    await expect(seams.lockdep.run('task', async () => 4)).resolves.toBe(4);
    const error = new Error('EIO');
    expect(() =>
      seams.lockdep.run('task', () => {
        throw error;
      }),
    ).toThrow(error);
    await expect(seams.lockdep.run('task', () => Promise.reject(error))).rejects.toBe(error);
  });

  it('goes on in the task there is, or begins one', () => {
    const { lockdep } = setUp().seams;
    const name = () => lockdep.task;
    expect(lockdep.enter('probe', name)).toBe('probe');
    expect(lockdep.run('write', () => lockdep.enter('probe', name))).toBe('write');
    expect(lockdep.run('write', () => lockdep.run('probe', name))).toBe('probe');
    expect(lockdep.task).toBeUndefined();
  });

  it('counts the locks of a caller that waits, not those of a stranger', async () => {
    const { seams, task, mutex } = setUp();
    const lock = mutex('a');
    await task(async () => {
      using _held = await lock.lock();
      seams.lockdep.run('child', () => expect(seams.lockdep.holds(lock)).toBe(true));
      seams.lockdep.spawn('stranger', () => expect(seams.lockdep.holds(lock)).toBe(false));
    });
    expect(seams.lockdep.holds(lock)).toBeUndefined();
  });

  it('takes a lock that another task gives back out of the hands of the first', async () => {
    const { seams, mutex } = setUp();
    const lock = mutex('a');
    let held: Held | undefined;
    let go = () => {};
    const wait = new Promise<void>((resolve) => (go = resolve));
    const first = seams.lockdep.run('first', async () => {
      held = await lock.lock();
      await wait;
      return seams.lockdep.held();
    });
    await seams.lockdep.spawn('second', async () => {
      await undefined;
      await undefined;
      held!.release();
      go();
    });
    await expect(first).resolves.toEqual([]);
  });

  it('does nothing at all when unchecked', async () => {
    const seams = createSeams({ checked: false });
    const [a, b] = [new Mutex(seams, 'a'), new Mutex(seams, 'b')];
    await seams.lockdep.run('task', () => takeInOrder(a, b));
    await seams.lockdep.run('task', () => takeInOrder(b, a));
    expect(seams.lockdep.run('task', () => seams.lockdep.task)).toBeUndefined();
  });
});

describe('Lockdep atomic sections', () => {
  it('reports whatever may wait in them', async () => {
    const { seams, mutex } = setUp();
    const spin = new SpinLock(seams, 'irq_lock');
    let promise: Promise<unknown> | undefined;
    spin.run(() => {
      promise = mutex('a').lock();
    });
    await expect(promise).rejects.toThrow(
      expect.objectContaining({
        kind: 'atomic-sleep',
        message: expect.stringMatching(/lock 'a' may wait, under spin lock 'irq_lock' taken at .*lockdep\.test/),
      }),
    );
    spin.run(() => expect(mutex('a').tryLock()).toBeDefined());
  });
});
