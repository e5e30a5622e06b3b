// What has arrived and was not handled yet: bytes in one piece of native memory, and the descriptors that came with them.

import type { Linux, NativeMemory, Transfer } from '@vfio/sys';
import { At, HEADER_BYTES } from '../wire/header.js';

/** Descriptors, and the position of the message that they belong to. */
interface Arrival {
  readonly at: number;
  readonly fds: number[];
}

/** How much is received at a time at least; less would cut messages for no reason. */
const leastRoom = 65536;

/**
 * Bytes between `start` and `end`. Nothing is moved while `hold` is up: somebody works on a message in place.
 */
export class Inbox implements Disposable {
  readonly #linux: Linux;
  readonly #transfer: Transfer;
  readonly #memory: NativeMemory;
  #start = 0;
  #end = 0;
  #held = 0;
  /** Bytes of the stream before position 0. */
  #origin = 0;
  /** In the order of arrival; at most one is for a message that is not complete. */
  #arrivals: Arrival[] = [];
  readonly #received: number[] = [];

  /** @param longest - bytes of the longest message */
  constructor(linux: Linux, transfer: Transfer, longest: number) {
    this.#linux = linux;
    this.#transfer = transfer;
    this.#memory = linux.memory(2 * longest + leastRoom, 'an inbox');
  }

  /** The bytes; positions are offsets in it. */
  get view(): DataView {
    return this.#memory.view;
  }

  get bytes(): Uint8Array {
    return this.#memory.bytes;
  }

  /** Position of the first byte that was not taken. */
  get start(): number {
    return this.#start;
  }

  /** Position behind the last byte that has arrived. */
  get end(): number {
    return this.#end;
  }

  /** Where in the whole stream a position is, whatever was moved since. */
  streamPosition(at: number): number {
    return this.#origin + at;
  }

  /** Whether there is room to receive more. */
  get hasRoom(): boolean {
    return this.#memory.length - this.#end > 0 || (this.#held === 0 && this.#start > 0);
  }

  /**
   * Receives what is there. Descriptors belong to the last message that begins in what was received, since a read ends
   * behind the call that sent them; if none begins there, nobody asked for them, and they are closed.
   *
   * @returns bytes, 0 at the end of the stream, NOT_NOW
   * @throws SystemError - what the socket says
   */
  receive(socket: number): number {
    this.#makeRoom();
    const from = this.#end;
    const received = this.#received;
    const count = this.#transfer.receive(socket, this.#memory.address + from, this.#memory.length - from, received);
    if (count > 0) this.#end += count;
    if (received.length > 0) this.#assign(received.splice(0), from, this.#transfer.truncated);
    return count;
  }

  /** Takes the descriptors of the message at a position; they are the caller's to close then. */
  takeFds(at: number): number[] {
    const [first] = this.#arrivals;
    if (first === undefined || first.at !== at) return noFds;
    this.#arrivals.shift();
    return first.fds;
  }

  /** Position of the next message is `at`: what is before it will not be looked at again. */
  advance(at: number): void {
    this.#start = at;
    this.#restart();
  }

  /** Keeps all bytes where they are until `release` is called as often. */
  hold(): void {
    this.#held++;
  }

  release(): void {
    this.#held--;
    this.#restart();
  }

  /** Closes the descriptors that nobody took. */
  [Symbol.dispose](): void {
    for (const { fds } of this.#arrivals) this.#close(fds);
    this.#arrivals = [];
    this.#memory[Symbol.dispose]();
  }

  /** Closes descriptors that nobody wants. */
  #close(fds: readonly number[]): void {
    for (const fd of fds) this.#linux.calls.close(fd);
  }

  /** What is empty begins at the front, where the memory has been touched. */
  #restart(): void {
    if (this.#start !== this.#end || this.#held > 0) return;
    this.#origin += this.#end;
    this.#start = 0;
    this.#end = 0;
  }

  #makeRoom(): void {
    if (this.#held > 0 || this.#start === 0 || this.#memory.length - this.#end >= leastRoom) return;
    this.bytes.copyWithin(0, this.#start, this.#end);
    const moved = this.#start;
    this.#arrivals = this.#arrivals.map(({ at, fds }) => ({ at: at - moved, fds }));
    this.#end -= moved;
    this.#start = 0;
    this.#origin += moved;
  }

  #assign(fds: number[], from: number, truncated: boolean): void {
    let last = -1;
    for (let at = this.#start; at < this.#end; ) {
      if (at >= from) last = at;
      if (this.#end - at < HEADER_BYTES) break;
      const size = this.view.getUint32(at + At.size, true);
      if (size < HEADER_BYTES) break;
      at += size;
    }
    if (last < 0) {
      this.#close(fds);
      return;
    }
    // some were lost: none can be used, as nobody knows which
    if (truncated) this.#close(fds);
    this.#arrivals.push({ at: last, fds: truncated ? [LOST] : fds });
  }
}

/** In place of descriptors that did not arrive. */
export const LOST = -1;

const noFds: number[] = [];
