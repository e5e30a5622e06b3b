/*
 * A sorted map from page numbers to numbers, for tables with a million entries: a radix tree of 64 ways, as the kernel's
 * XArray is one. The objects of a tree that compares lie all over the heap, and each step of a look-up waits for memory;
 * here all nodes are in a few typed arrays, the upper ones stay in the caches of the processor, and what somebody looks up
 * among a million costs little more than among a thousand.
 */

const BITS = 6;
const WAYS = 1 << BITS;
const WORD = 32;
/** Levels whose digits are in the lower part of a key; the upper part has the others. */
const LOW_LEVELS = 5;
const LOW_LIMIT = 2 ** (LOW_LEVELS * BITS);
/** No key. */
const NONE = -1;
/** Nodes of each kind to begin with, and the most that an index without keys keeps. */
const FIRST_ROOM = 4;
const KEPT_ROOM = 64;

/**
 * Numbers by key. Keys are whole numbers from 0 to 2^53 - 1; 0 stands for no value. Every operation takes as many steps as
 * the largest key that was ever there has digits of six bits.
 */
export class RadixIndex {
  /** Level 0: 64 values for each leaf. Leaves, as the nodes above them, count from 1. */
  #values = new Float64Array(0);
  /** Which values of a leaf there are: two words each. */
  #valuesUsed = new Int32Array(0);
  readonly #leaves = new Numbers();
  /** The levels above: 64 numbers of what is below for each node, which at level 1 are leaves. */
  #slots = new Int32Array(0);
  #slotsUsed = new Int32Array(0);
  readonly #nodes = new Numbers();
  /** A node, or a leaf if that is the only level. */
  #root = 0;
  #levels = 0;
  /** One more than the largest key that fits in these levels. */
  #limit = 0;
  #size = 0;

  /** How many keys there are. */
  get size(): number {
    return this.#size;
  }

  /** The value of a key. */
  get(key: number): number {
    if (key >= this.#limit) return 0;
    const high = Math.floor(key / LOW_LIMIT);
    const low = key - high * LOW_LIMIT;
    const slots = this.#slots;
    let at = this.#root;
    for (let level = this.#levels - 1; level > 0; level--) {
      at = slots[at * WAYS + digit(high, low, level)] ?? 0;
      if (at === 0) return 0;
    }
    return this.#values[at * WAYS + digit(high, low, 0)] ?? 0;
  }

  /** The highest key that is not above this one, or -1. */
  floor(key: number): number {
    return key < 0 ? NONE : this.#nearest(key, true);
  }

  /** The lowest key that is not below this one, or -1. */
  ceil(key: number): number {
    return this.#nearest(Math.max(key, 0), false);
  }

  /** Gives a key a value, which is not 0. */
  set(key: number, value: number): void {
    while (key >= this.#limit) this.#grow();
    if (this.#root === 0) this.#root = this.#levels > 1 ? this.#newNode() : this.#newLeaf();
    const high = Math.floor(key / LOW_LIMIT);
    const low = key - high * LOW_LIMIT;
    let at = this.#root;
    for (let level = this.#levels - 1; level > 0; level--) {
      const slot = digit(high, low, level);
      let next = this.#slots[at * WAYS + slot] ?? 0;
      if (next === 0) {
        next = level > 1 ? this.#newNode() : this.#newLeaf();
        this.#slots[at * WAYS + slot] = next;
        mark(this.#slotsUsed, at, slot);
      }
      at = next;
    }
    const slot = digit(high, low, 0);
    if (this.#values[at * WAYS + slot] === 0) this.#size++;
    this.#values[at * WAYS + slot] = value;
    mark(this.#valuesUsed, at, slot);
  }

  /** Forgets a key, if there is one. */
  delete(key: number): void {
    if (this.get(key) === 0) return;
    if (--this.#size === 0 && Math.max(this.#leaves.highest, this.#nodes.highest) > KEPT_ROOM) {
      this.clear();
      return;
    }
    const high = Math.floor(key / LOW_LIMIT);
    const low = key - high * LOW_LIMIT;
    if (!this.#prune(this.#root, this.#levels - 1, high, low)) return;
    this.#root = 0;
    this.#levels = 0;
    this.#limit = 0;
  }

  /** Forgets everything. */
  clear(): void {
    this.#values = new Float64Array(0);
    this.#valuesUsed = new Int32Array(0);
    this.#leaves.clear();
    this.#slots = new Int32Array(0);
    this.#slotsUsed = new Int32Array(0);
    this.#nodes.clear();
    this.#root = 0;
    this.#levels = 0;
    this.#limit = 0;
    this.#size = 0;
  }

  /** The key itself, or the nearest one on one side of it. */
  #nearest(key: number, below: boolean): number {
    if (key >= this.#limit) return below ? this.#outermost(this.#root, this.#levels - 1, 0, true) : NONE;
    const high = Math.floor(key / LOW_LIMIT);
    const low = key - high * LOW_LIMIT;
    let at = this.#root;
    // the last way that leads to that side, should the one of the key itself end nowhere
    let fork = 0;
    let forkLevel = 0;
    let forkSlot = 0;
    for (let level = this.#levels - 1; level > 0; level--) {
      const slot = digit(high, low, level);
      const beside = below ? usedBelow(this.#slotsUsed, at, slot) : usedAbove(this.#slotsUsed, at, slot);
      if (beside >= 0) {
        fork = this.#slots[at * WAYS + beside] ?? 0;
        forkLevel = level;
        forkSlot = beside;
      }
      at = this.#slots[at * WAYS + slot] ?? 0;
      if (at === 0) break;
    }
    if (at !== 0) {
      const slot = digit(high, low, 0);
      if (this.#values[at * WAYS + slot] !== 0) return key;
      const beside = below ? usedBelow(this.#valuesUsed, at, slot) : usedAbove(this.#valuesUsed, at, slot);
      if (beside >= 0) return key - slot + beside;
    }
    if (fork === 0) return NONE;
    const start = key - (key % keysBelow(forkLevel + 1)) + forkSlot * keysBelow(forkLevel);
    return this.#outermost(fork, forkLevel - 1, start, below);
  }

  /**
   * The key at one end of what is below a node.
   *
   * @param start - the first key that could be there
   */
  #outermost(node: number, level: number, start: number, last: boolean): number {
    if (node === 0) return NONE;
    let at = node;
    let key = start;
    for (let left = level; left > 0; left--) {
      const slot = last ? usedBelow(this.#slotsUsed, at, WAYS) : usedAbove(this.#slotsUsed, at, -1);
      key += slot * keysBelow(left);
      at = this.#slots[at * WAYS + slot] ?? 0;
    }
    return key + (last ? usedBelow(this.#valuesUsed, at, WAYS) : usedAbove(this.#valuesUsed, at, -1));
  }

  /**
   * Removes a key that is there, and the nodes that are empty then.
   *
   * @returns whether `node` itself was one of them
   */
  #prune(node: number, level: number, high: number, low: number): boolean {
    const slot = digit(high, low, level);
    if (level === 0) {
      this.#values[node * WAYS + slot] = 0;
      if (unmark(this.#valuesUsed, node, slot)) return false;
      this.#leaves.give(node);
      return true;
    }
    if (!this.#prune(this.#slots[node * WAYS + slot] ?? 0, level - 1, high, low)) return false;
    this.#slots[node * WAYS + slot] = 0;
    if (unmark(this.#slotsUsed, node, slot)) return false;
    this.#nodes.give(node);
    return true;
  }

  /** One level more. The new digit of all keys that are there is 0. */
  #grow(): void {
    if (this.#root !== 0) {
      const root = this.#newNode();
      this.#slots[root * WAYS] = this.#root;
      mark(this.#slotsUsed, root, 0);
      this.#root = root;
    }
    this.#levels++;
    this.#limit = keysBelow(this.#levels);
  }

  #newLeaf(): number {
    const leaf = this.#leaves.take();
    if ((leaf + 1) * WAYS > this.#values.length) {
      const values = new Float64Array(room(leaf) * WAYS);
      values.set(this.#values);
      this.#values = values;
      this.#valuesUsed = enlarged(this.#valuesUsed, room(leaf) * 2);
    }
    return leaf;
  }

  #newNode(): number {
    const node = this.#nodes.take();
    if ((node + 1) * WAYS > this.#slots.length) {
      this.#slots = enlarged(this.#slots, room(node) * WAYS);
      this.#slotsUsed = enlarged(this.#slotsUsed, room(node) * 2);
    }
    return node;
  }
}

/** Gives out numbers from 1 on, those that were given back first. */
class Numbers {
  #highest = 0;
  #free: number[] = [];

  /** The highest that was ever given out. */
  get highest(): number {
    return this.#highest;
  }

  take(): number {
    return this.#free.pop() ?? ++this.#highest;
  }

  give(number: number): void {
    this.#free.push(number);
  }

  clear(): void {
    this.#highest = 0;
    this.#free = [];
  }
}

/** The digit of a key that chooses at `level`; the lowest level is 0. */
function digit(high: number, low: number, level: number): number {
  const digits = level < LOW_LEVELS ? low >>> (level * BITS) : high >>> ((level - LOW_LEVELS) * BITS);
  return digits & (WAYS - 1);
}

/** How many keys there can be below one slot of a node of `level`. */
function keysBelow(level: number): number {
  return WAYS ** level;
}

function mark(used: Int32Array, node: number, slot: number): void {
  const word = node * 2 + (slot >>> 5);
  used[word] = (used[word] ?? 0) | (1 << slot);
}

/** Says whether another slot of the node is used. */
function unmark(used: Int32Array, node: number, slot: number): boolean {
  const word = node * 2 + (slot >>> 5);
  used[word] = (used[word] ?? 0) & ~(1 << slot);
  return used[node * 2] !== 0 || used[node * 2 + 1] !== 0;
}

/** The last used slot before one, or -1. */
function usedBelow(used: Int32Array, node: number, slot: number): number {
  const upper = slot > WORD ? (used[node * 2 + 1] ?? 0) & bitsBelow(slot - WORD) : 0;
  if (upper !== 0) return 2 * WORD - 1 - Math.clz32(upper);
  return WORD - 1 - Math.clz32((used[node * 2] ?? 0) & bitsBelow(Math.min(slot, WORD)));
}

/** The first used slot after one, or -1. */
function usedAbove(used: Int32Array, node: number, slot: number): number {
  const lower = slot < WORD - 1 ? (used[node * 2] ?? 0) & ~bitsBelow(slot + 1) : 0;
  if (lower !== 0) return WORD - 1 - Math.clz32(lower & -lower);
  const upper = (used[node * 2 + 1] ?? 0) & ~bitsBelow(Math.max(slot + 1 - WORD, 0));
  return upper === 0 ? -1 : 2 * WORD - 1 - Math.clz32(upper & -upper);
}

/** The bits below one of a word, or all. */
function bitsBelow(bit: number): number {
  return bit === WORD ? -1 : (1 << bit) - 1;
}

/** For how many nodes to make room when there is none for one more. */
function room(node: number): number {
  return Math.max(FIRST_ROOM, 2 * node);
}

function enlarged(array: Int32Array, length: number): Int32Array<ArrayBuffer> {
  const copy = new Int32Array(length);
  copy.set(array);
  return copy;
}
