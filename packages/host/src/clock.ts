/*
 * Time. A host takes its time from a `Clock`: the machine's own, or a virtual one that stands still until a test
 * moves it, so that no test sleeps and none depends on how fast it runs.
 */
import { SystemError } from './errors.js';

/** A timer that was started. */
export interface ClockTimer {
  /** Stops it; nothing happens when it has fired or was stopped. */
  cancel(): void;
}

/** A source of time. */
export interface Clock {
  /** Milliseconds since some moment in the past; never goes back. */
  now(): number;
  /** Calls `fn` once, no earlier than `ms` from now; never before this returns. */
  setTimer(ms: number, fn: () => void): ClockTimer;
  /**
   * Waits.
   *
   * @param signal - ends the wait early
   * @throws EINTR - `signal` was aborted
   */
  sleep(ms: number, signal?: AbortSignal): Promise<void>;
}

/** The machine's monotonic clock. */
export class RealClock implements Clock {
  now(): number {
    return performance.now();
  }

  setTimer(ms: number, fn: () => void): ClockTimer {
    const deadline = this.now() + ms;
    let timer: NodeJS.Timeout;
    const arm = () => {
      const left = deadline - this.now();
      timer = setTimeout(fire, Math.min(Math.max(left, 0), longestTimeout));
    };
    // setTimeout() may be a little early by this clock.
    const fire = () => (this.now() < deadline ? arm() : fn());
    arm();
    return { cancel: () => clearTimeout(timer) };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal);
  }
}

/** setTimeout() takes 31 bits, and makes 1 ms of a longer time. */
const longestTimeout = 2 ** 31 - 1;

/**
 * A clock that stands still until it is moved. Timers run in the order of their time, those of the same moment in
 * the order in which they were set. After each of them the promise jobs that it caused run to their end.
 */
export class VirtualClock implements Clock {
  #now: number;
  /** By time; of the same time, in the order of setting. */
  readonly #timers: VirtualTimer[] = [];

  constructor(startMs = 0) {
    this.#now = startMs;
  }

  now(): number {
    return this.#now;
  }

  setTimer(ms: number, fn: () => void): ClockTimer {
    const timer: VirtualTimer = { due: this.#now + Math.max(ms, 0), fn };
    let at = this.#timers.length;
    for (let before = this.#timers[at - 1]; before && before.due > timer.due; before = this.#timers[at - 1]) at--;
    this.#timers.splice(at, 0, timer);
    return {
      cancel: () => {
        const index = this.#timers.indexOf(timer);
        if (index >= 0) this.#timers.splice(index, 1);
      },
    };
  }

  sleep(ms: number, signal?: AbortSignal): Promise<void> {
    return sleepOn(this, ms, signal);
  }

  /** How many timers are set. */
  get pending(): number {
    return this.#timers.length;
  }

  /** Milliseconds until the next timer fires; undefined when none is set. */
  next(): number | undefined {
    const first = this.#timers[0];
    return first && Math.max(first.due - this.#now, 0);
  }

  /**
   * Moves time forward by `ms` and runs every timer that falls due on the way, also those that a timer, or what
   * it woke, sets meanwhile. What a timer throws is thrown here, with time standing at that timer's moment.
   */
  async advance(ms: number): Promise<void> {
    if (!(ms >= 0)) throw new RangeError(`time does not go back: ${ms} ms`);
    const target = this.#now + ms;
    await drainJobs();
    while (await this.#runFirst(target)) await drainJobs();
    this.#now = Math.max(this.#now, target);
  }

  /**
   * Moves time to the next timer and runs that one alone.
   *
   * @returns false when no timer is set
   */
  async runNext(): Promise<boolean> {
    await drainJobs();
    const ran = this.#runFirst(Number.POSITIVE_INFINITY);
    await drainJobs();
    return ran;
  }

  #runFirst(limit: number): boolean {
    const first = this.#timers[0];
    if (!first || first.due > limit) return false;
    this.#timers.shift();
    this.#now = Math.max(this.#now, first.due);
    first.fn();
    return true;
  }
}

interface VirtualTimer {
  readonly due: number;
  readonly fn: () => void;
}

/** All promise jobs run before the event loop's next turn. */
function drainJobs(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function sleepOn(clock: Clock, ms: number, signal?: AbortSignal): Promise<void> {
  return new Promise((resolve, reject) => {
    const interrupted = () => {
      timer?.cancel();
      reject(new SystemError('EINTR', `sleep of ${ms} ms was interrupted`));
    };
    let timer: ClockTimer | undefined;
    if (signal?.aborted) {
      interrupted();
      return;
    }
    timer = clock.setTimer(ms, () => {
      signal?.removeEventListener('abort', interrupted);
      resolve();
    });
    signal?.addEventListener('abort', interrupted, { once: true });
  });
}
