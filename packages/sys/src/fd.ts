// A descriptor with an owner: whoever has the object closes it, once.

import { SystemError } from '@vfio/host';
import type { Linux } from './linux.js';
import type { Entry } from './open-table.js';

/** An open descriptor of this process. */
export class Fd implements Disposable {
  protected readonly linux: Linux;
  readonly #entry: Entry;
  #number: number;

  /**
   * @param number - which becomes this object's to close
   * @param what - `eventfd`, in messages and in the list of what is open
   */
  constructor(linux: Linux, number: number, what: string) {
    this.linux = linux;
    this.#number = number;
    this.#entry = linux.table.add('descriptor', `${what} ${number}`);
  }

  /**
   * Its number.
   *
   * @throws SystemError EBADF - it was closed
   */
  get number(): number {
    if (this.#number < 0) throw new SystemError('EBADF', 'the descriptor was closed');
    return this.#number;
  }

  /** Whether nobody has closed it. */
  get isOpen(): boolean {
    return this.#number >= 0;
  }

  /** Gives the number to somebody else, who closes it. */
  release(): number {
    const { number } = this;
    this.#number = -1;
    this.#entry.release();
    return number;
  }

  /** Closes it; a second call does nothing. */
  close(): void {
    if (this.#number < 0) return;
    const { number } = this;
    this.release();
    // the number is free even when this fails
    this.linux.calls.close(number);
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
