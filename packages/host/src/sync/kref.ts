/*
 * A reference count with what happens at its end.
 */
import type { Seams } from '../seams.js';
import type { LeakKind, Tracked } from '../tracker.js';
import { RefCount } from './refcount.js';

/** The references to one object; it begins with one. */
export class Kref {
  readonly #count: RefCount;
  readonly #release: () => void;
  readonly #tracked: Tracked | undefined;

  /**
   * @param release - called when the last reference is given back
   * @param what - the object, named in a report
   * @param kind - when given, the object is tracked as one of these while it has references
   */
  constructor(seams: Seams, release: () => void, what: string | (() => string), kind?: LeakKind) {
    this.#count = new RefCount(seams, what, 1);
    this.#release = release;
    this.#tracked = kind && seams.tracker.track(kind, typeof what === 'string' ? () => what : what, Kref);
  }

  /** How many references there are. */
  get count(): number {
    return this.#count.value;
  }

  /**
   * Takes a reference; the caller must be protected by another.
   *
   * @throws KernelBug('refcount') - the last was given back already; in checked mode only
   */
  get(): void {
    this.#count.inc();
  }

  /** Takes a reference unless the last was given back. */
  getUnlessZero(): boolean {
    return this.#count.incNotZero();
  }

  /**
   * Gives a reference back.
   *
   * @returns true when that was the last, and `release` has run
   * @throws KernelBug('refcount') - there was none; in checked mode only
   */
  put(): boolean {
    if (!this.#count.decAndTest()) return false;
    this.#tracked?.release();
    this.#release();
    return true;
  }
}
