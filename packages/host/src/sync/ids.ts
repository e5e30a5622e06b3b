/*
 * Numbers that are in use one at a time: minors, group ids, device indices. The lowest free one is handed out.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';

/** Hands out numbers from 0 (or `min`) up to `max`, the lowest free one first. */
export class IdAllocator {
  readonly #seams: Seams;
  readonly #name: string;
  readonly #min: number;
  readonly #max: number;
  /** One bit for each number, from `min` on. */
  #words = new Uint32Array(2);
  /** All words before this one are full. */
  #firstFree = 0;
  #used = 0;

  /**
   * @param max - the highest number, itself included
   * @param min - the lowest
   */
  constructor(seams: Seams, name: string, max: number, min = 0) {
    if (!Number.isSafeInteger(min) || !Number.isSafeInteger(max) || min < 0 || max < min || max > 0x7fff_ffff) {
      throw new RangeError(`not a range of ids: ${min}-${max}`);
    }
    this.#seams = seams;
    this.#name = name;
    this.#min = min;
    this.#max = max;
  }

  /** How many numbers are in use. */
  get used(): number {
    return this.#used;
  }

  /** Whether a number is in use. */
  has(n: number): boolean {
    const bit = n - this.#min;
    return (
      bit >= 0 && n <= this.#max && Number.isInteger(n) && ((this.#words[bit >>> 5] ?? 0) & (1 << (bit & 31))) !== 0
    );
  }

  /**
   * Takes the lowest free number.
   *
   * @throws ENOSPC - all are in use
   * @throws ENOMEM - a fault was injected
   */
  alloc(): number {
    this.#seams.faults.check(`ida_alloc:${this.#name}`);
    const bit = this.#lowestFree();
    const n = bit + this.#min;
    if (n > this.#max) throw new SystemError('ENOSPC', `all ${this.#used} ids of ${this.#name} are in use`);
    const word = bit >>> 5;
    if (word >= this.#words.length) this.#grow();
    this.#words[word] = (this.#words[word] ?? 0) | (1 << (bit & 31));
    this.#used++;
    return n;
  }

  /**
   * Gives a number back.
   *
   * @throws KernelBug('double-free') - it was not in use; a WARN in unchecked mode
   */
  free(n: number): void {
    if (!this.has(n)) {
      const text = `id ${n} of ${this.#name} is freed but not in use`;
      if (this.#seams.checked) throw new KernelBug('double-free', text);
      this.#seams.log.warnOn(true, text);
      return;
    }
    const bit = n - this.#min;
    const word = bit >>> 5;
    this.#words[word] = (this.#words[word] ?? 0) & ~(1 << (bit & 31));
    this.#firstFree = Math.min(this.#firstFree, word);
    this.#used--;
  }

  #lowestFree(): number {
    let word = this.#firstFree;
    while (word < this.#words.length && this.#words[word] === 0xffff_ffff) word++;
    this.#firstFree = word;
    const free = ~(this.#words[word] ?? 0);
    return word * 32 + (31 - Math.clz32(free & -free));
  }

  #grow(): void {
    const words = new Uint32Array(this.#words.length * 2);
    words.set(this.#words);
    this.#words = words;
  }
}
