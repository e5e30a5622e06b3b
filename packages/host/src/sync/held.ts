/*
 * What the taker of a lock holds in hand, common to all locks that can be waited for.
 */
import { KernelBug } from '../errors.js';
import { noteOrigin, type OriginBoundary } from '../origin.js';
import { freeRunning } from '../scheduler.js';
import type { Seams } from '../seams.js';
import type { AcquireOptions, Acquisition } from './lockdep.js';

/** Frames that are kept of each acquisition: locks are taken too often for more. */
export const LOCK_FRAMES = 4;

/** A lock that is held. `using held = await mutex.lock();` gives it back at the end of the block. */
export interface Held extends Disposable {
  /**
   * Gives the lock back.
   *
   * @throws KernelBug('lock') - it was given back before
   */
  release(): void;
}

/** How to wait for a lock. */
export interface LockOptions {
  /** Tells nested locks of one class apart, for the lock checker. */
  readonly subclass?: number;
  /** Ends the wait early. */
  readonly signal?: AbortSignal;
}

/** What a lock is besides its name. */
export interface LockClassOptions {
  /** False for a class whose order follows a tree that the checker cannot know (the lock of a device). */
  readonly validate?: boolean;
}

/** A lock in somebody's hand; `giveBack` is called once. */
export class HeldLock implements Held {
  readonly #name: string;
  readonly #giveBack: () => void;
  readonly #seams: Seams;
  readonly #acquisition: Acquisition | undefined;
  #released = false;

  constructor(seams: Seams, name: string, acquisition: Acquisition | undefined, giveBack: () => void) {
    this.#seams = seams;
    this.#name = name;
    this.#acquisition = acquisition;
    this.#giveBack = giveBack;
    if (acquisition) seams.lockdep.acquired(acquisition);
  }

  release(): void {
    if (this.#released) {
      throw new KernelBug('lock', `'${this.#name}' is released twice`, { origin: this.#acquisition?.at.stack });
    }
    this.#released = true;
    if (this.#acquisition) this.#seams.lockdep.release(this.#acquisition);
    this.#giveBack();
  }

  [Symbol.dispose](): void {
    this.release();
  }
}

/** Tells the lock checker, in checked mode, that a lock is about to be taken. */
export function beforeAcquire(
  seams: Seams,
  lock: object,
  name: string,
  outside: OriginBoundary,
  options: AcquireOptions,
): Acquisition | undefined {
  if (!seams.lockdep.enabled) return undefined;
  if (!options.trylock) seams.lockdep.mightSleep(`lock '${name}'`);
  return seams.lockdep.acquire(lock, name, noteOrigin(outside, LOCK_FRAMES), options);
}

/** Where others may overtake who is about to take a lock; a promise when it is somebody else's turn. */
export function lockSwitchPoint({ scheduler }: Seams, kind: string, name: string): Promise<void> | undefined {
  return scheduler === freeRunning ? undefined : scheduler.switchPoint(`${kind} ${name}`);
}
