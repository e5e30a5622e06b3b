/*
 * A map and a set of which there are very many, or in which things come and go all the time, most of them with a handful of
 * entries. Those stand in one array that is no longer than it has to be, which takes a fraction of the memory of a hash table
 * and is searched as fast.
 *
 * A hash table that becomes empty also leaves its memory behind and takes new one, and the old one leads to the new one: once
 * one of them is old, the engine's collector keeps all that follow, until it looks at everything. The array has no such past.
 */

/** Entries up to which searching is as good as hashing. */
const FEW = 8;
/** What all have that are empty. */
const EMPTY: readonly never[] = [];

/** A map, in the order in which the keys were added. */
export class SmallMap<K, V> {
  /** Key, value, key, value, ... */
  #few: readonly (K | V)[] = EMPTY;
  /** Instead of `#few`, once there are more than a few, and from then on. */
  #many: Map<K, V> | undefined;

  get size(): number {
    return this.#many?.size ?? this.#few.length / 2;
  }

  has(key: K): boolean {
    return this.#many ? this.#many.has(key) : this.#find(key) >= 0;
  }

  get(key: K): V | undefined {
    if (this.#many) return this.#many.get(key);
    const at = this.#find(key);
    return at < 0 ? undefined : this.#valueAt(at);
  }

  set(key: K, value: V): this {
    if (this.#many) {
      this.#many.set(key, value);
      return this;
    }
    const at = this.#find(key);
    if (at >= 0) this.#few = this.#few.with(at + 1, value);
    // not spread into a literal, which would have room to grow
    else if (this.size < FEW) this.#few = this.#few.concat([key, value]);
    else {
      this.#many = new Map(this.entries()).set(key, value);
      this.#few = EMPTY;
    }
    return this;
  }

  /** @returns whether it was there */
  delete(key: K): boolean {
    if (this.#many) return this.#many.delete(key);
    const at = this.#find(key);
    if (at < 0) return false;
    this.#few = this.#few.length === 2 ? EMPTY : this.#few.toSpliced(at, 2);
    return true;
  }

  /** The keys that there are now, whatever becomes of them while they are walked. */
  keys(): K[] {
    return this.entries().map(([key]) => key);
  }

  /** The values, as `keys`. */
  values(): V[] {
    return this.entries().map(([, value]) => value);
  }

  /** The entries, as `keys`. */
  entries(): [K, V][] {
    if (this.#many) return [...this.#many];
    const entries: [K, V][] = [];
    for (let at = 0; at < this.#few.length; at += 2) entries.push([this.#few[at] as K, this.#valueAt(at)]);
    return entries;
  }

  #valueAt(at: number): V {
    return this.#few[at + 1] as V;
  }

  #find(key: K): number {
    for (let at = 0; at < this.#few.length; at += 2) if (this.#few[at] === key) return at;
    return -1;
  }
}

/** A set, in the order in which the values were added. */
export class SmallSet<T> {
  #few: readonly T[] = EMPTY;
  /** Instead of `#few`, as in the map. */
  #many: Set<T> | undefined;

  get size(): number {
    return this.#many?.size ?? this.#few.length;
  }

  has(value: T): boolean {
    return this.#many ? this.#many.has(value) : this.#few.includes(value);
  }

  add(value: T): this {
    if (this.#many) this.#many.add(value);
    else if (this.#few.includes(value)) return this;
    else if (this.#few.length < FEW) this.#few = this.#few.concat([value]);
    else {
      this.#many = new Set(this.#few).add(value);
      this.#few = EMPTY;
    }
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
