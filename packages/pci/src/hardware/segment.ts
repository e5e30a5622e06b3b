/*
 * The slots of one bus, and what is in them.
 */
import type { PciFunction, PciSegment } from '../bus/function.js';

const DEVFNS = 256;

/** A bus's slots, which can be filled and emptied. The kernel side is told by whoever does that. */
export class EmulatedSegment implements PciSegment {
  readonly #functions = new Map<number, PciFunction>();

  /**
   * Puts a function into a slot.
   *
   * @throws RangeError - there is no such slot, or it is taken
   */
  plug(devfn: number, fn: PciFunction): void {
    if (devfn < 0 || devfn >= DEVFNS || this.#functions.has(devfn)) throw new RangeError(`devfn ${devfn} is taken`);
    this.#functions.set(devfn, fn);
  }

  /** Takes a function out of its slot. @returns it, if there was one */
  unplug(devfn: number): PciFunction | undefined {
    const fn = this.#functions.get(devfn);
    this.#functions.delete(devfn);
    fn?.unplug();
    return fn;
  }

  at(devfn: number): PciFunction | undefined {
    return this.#functions.get(devfn);
  }

  devfns(): number[] {
    return [...this.#functions.keys()].sort((a, b) => a - b);
  }

  /** The reset signal of the bus: everybody on it, and behind its bridges. */
  reset(): void {
    for (const fn of this.#functions.values()) fn.busReset();
  }
}
