// Regions of the test device that are memory: a plain one, one of which parts can be mapped, the table of MSI-X.

import { PAGE_SIZE, type PageRange, type PhysicalMemory } from '@vfio/host';
import { Msix, stretches } from './layout.js';

/** What an access to a region reaches; offsets and lengths are within it. */
export interface TestRegion {
  readonly size: number;
  read(offset: number, into: Uint8Array): void;
  write(offset: number, from: Uint8Array): void;
}

/** Accesses of a VMM are as long as a register of a processor. */
const SHORT = 8;

/** Bytes, and nothing else. */
export class PlainMemory implements TestRegion {
  readonly bytes: Uint8Array;

  constructor(size: number) {
    this.bytes = new Uint8Array(size);
  }

  get size(): number {
    return this.bytes.length;
  }

  read(offset: number, into: Uint8Array): void {
    const { bytes } = this;
    // a view costs more than copying a few bytes does
    if (into.length > SHORT) into.set(bytes.subarray(offset, offset + into.length));
    else for (let i = 0; i < into.length; i++) into[i] = bytes[offset + i] ?? 0;
  }

  write(offset: number, from: Uint8Array): void {
    this.bytes.set(from, offset);
  }

  clear(): void {
    this.bytes.fill(0);
  }
}

/** Region 1: pages of the host, those of each stretch in one piece, so that they can be given away as such. */
export class PagedMemory implements TestRegion {
  readonly size: number;
  readonly #pieces: readonly { readonly start: number; readonly range: PageRange }[];

  /** @throws ENOMEM - no memory */
  constructor(memory: PhysicalMemory) {
    const pieces: { start: number; range: PageRange }[] = [];
    try {
      for (const { first, pages } of stretches) {
        pieces.push({ start: first * PAGE_SIZE, range: memory.alloc(pages, 'region 1 of testdev') });
      }
    } catch (error) {
      for (const { range } of pieces) range.put();
      throw error;
    }
    this.#pieces = pieces;
    this.size = stretches.reduce((sum, { pages }) => sum + pages * PAGE_SIZE, 0);
  }

  read(offset: number, into: Uint8Array): void {
    this.#each(offset, into, (range, at, part) => range.read(at, part));
  }

  write(offset: number, from: Uint8Array): void {
    this.#each(offset, from, (range, at, part) => range.write(at, part));
  }

  clear(): void {
    for (const { range } of this.#pieces) range.write(0, new Uint8Array(range.length));
  }

  /** The pages that begin at an offset. */
  at(offset: number): PageRange | undefined {
    return this.#pieces.find(({ start }) => start === offset)?.range;
  }

  /** Gives the pages back. */
  free(): void {
    for (const { range } of this.#pieces) range.put();
  }

  #each(offset: number, bytes: Uint8Array, fn: (range: PageRange, at: number, part: Uint8Array) => void): void {
    for (const { start, range } of this.#pieces) {
      const from = Math.max(offset, start);
      const to = Math.min(offset + bytes.length, start + range.length);
      if (from < to) fn(range, from - start, bytes.subarray(from - offset, to - offset));
    }
  }
}

/** Region 4: the table is memory, which only a VMM looks at; the pending bits are the device's. */
export class MsixMemory extends PlainMemory {
  readonly #pending: () => number;

  /** @param pending - a bit for each of 32 vectors */
  constructor(size: number, pending: () => number) {
    super(size);
    this.#pending = pending;
  }

  override read(offset: number, into: Uint8Array): void {
    new DataView(this.bytes.buffer).setUint32(Msix.PENDING, this.#pending(), true);
    super.read(offset, into);
  }

  override write(offset: number, from: Uint8Array): void {
    for (const [i, byte] of from.entries()) if (offset + i < Msix.PENDING) this.bytes[offset + i] = byte;
  }
}
