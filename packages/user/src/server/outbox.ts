// What is to be sent and was not sent yet. Messages are written in place, one behind the other, and given to the socket in
// one call; descriptors begin a call of their own, as they travel with its first byte.

import { type Linux, type NativeMemory, NOT_NOW, type Transfer } from '@vfio/sys';

/** More than this that the other side does not read stops the handling of its commands. */
const congested = 1 << 20;

/** Descriptors of a message. */
interface Attachment {
  /** Position of the message. */
  readonly at: number;
  readonly fds: readonly number[];
  readonly sent: () => void;
}

/** Messages on their way out. */
export class Outbox implements Disposable {
  readonly #linux: Linux;
  readonly #transfer: Transfer;
  #memory: NativeMemory;
  #start = 0;
  #end = 0;
  /** Messages with descriptors, in order. */
  #attached: Attachment[] = [];

  /** @param longest - bytes of the longest message */
  constructor(linux: Linux, transfer: Transfer, longest: number) {
    this.#linux = linux;
    this.#transfer = transfer;
    this.#memory = linux.memory(longest + congested, 'an outbox');
  }

  /** Whether everything was sent. */
  get isEmpty(): boolean {
    return this.#start === this.#end;
  }

  /** Whether the other side should read before more is asked of this one. */
  get isCongested(): boolean {
    return this.#end - this.#start > congested;
  }

  /** Where messages are written; changes with `reserve`. */
  get view(): DataView {
    return this.#memory.view;
  }

  get bytes(): Uint8Array {
    return this.#memory.bytes;
  }

  /**
   * Makes room for a message.
   *
   * @returns the position to write it at; it becomes part of what is sent with `commit`
   */
  reserve(length: number): number {
    if (this.#memory.length - this.#end < length) this.#makeRoom(length);
    return this.#end;
  }

  /** The message at the position of the last `reserve` is complete. */
  commit(length: number): void {
    this.#end += length;
  }

  /**
   * As `commit`, of a message with descriptors.
   *
   * @param sent - called when they need not stay open any more: they were sent, or never will be
   */
  commitWithFds(length: number, fds: readonly number[], sent: () => void): void {
    this.#attached.push({ at: this.#end, fds, sent });
    this.#end += length;
  }

  /**
   * Gives the memory away to somebody who still writes to what was reserved, and goes on with another one.
   *
   * @returns the memory; its new owner disposes of it
   */
  giveAway(): NativeMemory {
    const old = this.#memory;
    const next = this.#linux.memory(old.length, 'an outbox');
    next.bytes.set(old.bytes.subarray(this.#start, this.#end));
    this.#moveToStart();
    this.#memory = next;
    return old;
  }

  /**
   * Sends as much as goes.
   *
   * @returns whether everything was sent
   * @throws SystemError - what the socket says; EPIPE when the other side is gone
   */
  flush(socket: number): boolean {
    while (this.#start < this.#end) {
      const [next] = this.#attached;
      const mine = next?.at === this.#start;
      const end = (mine ? this.#attached[1]?.at : next?.at) ?? this.#end;
      const address = this.#memory.address + this.#start;
      const count = this.#transfer.send(socket, address, end - this.#start, mine ? next.fds : undefined);
      if (count === NOT_NOW) return false;
      this.#start += count;
      if (mine) this.#attached.shift()?.sent();
    }
    this.#start = 0;
    this.#end = 0;
    return true;
  }

  [Symbol.dispose](): void {
    for (const { sent } of this.#attached.splice(0)) sent();
    this.#memory[Symbol.dispose]();
  }

  #makeRoom(length: number): void {
    const used = this.#end - this.#start;
    const { bytes } = this.#memory;
    if (bytes.length - used >= length) {
      bytes.copyWithin(0, this.#start, this.#end);
    } else {
      const larger = this.#linux.memory(2 * (used + length), 'an outbox');
      larger.bytes.set(bytes.subarray(this.#start, this.#end));
      this.#memory[Symbol.dispose]();
      this.#memory = larger;
    }
    this.#moveToStart();
  }

  #moveToStart(): void {
    const moved = this.#start;
    this.#attached = this.#attached.map((attachment) => ({ ...attachment, at: attachment.at - moved }));
    this.#end -= moved;
    this.#start = 0;
  }
}
