/*
 * A map and a set for what is made and gone again all the time, with few entries in between. A hash table that becomes empty
 * leaves its memory behind and takes new one, and the old one leads to the new one: once one of them is old, the engine's
 * collector keeps all that follow, until it looks at everything. Here those few entries stand in an array that stays.
 */

/** Entries from which on hashing is better. */
const FEW = 16;

/** A map, in the order in which the keys were added. */
export class FewMap<K, V> {
  readonly #keys: K[] = [];
  readonly #values: V[] = [];
  /** Instead of the arrays, once there are more than a few, and from then on. */
  #many: Map<K, V> | undefined;

  get size(): number {
    return this.#many?.size ?? this.#keys.length;
  }

  has(key: K): boolean {
    return this.#many ? this.#many.has(key) : this.#keys.includes(key);
  }

  get(key: K): V | undefined {
    if (this.#many) return this.#many.get(key);
    const at = this.#keys.indexOf(key);
    return at < 0 ? undefined : this.#values[at];
  }

  set(key: K, value: V): this {
    if (this.#many) {
      this.#many.set(key, value);
      return this;
    }
    const at = this.#keys.indexOf(key);
    if (at >= 0) this.#values[at] = value;
    else if (this.#keys.length < FEW) {
      this.#keys.push(key);
      this.#values.push(value);
    } else {
      this.#many = new Map(this.entries()).set(key, value);
      this.#keys.length = this.#values.length = 0;
    }
    return this;
  }

  /** @returns whether it was there */
  delete(key: K): boolean {
    if (this.#many) return this.#many.delete(key);
    const at = this.#keys.indexOf(key);
    if (at < 0) return false;
    removeAt(this.#keys, at);
    removeAt(this.#values, at);
    return true;
  }

  /** The keys that there are now, whatever becomes of them while they are walked. */
  keys(): K[] {
    return this.#many ? [...this.#many.keys()] : [...this.#keys];
  }

  /** The values, as `keys`. */
  values(): V[] {
    return this.#many ? [...this.#many.values()] : [...this.#values];
  }

  /** The entries, as `keys`. */
  entries(): [K, V][] {
    return this.#many ? [...this.#many] : this.#keys.map((key, at) => [key, this.#values[at] as V]);
  }

  [Symbol.iterator](): IterableIterator<[K, V]> {
    return this.entries()[Symbol.iterator]();
  }
}

/** What all sets without values have. */
const EMPTY: readonly never[] = [];

/** A set, in the order in which the values were added. There may be very many of them: it takes no more than it needs. */
export class FewSet<T> {
  #few: readonly T[] = EMPTY;
  /** Instead of the array, once there are more than a few, and from then on. */
  #many: Set<T> | undefined;

  get size(): number {
    return this.#many?.size ?? this.#few.length;
  }

  has(value: T): boolean {
    return this.#many ? this.#many.has(value) : this.#few.includes(value);
  }

  add(value: T): this {
    if (this.#many) this.#many.add(value);
    else if (this.#few.length >= FEW) {
      this.#many = new Set(this.#few).add(value);
      this.#few = EMPTY;
    } else if (!this.#few.includes(value)) this.#few = this.#few.concat([value]);
    return this;
  }

  /** @returns whether it was there */
  delete(value: T): boolean {
    if (this.#many) return this.#many.delete(value);
    const at = this.#few.indexOf(value);
    if (at < 0) return false;
    this.#few = this.#few.length === 1 ? EMPTY : this.#few.toSpliced(at, 1);
    return true;
  }

  /** The values that there are now, whatever becomes of them while they are walked. */
  [Symbol.iterator](): IterableIterator<T> {
    return [...(this.#many ?? this.#few)][Symbol.iterator]();
  }
}

/** Takes one out of an array, without another array for what was taken. */
function removeAt<T>(array: T[], at: number): void {
  array.copyWithin(at, at + 1);
  array.pop();
}
