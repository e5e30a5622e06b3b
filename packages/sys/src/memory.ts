// Memory outside of the heap of JavaScript: it has an address that system calls can be given, and does not move.

import type { Entry } from './open-table.js';

/** A piece of memory of the process. */
export class NativeMemory implements Disposable {
  /** Where it is. */
  readonly address: number;
  readonly bytes: Uint8Array;
  readonly view: DataView;
  readonly #entry: Entry;
  readonly #give: () => void;
  #open = true;

  /**
   * Use `Linux.memory` and `Linux.map`.
   *
   * @param give - takes the memory away
   */
  constructor(address: number, buffer: ArrayBuffer, entry: Entry, give: () => void) {
    this.address = address;
    this.bytes = new Uint8Array(buffer);
    this.view = new DataView(buffer);
    this.#entry = entry;
    this.#give = give;
  }

  /** Bytes. */
  get length(): number {
    return this.bytes.length;
  }

  /** Whether nobody has given it back. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** The buffer; of a mapping, the file's own bytes until it is disposed of. */
  get buffer(): ArrayBuffer {
    return this.view.buffer as ArrayBuffer;
  }

  /** Gives it back; a second call does nothing. Whoever still has a view of it sees zeros from now on. */
  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    this.#entry.release();
    this.#give();
  }
}
