/*
 * A map for objects of which there are very many, most of them with a handful of entries: those stand in one array that is
 * no longer than it has to be, which takes a fraction of the memory of a hash table and is searched as fast.
 */

/** Entries up to which searching is as good as hashing. */
const FEW = 8;
/** What all maps without entries have. */
const EMPTY: readonly never[] = [];

/** A map by name, in the order in which the names were added. */
export class SmallMap<V> {
  /** Name, value, name, value, ... */
  #few: readonly (string | V)[] = EMPTY;
  /** Instead of `#few`, once there are more than a few. */
  #many: Map<string, V> | undefined;

  get size(): number {
    return this.#many?.size ?? this.#few.length / 2;
  }

  has(name: string): boolean {
    return this.#many ? this.#many.has(name) : this.#find(name) >= 0;
  }

  get(name: string): V | undefined {
    if (this.#many) return this.#many.get(name);
    const at = this.#find(name);
    return at < 0 ? undefined : this.#valueAt(at);
  }

  set(name: string, value: V): void {
    if (this.#many) {
      this.#many.set(name, value);
      return;
    }
    const at = this.#find(name);
    if (at >= 0) this.#few = this.#few.with(at + 1, value);
    else if (this.size < FEW)
      this.#few = this.#few.concat([name, value]); // no longer than it has to be
    else {
      this.#many = new Map(this.entries()).set(name, value);
      this.#few = EMPTY;
    }
  }

  delete(name: string): void {
    this.#many?.delete(name);
    const at = this.#find(name);
    if (at >= 0) this.#few = this.#few.length === 2 ? EMPTY : this.#few.toSpliced(at, 2);
  }

  /** The entries that there are now, whatever becomes of them while they are walked. */
  entries(): [string, V][] {
    if (this.#many) return [...this.#many];
    const entries: [string, V][] = [];
    for (let at = 0; at < this.#few.length; at += 2) entries.push([this.#few[at] as string, this.#valueAt(at)]);
    return entries;
  }

  #valueAt(at: number): V {
    return this.#few[at + 1] as V;
  }

  #find(name: string): number {
    for (let at = 0; at < this.#few.length; at += 2) if (this.#few[at] === name) return at;
    return -1;
  }
}
