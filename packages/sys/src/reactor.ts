// Waiting for descriptors without the event loop in between, and with it.
//
// While messages come, the thread itself blocks in epoll: that is faster than the event loop by half, and allocates nothing.
// Between batches it returns to the event loop, so that promises, timers and everything else of the thread run; no wait
// lasts longer than a bound. When nothing has come for a while, the event loop does the waiting, and the thread is as any.

import type { Watch } from './calls.js';
import { Epoll } from './epoll.js';
import type { Linux } from './linux.js';

/** How a reactor waits. Times are in milliseconds unless they say otherwise. */
export interface ReactorOptions {
  /** Longest time without a turn of the event loop; 1 unless given. */
  readonly boundMs?: number;
  /** How long after the last event the thread goes on waiting by itself; 20 unless given. */
  readonly warmMs?: number;
  /**
   * Microseconds that it waits for the next event before the event loop has its turn; 50 unless given. A turn of the event
   * loop is not free, and who sends one message after the other is answered within less.
   */
  readonly lingerUs?: number;
  /**
   * How long after the last event it asks again and again before it blocks; 0 unless given. The wake-up of an idle processor
   * takes longer than most answers; this pays if the other side runs on another one.
   */
  readonly spinMs?: number;
}

/** What is called when something happens on a descriptor, with PollEvent bits. */
export type OnEvents = (events: number) => void;

/** A descriptor that is waited for. */
export interface Watcher {
  /** Changes what is awaited. */
  await(events: number): void;
  /** Ends it; to be called before the descriptor is closed. */
  stop(): void;
}

/** Batches that are handled before the event loop has its turn. */
const mostBatches = 16;

/** Calls handlers when their descriptors are ready, one at a time, each until it returns. */
export class Reactor implements Disposable {
  readonly #linux: Linux;
  readonly #epoll: Epoll;
  readonly #handlers = new Map<number, OnEvents>();
  readonly #boundMs: number;
  readonly #warmMs: number;
  readonly #spinMs: number;
  readonly #lingerUs: number;
  readonly #turn = () => this.#run();
  readonly #onError: (error: unknown) => void;
  #watch: Watch | undefined;
  #immediate: NodeJS.Immediate | undefined;
  #lastEvent = 0;
  #asynchronous = 0;
  #closed = false;

  /** @param onError - hears what a handler throws; handlers are meant to throw nothing */
  constructor(linux: Linux, onError: (error: unknown) => void, options: ReactorOptions = {}) {
    this.#linux = linux;
    this.#onError = onError;
    this.#boundMs = options.boundMs ?? 1;
    this.#warmMs = options.warmMs ?? 20;
    this.#spinMs = options.spinMs ?? 0;
    this.#lingerUs = options.lingerUs ?? 50;
    this.#epoll = new Epoll(linux);
  }

  /** How many descriptors are waited for. */
  get size(): number {
    return this.#handlers.size;
  }

  /**
   * Waits for a descriptor.
   *
   * @param events - PollEvent bits; errors and hang-ups are always told
   * @throws SystemError EEXIST - it is waited for already
   */
  watch(fd: number, events: number, handler: OnEvents): Watcher {
    this.#epoll.add(fd, events);
    this.#handlers.set(fd, handler);
    if (this.#immediate === undefined) this.#waitCold();
    return {
      await: (wanted) => this.#epoll.modify(fd, wanted),
      stop: () => {
        if (this.#handlers.get(fd) !== handler) return;
        this.#handlers.delete(fd);
        this.#epoll.remove(fd);
        if (this.#handlers.size === 0) this.#rest();
      },
    };
  }

  /**
   * Somebody waits for promises or timers of this thread: until the result is disposed of, the thread does not block.
   */
  asynchronous(): Disposable {
    this.#asynchronous++;
    let ended = false;
    return {
      [Symbol.dispose]: () => {
        if (ended) return;
        ended = true;
        this.#asynchronous--;
      },
    };
  }

  /** Ends it; handlers are not called any more. */
  [Symbol.dispose](): void {
    if (this.#closed) return;
    this.#closed = true;
    this.#handlers.clear();
    this.#rest();
    this.#epoll.close();
  }

  /** One turn: a few batches, then the event loop, which may have got work by them. */
  #run(): void {
    this.#immediate = undefined;
    if (this.#closed || this.#handlers.size === 0) return;
    let count = this.#wait();
    for (let batch = 1; count > 0 && batch < mostBatches && this.#mayLinger; batch++) {
      count = this.#epoll.waitBriefly(this.#lingerUs);
      if (count > 0) this.#dispatch(count);
    }
    if (this.#closed || this.#handlers.size === 0) return;
    if (this.#asynchronous > 0 || performance.now() - this.#lastEvent < this.#warmMs) {
      this.#immediate = setImmediate(this.#turn);
    } else {
      this.#waitCold();
    }
  }

  get #mayLinger(): boolean {
    return this.#lingerUs > 0 && this.#asynchronous === 0 && !this.#closed && this.#handlers.size > 0;
  }

  /** Waits for a batch, in the way that the time since the last one suggests, and handles it. */
  #wait(): number {
    const epoll = this.#epoll;
    let count = 0;
    if (this.#asynchronous > 0) count = epoll.wait(0);
    else {
      if (this.#spinMs > 0) count = this.#spin();
      if (count === 0) count = epoll.wait(this.#boundMs);
    }
    if (count > 0) this.#dispatch(count);
    return count;
  }

  /** Asks again and again until something came, the time is over, or the event loop has waited long enough. */
  #spin(): number {
    const start = performance.now();
    const end = Math.min(this.#lastEvent + this.#spinMs, start + this.#boundMs);
    while (performance.now() < end) {
      const count = this.#epoll.wait(0);
      if (count > 0) return count;
    }
    return 0;
  }

  #dispatch(count: number): void {
    const epoll = this.#epoll;
    for (let i = 0; i < count; i++) {
      // one that was stopped by a handler before it is not told any more
      const handler = this.#handlers.get(epoll.fdAt(i));
      if (handler === undefined) continue;
      try {
        handler(epoll.eventsAt(i));
      } catch (error) {
        this.#onError(error);
      }
      if (this.#closed) return;
    }
    this.#lastEvent = performance.now();
  }

  /** Leaves the waiting to the event loop. */
  #waitCold(): void {
    this.#watch ??= this.#linux.watch(
      this.#epoll.number,
      () => {
        this.#rest();
        this.#lastEvent = performance.now();
        this.#run();
      },
      'the event loop watches epoll',
    );
  }

  /** Neither waits nor runs. */
  #rest(): void {
    this.#watch?.stop();
    this.#watch = undefined;
    if (this.#immediate !== undefined) clearImmediate(this.#immediate);
    this.#immediate = undefined;
  }
}
