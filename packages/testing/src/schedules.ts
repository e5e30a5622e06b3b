/*
 * Which order comes next: all of them depth first, random ones, or a given one.
 */

/** Makes the choices of one run after the other. */
export interface Guide {
  /**
   * Chooses.
   *
   * @param count - how many there are to choose from, more than one
   * @returns 0 to `count - 1`; undefined if an earlier run, which was the same up to here, had another number of choices
   */
  choose(count: number): number | undefined;
  /** A run is over. False if there shall be no other. */
  next(): boolean;
  /** Whether every order was tried. */
  readonly complete: boolean;
}

interface Decision {
  choice: number;
  readonly count: number;
}

/** Every order once: the last choice that has an alternative is changed first. */
export class DepthFirst implements Guide {
  readonly #path: Decision[] = [];
  #depth = 0;
  #complete = false;

  get complete(): boolean {
    return this.#complete;
  }

  choose(count: number): number | undefined {
    const decision = this.#path[this.#depth];
    this.#depth++;
    if (decision === undefined) {
      this.#path.push({ choice: 0, count });
      return 0;
    }
    return decision.count === count ? decision.choice : undefined;
  }

  next(): boolean {
    this.#depth = 0;
    for (let last = this.#path.at(-1); last !== undefined; last = this.#path.at(-1)) {
      if (++last.choice < last.count) return true;
      this.#path.pop();
    }
    this.#complete = true;
    return false;
  }
}

/** Random orders; the same seed gives the same ones. */
export class RandomWalk implements Guide {
  readonly complete = false;
  #state: number;

  /** @param seed - any integer; its low 32 bits count */
  constructor(seed: number) {
    this.#state = seed | 0;
  }

  choose(count: number): number {
    return Math.floor(this.#random() * count);
  }

  next(): boolean {
    return true;
  }

  /** From 0 to less than 1, by mulberry32: 32 bits of state are enough for picking. */
  #random(): number {
    this.#state = (this.#state + 0x6d2b_79f5) | 0;
    let bits = Math.imul(this.#state ^ (this.#state >>> 15), 1 | this.#state);
    bits = (bits + Math.imul(bits ^ (bits >>> 7), 61 | bits)) ^ bits;
    return ((bits ^ (bits >>> 14)) >>> 0) / 2 ** 32;
  }
}

/** One given order; where it is silent, whoever ran last goes on. */
export class Replay implements Guide {
  readonly complete = false;
  readonly #schedule: readonly number[];
  #depth = 0;

  constructor(schedule: readonly number[]) {
    this.#schedule = schedule;
  }

  choose(): number {
    return this.#schedule[this.#depth++] ?? 0;
  }

  next(): boolean {
    return false;
  }
}
