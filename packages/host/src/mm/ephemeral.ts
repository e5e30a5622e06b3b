/*
 * Arguments given as bytes. For the duration of a call they are mapped so that they end exactly at a page that
 * cannot be accessed: reading or writing past their end is EFAULT, as with a buffer before a guard page.
 */
import { EPHEMERAL_BASE, PAGE_SIZE, pageAlign } from './layout.js';

interface Argument {
  readonly start: number;
  readonly bytes: Uint8Array;
}

/** The byte arguments that are mapped just now. */
export class EphemeralArguments {
  readonly #live = new Set<Argument>();
  #next = EPHEMERAL_BASE;

  /** Maps `bytes` until the returned `unmap` is called. */
  map(bytes: Uint8Array): { addr: number; unmap(): void } {
    // A call nests or overlaps with few others; the window starts anew whenever all of them are done.
    if (this.#live.size === 0) this.#next = EPHEMERAL_BASE;
    const end = this.#next + Math.max(PAGE_SIZE, pageAlign(bytes.length));
    this.#next = end + PAGE_SIZE;
    const argument = { start: end - bytes.length, bytes };
    this.#live.add(argument);
    return { addr: argument.start, unmap: () => void this.#live.delete(argument) };
  }

  /** The bytes from `address` to the end of the argument it lies in. */
  find(address: number): Uint8Array | undefined {
    for (const { start, bytes } of this.#live) {
      if (address >= start && address < start + bytes.length) return bytes.subarray(address - start);
    }
    return undefined;
  }
}
