/*
 * What every part of a host is built on, in one place: the seams at which a test makes steps fail, moves time,
 * decides who runs next and looks what was forgotten. `Host` is one of these; a part can be tried on its own with
 * `createSeams()`.
 */
import { type Clock, type ClockTimer, RealClock } from './clock.js';
import { Faults } from './faults.js';
import { KernelLog, type KernelLogOptions } from './log.js';
import { freeRunning, type Scheduler } from './scheduler.js';
import { Lockdep } from './sync/lockdep.js';
import { Tracker } from './tracker.js';

/** The seams of a host. */
export interface Seams {
  /** Whether misuse is looked for, as a kernel with KASAN and lockdep does. */
  readonly checked: boolean;
  readonly clock: Clock;
  readonly log: KernelLog;
  readonly faults: Faults;
  readonly scheduler: Scheduler;
  readonly tracker: Tracker;
  readonly lockdep: Lockdep;
}

/** What the seams are made of. */
export interface SeamsOptions {
  /** Default: true in tests, that is when `NODE_ENV` is `test`. */
  readonly checked?: boolean;
  /** Default: the machine's clock. */
  readonly clock?: Clock;
  /** Default: the order of the event loop. */
  readonly scheduler?: Scheduler;
  readonly log?: KernelLogOptions;
}

/** Makes seams: new ones, that share nothing but the clock they are given. */
export function createSeams(options: SeamsOptions = {}): Seams {
  const checked = options.checked ?? process.env.NODE_ENV === 'test';
  const tracker = new Tracker(checked);
  const lockdep = new Lockdep(checked);
  const source = options.clock ?? new RealClock();
  const log = new KernelLog(source, options.log);
  const clock = new SeamClock(source, tracker, lockdep, log);
  return { checked, clock, log, faults: new Faults(), scheduler: options.scheduler ?? freeRunning, tracker, lockdep };
}

/** A clock whose timers are tracked, run as tasks of their own, and cannot bring down whoever moves the time. */
class SeamClock implements Clock {
  readonly #source: Clock;
  readonly #tracker: Tracker;
  readonly #lockdep: Lockdep;
  readonly #log: KernelLog;

  constructor(source: Clock, tracker: Tracker, lockdep: Lockdep, log: KernelLog) {
    this.#source = source;
    this.#tracker = tracker;
    this.#lockdep = lockdep;
    this.#log = log;
  }

  now(): number {
    return this.#source.now();
  }

  setTimer(ms: number, fn: () => void): ClockTimer {
    const due = this.now() + ms;
    const tracked = this.#tracker.track('timer', () => `for ${due} ms`);
    let pending = true;
    const done = () => {
      if (pending) tracked.release();
      pending = false;
    };
    const timer = this.#source.setTimer(ms, () => {
      done();
      try {
        this.#lockdep.spawn('timer', fn);
      } catch (error) {
        this.#log.oops(error, 'timer');
      }
    });
    return {
      cancel: () => {
        done();
        timer.cancel();
      },
    };
  }

  async sleep(ms: number, signal?: AbortSignal): Promise<void> {
    this.#lockdep.mightSleep('sleep');
    const tracked = this.#tracker.track('timer', () => `sleep of ${ms} ms`);
    try {
      await this.#source.sleep(ms, signal);
    } finally {
      tracked.release();
    }
  }
}
