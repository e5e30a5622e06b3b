/*
 * The lock of sections in which nobody waits. In one thread it needs no waiting line: a synchronous section is
 * never interrupted. What it adds is the rule, enforced: no `await` inside, and no second time.
 */
import { KernelBug } from '../errors.js';
import { noteOrigin } from '../origin.js';
import type { Seams } from '../seams.js';
import { LOCK_FRAMES } from './held.js';

/** A lock around code that must run in one go. */
export class SpinLock {
  readonly #seams: Seams;
  readonly #name: string;
  #held = false;

  /** @param name - lock class: all spin locks of a name are one to the lock checker */
  constructor(seams: Seams, name: string) {
    this.#seams = seams;
    this.#name = name;
  }

  /** Whether a section of this lock runs. */
  get locked(): boolean {
    return this.#held;
  }

  /**
   * Runs a section.
   *
   * @throws KernelBug('atomic-sleep') - `fn` gave a promise, or waited for a lock (the latter in checked mode)
   * @throws KernelBug('lock') - the section was entered from inside itself, or the lock checker refuses it
   */
  run<T>(fn: () => T): T {
    if (this.#held) throw new KernelBug('lock', `spin lock '${this.#name}' is taken by the section that holds it`);
    return this.#seams.lockdep.enabled ? this.#runChecked(fn) : this.#run(fn);
  }

  /**
   * Says that the caller must be in a section of this lock; checked in checked mode.
   *
   * @throws KernelBug('lock') - it is not
   */
  assertHeld(): void {
    if (this.#seams.checked && !this.#held) throw new KernelBug('lock', `spin lock '${this.#name}' is not held`);
  }

  #runChecked<T>(fn: () => T): T {
    const { lockdep } = this.#seams;
    const acquisition = lockdep.acquire(this, this.#name, noteOrigin(this.run, LOCK_FRAMES));
    lockdep.acquired(acquisition);
    lockdep.enterAtomic(this.#name, acquisition.at);
    try {
      return this.#run(fn);
    } finally {
      lockdep.leaveAtomic();
      lockdep.release(acquisition);
    }
  }

  #run<T>(fn: () => T): T {
    this.#held = true;
    try {
      const result = fn();
      if (result instanceof Promise) {
        // What becomes of it does not matter any more; it must not be reported a second time.
        result.catch(() => {});
        throw new KernelBug('atomic-sleep', `the section of spin lock '${this.#name}' is asynchronous`);
      }
      return result;
    } finally {
      this.#held = false;
    }
  }
}
