// Copies between region 0 and the client's memory: at once where the memory is at hand, and otherwise while other commands
// are answered.

import { VfioError } from '@vfio/core';
import { type DmaEngine, Errno, isSystemError } from '@vfio/host';
import type { SocketClient } from '../server/socket-device.js';
import type { PlainMemory } from './memory.js';

/** What is copied. */
export interface Copy {
  /** In the client's memory. */
  readonly address: bigint;
  /** In region 0. */
  readonly offset: number;
  readonly length: number;
  /** To the client's memory. */
  readonly store: boolean;
  /** By messages in any case. */
  readonly byMessage: boolean;
}

/** The copies of one device, one at a time. */
export class Copies {
  readonly #dma: DmaEngine;
  readonly #memory: PlainMemory;
  readonly #done: (errno: number) => void;
  #current: symbol | undefined;
  client: SocketClient | undefined;

  /** @param done - hears how a copy that took its time has ended */
  constructor(dma: DmaEngine, memory: PlainMemory, done: (errno: number) => void) {
    this.#dma = dma;
    this.#memory = memory;
    this.#done = done;
  }

  get isBusy(): boolean {
    return this.#current !== undefined;
  }

  /**
   * Begins a copy.
   *
   * @returns 0 or the errno of one that is complete; EINPROGRESS for one that goes on
   */
  begin(copy: Copy): number {
    if (this.isBusy) return Errno.EBUSY;
    if (copy.offset + copy.length > this.#memory.size) return Errno.EINVAL;
    // what arrives after a reset must not be seen in the memory, and what is sent must stay as it is
    const bytes = new Uint8Array(copy.length);
    if (copy.store) this.#memory.read(copy.offset, bytes);
    try {
      const pending = this.#transfer(copy, bytes);
      if (pending !== undefined) return this.#goOn(copy, bytes, pending);
      this.#arrived(copy, bytes);
      return 0;
    } catch (error) {
      return errnoOf(error);
    }
  }

  /** Nobody waits for the copy any more; what is left of it has no effect here. */
  cancel(): void {
    this.#current = undefined;
  }

  #goOn(copy: Copy, bytes: Uint8Array, pending: Promise<void>): number {
    const mine = Symbol('copy');
    this.#current = mine;
    const end = (errno: number) => {
      if (this.#current !== mine) return;
      this.#current = undefined;
      if (errno === 0) this.#arrived(copy, bytes);
      this.#done(errno);
    };
    void pending.then(
      () => end(0),
      (error: unknown) => end(errnoOf(error)),
    );
    return Errno.EINPROGRESS;
  }

  #arrived({ store, offset }: Copy, bytes: Uint8Array): void {
    if (!store) this.#memory.write(offset, bytes);
  }

  #transfer({ address, store, byMessage }: Copy, bytes: Uint8Array): void | Promise<void> {
    if (!byMessage) return store ? this.#dma.write(address, bytes) : this.#dma.read(address, bytes);
    const { client } = this;
    if (!client) throw new VfioError('EOPNOTSUPP', 'whoever has the device takes no messages');
    // what is not mapped, or not for this, is not asked for
    this.#dma.view(address, bytes.length, store);
    return store ? client.writeMemory(address, bytes) : client.readMemory(address, bytes);
  }
}

/** @throws error - it is none of those that a device meets */
function errnoOf(error: unknown): number {
  if (!isSystemError(error)) throw error;
  return -error.errno;
}
