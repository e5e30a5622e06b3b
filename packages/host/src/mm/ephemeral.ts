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
  /** Few: a call nests or overlaps with hardly any other. */
  readonly #live: Argument[] = [];
  #next = EPHEMERAL_BASE;

  /** Maps `bytes` until the returned `unmap` is called. */
  map(bytes: Uint8Array): { addr: number; unmap(): void } {
    // The window starts anew whenever all of them are done.
    if (this.#live.length === 0) this.#next = EPHEMERAL_BASE;
    const end = this.#next + Math.max(PAGE_SIZE, pageAlign(bytes.length));
    this.#next = end + PAGE_SIZE;
    const argument = { start: end - bytes.length, bytes };
    this.#live.push(argument);
    return { addr: argument.start, unmap: () => this.#remove(argument) };
  }

  #remove(argument: Argument): void {
    const at = this.#live.lastIndexOf(argument);
    if (at >= 0) this.#live.splice(at, 1);
  }

  /** The bytes from `address` to the end of the argument it lies in. */
  find(address: number): Uint8Array | undefined {
    for (const { start, bytes } of this.#live) {
      if (address >= start && address < start + bytes.length) return bytes.subarray(address - start);
    }
    return undefined;
  }
}
