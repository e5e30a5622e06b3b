/*
 * The sleeping lock. It is handed over: who waits longest gets it, and nobody who comes later can take it in between.
 */
import { KernelBug } from '../errors.js';
import { freeRunning } from '../scheduler.js';
import type { Seams } from '../seams.js';
import {
  beforeAcquire,
  type Held,
  HeldLock,
  type LockClassOptions,
  type LockOptions,
  lockSwitchPoint,
} from './held.js';
import type { Acquisition } from './lockdep.js';
import { WaitQueue } from './waiters.js';

const noOptions: LockOptions = {};

/** A lock that one task has at a time; the others wait in the order in which they came. */
export class Mutex {
  readonly #seams: Seams;
  readonly #name: string;
  readonly #validate: boolean;
  /** Made for the first who waits: there are many locks, and hardly ever a line. */
  #waiters: WaitQueue | undefined;
  #locked = false;

  /** @param name - lock class: all mutexes of a name are one to the lock checker */
  constructor(seams: Seams, name: string, options: LockClassOptions = {}) {
    this.#seams = seams;
    this.#name = name;
    this.#validate = options.validate ?? true;
  }

  /** Whether somebody has it. */
  get locked(): boolean {
    return this.#locked;
  }

  /**
   * Takes the lock, after all who wait already.
   *
   * @throws EINTR - `signal` was aborted while waiting
   * @throws KernelBug('lock') - the lock checker refuses it
   * @throws KernelBug('atomic-sleep') - a spin lock is held
   */
  lock(options: LockOptions = noOptions): Promise<Held> {
    const { lockdep, scheduler } = this.#seams;
    // nobody to ask and nobody to wait for: the usual case, on every path there is
    if (!this.#locked && !lockdep.enabled && scheduler === freeRunning) return Promise.resolve(this.#take(undefined));
    return this.#lock(options);
  }

  async #lock(options: LockOptions): Promise<Held> {
    const acquisition = this.#seams.lockdep.enabled ? this.#announce(options) : undefined;
    const turn = lockSwitchPoint(this.#seams, 'mutex', this.#name);
    if (turn !== undefined) await turn;
    if (this.#locked) {
      this.#waiters ??= new WaitQueue();
      await this.#waiters.wait(undefined, `mutex '${this.#name}'`, options.signal);
    }
    return this.#take(acquisition);
  }

  #announce({ subclass }: LockOptions): Acquisition | undefined {
    return beforeAcquire(this.#seams, this, this.#name, this.lock, { subclass, validate: this.#validate });
  }

  /** Takes the lock if nobody has it. */
  tryLock(): Held | undefined {
    if (this.#locked) return undefined;
    return this.#take(beforeAcquire(this.#seams, this, this.#name, this.tryLock, { trylock: true }));
  }

  /** Runs `fn` with the lock held. */
  async runExclusive<T>(fn: () => T | Promise<T>, options?: LockOptions): Promise<T> {
    using _held = await this.lock(options);
    return await fn();
  }

  /**
   * Says that the caller needs the lock; checked in checked mode.
   *
   * @throws KernelBug('lock') - nobody has it, or another task
   */
  assertHeld(): void {
    if (!this.#seams.checked || (this.#locked && this.#seams.lockdep.holds(this) !== false)) return;
    throw new KernelBug('lock', `mutex '${this.#name}' is not held${this.#locked ? ' by this task' : ''}`);
  }

  #take(acquisition: Acquisition | undefined): Held {
    this.#locked = true;
    return new HeldLock(this.#seams, this.#name, acquisition, () => {
      // With somebody in line the lock stays taken: it goes from hand to hand.
      this.#locked = this.#waiters?.wakeFirst() ?? false;
    });
  }
}
