/*
 * A reference count with what happens at its end.
 */
import type { Seams } from '../seams.js';
import type { LeakKind, Tracked } from '../tracker.js';
import { RefCount } from './refcount.js';

/** What references are counted of. An object that knows both spares two functions for each of its kind. */
export interface Counted {
  /** Names the object in a report. */
  describe(): string;
  /** The last reference was given back. */
  released(): void;
}

/** The references to one object; it begins with one. */
export class Kref {
  readonly #count: RefCount;
  readonly #counted: Counted;
  readonly #tracked: Tracked | undefined;

  /** @param kind - when given, the object is tracked as one of these while it has references */
  constructor(seams: Seams, counted: Counted, kind?: LeakKind) {
    this.#count = new RefCount(seams, counted, 1);
    this.#counted = counted;
    this.#tracked = kind && seams.tracker.track(kind, () => counted.describe(), Kref);
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
   * @returns true when that was the last, and `released` has run
   * @throws KernelBug('refcount') - there was none; in checked mode only
   */
  put(): boolean {
    if (!this.#count.decAndTest()) return false;
    this.#tracked?.release();
    this.#counted.released();
    return true;
  }
}
