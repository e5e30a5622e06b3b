// Memory of the client that a request points to: lists that the kernel reads, bitmaps that it fills.

import type { ByteOrder } from '@vfio/host';
import type { ClientMemory, Transport } from './transport.js';

const bitsPerWord = 64n;
const bytesPerWord = 8;

/** Bytes of a bitmap with a bit for each page of a range, in whole words as the kernel wants it. */
export function bitmapBytes(size: bigint, pageSize: bigint): number {
  const pages = (size + pageSize - 1n) / pageSize;
  return Number((pages + bitsPerWord - 1n) / bitsPerWord) * bytesPerWord;
}

/** A bitmap that the kernel filled, made of words of 64 bits in the caller's byte order: bit k is bit k%8 of byte k/8. */
export function bitmapOf(words: Uint8Array, order: ByteOrder): Uint8Array {
  if (order === 'big')
    for (let at = 0; at < words.length; at += bytesPerWord) words.subarray(at, at + bytesPerWord).reverse();
  return words;
}

/** Memory for the time of one request. */
export class Scratch implements Disposable {
  readonly #memory: ClientMemory;
  /** Bytes. */
  readonly length: number;

  constructor(transport: Transport, length: number) {
    this.length = length;
    this.#memory = transport.allocate(Math.max(length, 1));
  }

  get address(): bigint {
    return this.#memory.address;
  }

  write(bytes: Uint8Array): void {
    this.#memory.write(0, bytes);
  }

  /** What is in it now. */
  bytes(): Uint8Array {
    return this.#memory.read(0, this.length);
  }

  [Symbol.dispose](): void {
    this.#memory.free();
  }
}
