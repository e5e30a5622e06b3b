import { Completion, createSeams, Mutex, RwLock, type Seams } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { ExplorationError, type ExplorerSeams, explore } from '../src/explorer.js';

/** Seams as a host has them, without the lock checker, which would see some of these mistakes first. */
function unchecked(seams: ExplorerSeams): Seams {
  return createSeams({ ...seams, checked: false });
}

async function pass({ scheduler }: ExplorerSeams, label: string): Promise<void> {
  await scheduler.switchPoint(label);
}

async function failure(run: Promise<unknown>): Promise<ExplorationError> {
  const error = await run.then(
    () => undefined,
    (thrown: unknown) => thrown,
  );
  if (!(error instanceof ExplorationError)) throw new Error(`not an ExplorationError: ${String(error)}`);
  return error;
}

/** Two tasks that add one by reading, letting others pass, and writing. */
function lostUpdate(seams: ExplorerSeams) {
  let value = 0;
  const add = async () => {
    const read = value;
    await pass(seams, 'between');
    value = read + 1;
  };
  return {
    tasks: { first: add, second: add },
    check: () => expect(value).toBe(2),
  };
}

describe('depth first', () => {
  it('tries every order once', async () => {
    const orders: string[] = [];
    const report = await explore({}, (seams) => {
      const order: string[] = [];
      const task = (name: string) => async () => {
        order.push(name);
        await pass(seams, 'middle');
        order.push(name);
      };
      return {
        tasks: { a: task('a'), b: task('b') },
        check: () => void orders.push(order.join('')),
      };
    });
    expect(report).toEqual({ runs: 6, complete: true });
    expect(orders.sort()).toEqual(['aabb', 'abab', 'abba', 'baab', 'baba', 'bbaa']);
  });

  it('finds an update that gets lost, and runs that order again', async () => {
    const found = await failure(explore({}, lostUpdate));
    expect(found.message).toContain(`again with replay: [${found.schedule.join(', ')}]`);
    expect(found.trace).toContain('second: between');
    const again = await failure(explore({ replay: found.schedule }, lostUpdate));
    expect(again.schedule).toEqual(found.schedule);
    expect(again.trace).toEqual(found.trace);
    await expect(explore({ replay: [] }, lostUpdate)).resolves.toMatchObject({ runs: 1 });
  });

  it('shows that a mutex helps', async () => {
    const report = await explore({}, (seams) => {
      const mutex = new Mutex(unchecked(seams), 'value_lock');
      let value = 0;
      const add = () =>
        mutex.runExclusive(async () => {
          const read = value;
          await pass(seams, 'between');
          value = read + 1;
        });
      return {
        tasks: { first: add, second: add },
        check: () => expect(value).toBe(2),
      };
    });
    expect(report.complete).toBe(true);
    expect(report.runs).toBeGreaterThan(2);
  });

  it('stops after as many runs as it may take', async () => {
    const report = await explore({ maxRuns: 4 }, (seams) => ({
      tasks: { a: () => pass(seams, 'x'), b: () => pass(seams, 'x'), c: () => pass(seams, 'x') },
    }));
    expect(report).toEqual({ runs: 4, complete: false });
  });

  it('keeps to the bound of preemptions', async () => {
    const orders: string[] = [];
    const scenario = (seams: ExplorerSeams) => {
      let order = '';
      const task = (name: string) => async () => {
        for (let step = 0; step < 3; step++) {
          order += name;
          await pass(seams, `step ${step}`);
        }
      };
      return {
        tasks: { a: task('a'), b: task('b') },
        check: () => void orders.push(order),
      };
    };
    expect((await explore({ preemptions: 0 }, scenario)).complete).toBe(true);
    expect(orders.sort()).toEqual(['aaabbb', 'bbbaaa']);
    orders.length = 0;
    expect((await explore({ preemptions: 1 }, scenario)).complete).toBe(true);
    expect(orders).toContain('abbbaa');
    expect(orders).not.toContain('ababab');
  });

  it('notices a scenario that does not repeat itself', async () => {
    let runs = 0;
    const found = await failure(
      explore({}, (seams) => {
        runs++;
        const tasks = { a: () => pass(seams, 'x'), b: () => pass(seams, 'x') };
        return { tasks: runs > 1 ? { ...tasks, c: () => undefined } : tasks };
      }),
    );
    expect(found.message).toContain('does not repeat itself');
  });
});

describe('a run fails', () => {
  it('when tasks wait for each other', async () => {
    const found = await failure(
      explore({}, (seams) => {
        const host = unchecked(seams);
        const [a, b] = [new Mutex(host, 'a'), new Mutex(host, 'b')];
        return {
          tasks: {
            forwards: () => a.runExclusive(() => b.runExclusive(() => {})),
            backwards: () => b.runExclusive(() => a.runExclusive(() => {})),
          },
        };
      }),
    );
    expect(found.message).toMatch(/^deadlock: forwards, backwards wait for ever/);
  });

  it('when a wake-up comes too early and is lost', async () => {
    const scenario = (seams: ExplorerSeams) => {
      const waiting: (() => void)[] = [];
      return {
        tasks: {
          waiter: async () => {
            await pass(seams, 'wait');
            await new Promise<void>((resolve) => {
              waiting.push(resolve);
            });
          },
          waker: () => waiting.forEach((wake) => void wake()),
        },
      };
    };
    expect((await failure(explore({}, scenario))).message).toMatch(/^deadlock: waiter/);
  });

  it('when a task throws, with its error as the cause', async () => {
    const found = await failure(
      explore({}, () => ({
        tasks: {
          broken: () => {
            throw new TypeError('no such thing');
          },
        },
      })),
    );
    expect(found.message).toContain("task 'broken' throws TypeError: no such thing");
    expect(found.cause).toBeInstanceOf(TypeError);
  });

  it('when it never ends', async () => {
    const found = await failure(
      explore({ maxSteps: 50 }, (seams) => ({
        tasks: {
          spinning: async () => {
            for (;;) await pass(seams, 'again');
          },
        },
      })),
    );
    expect(found.message).toContain('not finished after 50 choices');
    expect(found.trace).toHaveLength(50);
  });
});

describe('time', () => {
  it('moves only when nobody can go on otherwise', async () => {
    const report = await explore({}, (seams) => {
      const host = unchecked(seams);
      const done = new Completion(host, 'done');
      let result: string | undefined;
      return {
        tasks: {
          waiter: async () => {
            result = await done.waitTimeout(10_000);
          },
          worker: async () => {
            await pass(seams, 'work');
            done.complete();
          },
        },
        check: () => {
          expect(result).toBe('done');
          expect(seams.clock.now()).toBe(0);
        },
      };
    });
    expect(report.complete).toBe(true);
  });

  it('moves when all wait for it', async () => {
    await explore({}, (seams) => {
      const host = unchecked(seams);
      const order: string[] = [];
      return {
        tasks: {
          late: async () => {
            await host.clock.sleep(20);
            order.push('late');
          },
          early: async () => {
            await host.clock.sleep(10);
            order.push('early');
          },
        },
        check: () => {
          expect(order).toEqual(['early', 'late']);
          expect(seams.clock.now()).toBe(20);
        },
      };
    });
  });
});

describe('preparation and check', () => {
  it('are not stopped', async () => {
    await explore({}, async (seams) => {
      const lock = new RwLock(unchecked(seams), 'lock');
      (await lock.write()).release();
      return {
        tasks: {
          a: async () => (await lock.write()).release(),
          b: async () => (await lock.read()).release(),
        },
        check: async () => (await lock.write()).release(),
      };
    });
  });

  it('come before and after all work, also what tasks leave to others', async () => {
    await explore({}, (seams) => {
      let left = false;
      return {
        tasks: {
          starter: () => {
            void pass(seams, 'background').then(() => {
              left = true;
            });
          },
        },
        check: () => expect(left).toBe(true),
      };
    });
  });
});

describe('at random', () => {
  it('repeats itself with the same seed, and finds what a single order does not show', async () => {
    const orders = async (seed: number) => {
      const seen: string[] = [];
      const report = await explore({ seed, maxRuns: 12 }, (seams) => {
        let order = '';
        const task = (name: string) => async () => {
          order += name;
          await pass(seams, 'x');
          order += name;
        };
        return { tasks: { a: task('a'), b: task('b') }, check: () => void seen.push(order) };
      });
      expect(report).toEqual({ runs: 12, complete: false });
      return seen;
    };
    expect(await orders(7)).toEqual(await orders(7));
    expect(await orders(7)).not.toEqual(await orders(8));
    const found = await failure(explore({ seed: 1 }, lostUpdate));
    expect((await failure(explore({ replay: found.schedule }, lostUpdate))).trace).toEqual(found.trace);
  });
});
