import { describe, expect, it } from 'vitest';
import { EventCalls, eventfd, Linux, PollEvent, Reactor, socketPair } from '../src/index.js';

/** Fails the test that made it. */
function rethrow(error: unknown): never {
  throw error;
}

describe('Reactor', () => {
  it.each([{}, { spinMs: 1 }, { warmMs: 0 }])('calls handlers until they are stopped (%o)', async (options) => {
    using linux = await Linux.load();
    using events = new EventCalls(linux);
    using reactor = new Reactor(linux, rethrow, options);
    using counter = eventfd(linux);
    const taken: bigint[] = [];
    for (let round = 1; round <= 3; round++) {
      const heard = new Promise<void>((resolve) => {
        const watcher = reactor.watch(counter.number, PollEvent.IN, () => {
          taken.push(events.take(counter.number));
          watcher.stop();
          resolve();
        });
      });
      events.signal(counter.number);
      await heard;
    }
    expect(taken).toEqual([1n, 1n, 1n]);
    expect(reactor.size).toBe(0);
  });

  it('lets promises and timers run while messages keep coming', async () => {
    using linux = await Linux.load();
    using events = new EventCalls(linux);
    using reactor = new Reactor(linux, rethrow);
    using counter = eventfd(linux);
    let rounds = 0;
    const watcher = reactor.watch(counter.number, PollEvent.IN, () => {
      rounds++;
    });
    events.signal(counter.number); // and nobody takes it: there is always something
    while (rounds < 2) await new Promise((resolve) => setImmediate(resolve));
    let fired = false;
    setTimeout(() => {
      fired = true;
    }, 1);
    while (!fired) await new Promise((resolve) => setImmediate(resolve));
    watcher.stop();
  });

  it('does not block while somebody waits for a promise', async () => {
    using linux = await Linux.load();
    using events = new EventCalls(linux);
    using reactor = new Reactor(linux, rethrow, { boundMs: 10_000, warmMs: 10_000 });
    using counter = eventfd(linux);
    const watcher = reactor.watch(counter.number, PollEvent.IN, () => void events.take(counter.number));
    events.signal(counter.number);
    const held = reactor.asynchronous();
    for (let turn = 0; turn < 50; turn++) await new Promise((resolve) => setImmediate(resolve));
    watcher.stop();
    held[Symbol.dispose]();
    held[Symbol.dispose]();
  });

  it('tells that the other side is gone, and goes on after a handler that throws', async () => {
    using linux = await Linux.load();
    const errors: unknown[] = [];
    using reactor = new Reactor(linux, (error) => void errors.push(error));
    const [left, right] = socketPair(linux);
    const told = await new Promise<number>((resolve) => {
      const watcher = reactor.watch(left.number, PollEvent.IN, (seen) => {
        if (errors.length === 0) throw new Error('a bug');
        watcher.stop();
        resolve(seen);
      });
      right.close();
    });
    expect(told & PollEvent.HUP).not.toBe(0);
    expect(errors).toHaveLength(1);
    left.close();
  });

  it('does not call a handler that another one has stopped', async () => {
    using linux = await Linux.load();
    using events = new EventCalls(linux);
    using reactor = new Reactor(linux, rethrow);
    using first = eventfd(linux, 1);
    using second = eventfd(linux, 1);
    let calls = 0;
    await new Promise<void>((resolve) => {
      const watchers = [first, second].map((fd) =>
        reactor.watch(fd.number, PollEvent.IN, () => {
          calls++;
          for (const watcher of watchers) watcher.stop();
          resolve();
        }),
      );
    });
    expect(calls).toBe(1);
    expect(events.take(first.number) + events.take(second.number)).toBe(2n);
  });
});
