/*
 * The buffer of a read or write: bytes of the caller, together with how many it claimed to have. A driver works on
 * `bytes` directly; meeting their end before `length` is the moment a kernel would get EFAULT.
 */
import type { Process } from '../process/process.js';

/** Bytes of a process for the duration of one call. */
export class UserBuffer {
  /** Bytes that the caller asked for. */
  readonly length: number;
  /** The accessible beginning of them, in place; shorter than `length` when the rest would fault. */
  readonly bytes: Uint8Array;
  /** Who makes the call; undefined for one that comes from the kernel itself. */
  readonly process: Process | undefined;
  readonly #writeBack: ((bytes: Uint8Array) => void) | undefined;

  /**
   * @param length - bytes asked for
   * @param bytes - the accessible beginning
   * @param process - who makes the call
   * @param writeBack - when `bytes` is a copy: stores the part that was filled
   */
  constructor(length: number, bytes: Uint8Array, process?: Process, writeBack?: (bytes: Uint8Array) => void) {
    this.length = length;
    this.bytes = bytes;
    this.process = process;
    this.#writeBack = writeBack;
  }

  /**
   * Ends the call: the first `count` bytes were filled. Does nothing unless the memory was in pieces, so that
   * `bytes` had to be a copy. Whoever made the buffer calls this, not the driver that fills it.
   */
  commit(count: number): void {
    this.#writeBack?.(this.bytes.subarray(0, count));
  }
}

/** A buffer over bytes that are all accessible. */
export function userBuffer(bytes: Uint8Array, process?: Process): UserBuffer {
  return new UserBuffer(bytes.length, bytes, process);
}
