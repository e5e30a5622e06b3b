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

/** A set, in the order in which the values were added. */
export class FewSet<T> {
  readonly #map = new FewMap<T, true>();

  get size(): number {
    return this.#map.size;
  }

  has(value: T): boolean {
    return this.#map.has(value);
  }

  add(value: T): this {
    this.#map.set(value, true);
    return this;
  }

  /** @returns whether it was there */
  delete(value: T): boolean {
    return this.#map.delete(value);
  }

  /** The values that there are now, whatever becomes of them while they are walked. */
  [Symbol.iterator](): IterableIterator<T> {
    return this.#map.keys()[Symbol.iterator]();
  }
}

/** Takes one out of an array, without another array for what was taken. */
function removeAt<T>(array: T[], at: number): void {
  array.copyWithin(at, at + 1);
  array.pop();
}
