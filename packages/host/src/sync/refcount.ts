/*
 * Counts of references, with the misuse that a hardened kernel finds: taking the first reference of something that
 * is gone, giving back one too many, and overflow. Checked, these are reported as bugs; unchecked, the count sticks
 * (so that what it protects is never freed again) and the log gets a warning.
 */
import { KernelBug } from '../errors.js';
import { noteOrigin, type Origin, type OriginBoundary } from '../origin.js';
import type { Seams } from '../seams.js';

/** Where a count sticks. Source: include/linux/refcount.h REFCOUNT_SATURATED, as an unsigned number */
const SATURATED = 0xc000_0000;
const LIMIT = 0x7fff_ffff;

/** A number of references. */
export class RefCount {
  readonly #seams: Seams;
  readonly #what: string | { describe(): string };
  /** Where it became zero; in checked mode only. */
  #zeroAt: Origin | undefined;
  #value = 0;

  /** @param what - named in a report */
  constructor(seams: Seams, what: string | { describe(): string }, initial = 0) {
    this.#seams = seams;
    this.#what = what;
    this.#value = initial;
  }

  /** How many references there are. */
  get value(): number {
    return this.#value;
  }

  /** Begins anew, whatever it was. */
  set(n: number): void {
    if (!Number.isSafeInteger(n) || n < 0 || n > LIMIT) throw new RangeError(`not a count of references: ${n}`);
    this.#value = n;
    this.#zeroAt = undefined;
  }

  /**
   * One more; somebody must have one already.
   *
   * @throws KernelBug('refcount') - there was none; in checked mode only
   */
  inc(): void {
    if (this.#value === 0) this.#misuse('taken when it was 0: use after free', this.inc);
    else this.#add(this.inc);
  }

  /** One more, unless there is none. */
  incNotZero(): boolean {
    if (this.#value === 0) return false;
    this.#add(this.incNotZero);
    return true;
  }

  /**
   * One less.
   *
   * @returns true when that was the last
   * @throws KernelBug('refcount') - there was none; in checked mode only
   */
  decAndTest(): boolean {
    if (this.#value === SATURATED) return false;
    if (this.#value === 0) {
      this.#misuse('given back when it was 0: underflow', this.decAndTest);
      return false;
    }
    this.#value--;
    if (this.#value > 0) return false;
    if (this.#seams.checked) this.#zeroAt = noteOrigin(this.decAndTest);
    return true;
  }

  #add(outside: OriginBoundary): void {
    if (this.#value === SATURATED) return;
    if (this.#value === LIMIT) this.#misuse('taken too often: overflow', outside);
    else this.#value++;
  }

  #misuse(how: string, outside: OriginBoundary): void {
    const what = typeof this.#what === 'string' ? this.#what : this.#what.describe();
    if (this.#seams.checked) {
      const zero = this.#zeroAt ? `, the last was given back at ${this.#zeroAt.place}` : '';
      throw new KernelBug('refcount', `reference of ${what} ${how}, at ${noteOrigin(outside).place}${zero}`, {
        origin: this.#zeroAt?.stack,
      });
    }
    this.#value = SATURATED;
    this.#seams.log.warnOn(true, `reference of ${what} ${how}`);
  }
}
