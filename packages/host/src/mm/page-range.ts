/*
 * A run of page frames, with the bytes behind them made on first touch: it costs nothing until somebody writes to it.
 */
import { KernelBug } from '../errors.js';
import type { Tracked } from '../tracker.js';
import { HUGE_PAGE_SIZE, PAGE_SIZE } from './layout.js';

/** Whose frames they are. */
export interface PageRangeOwner {
  /** The range has been touched where it was not before, or was moved. */
  blockMade(): void;
  /** Its last reference is gone. */
  releaseRange(range: PageRange): void;
}

/** What a {@link PageRange} is made of. */
export interface PageRangeParts {
  readonly basePfn: number;
  readonly pages: number;
  readonly tracked: Tracked;
  readonly hugePages?: number;
  /** Memory that exists already. */
  readonly storage?: Uint8Array;
}

/**
 * A run of consecutive page frames. It is reference counted: each mapping and each pin holds one reference, and
 * the frames return to the host when the last is put.
 */
export class PageRange {
  readonly basePfn: number;
  readonly pages: number;
  readonly #owner: PageRangeOwner;
  readonly #tracked: Tracked;
  /** Storage in blocks of `#blockBytes`; a hole reads as zeros. */
  readonly #blocks: (Uint8Array | undefined)[] = [];
  #blockBytes: number;
  /** Huge pages of the pool that the range is made of. */
  readonly hugePages: number;
  #count = 1;

  /** Ranges are made by `PhysicalMemory.alloc` and `PhysicalMemory.adopt`. */
  constructor(owner: PageRangeOwner, parts: PageRangeParts) {
    const { storage } = parts;
    this.#owner = owner;
    this.basePfn = parts.basePfn;
    this.pages = parts.pages;
    this.hugePages = parts.hugePages ?? 0;
    this.#tracked = parts.tracked;
    this.#blockBytes = storage === undefined ? HUGE_PAGE_SIZE : storage.length;
    if (storage !== undefined) this.#blocks[0] = storage;
  }

  /** Bytes in the range. */
  get length(): number {
    return this.pages * PAGE_SIZE;
  }

  /** References held. */
  get count(): number {
    return this.#count;
  }

  /** Takes a reference. */
  get(): this {
    if (this.#count === 0) throw new KernelBug('use-after-free', `get of freed frames ${this.#name()}`);
    this.#count++;
    return this;
  }

  /** Gives a reference back; the last one frees the frames. */
  put(): void {
    if (this.#count === 0) throw new KernelBug('double-free', `put of freed frames ${this.#name()}`);
    if (--this.#count > 0) return;
    this.#blocks.length = 0;
    this.#tracked.release();
    this.#owner.releaseRange(this);
  }

  /**
   * The bytes from `offset` up to `length` of them or to the end of their block, whichever comes first: a view of
   * at least one byte, made of zeros on first touch.
   */
  span(offset: number, length: number): Uint8Array {
    const index = Math.floor(offset / this.#blockBytes);
    const within = offset - index * this.#blockBytes;
    const block = this.#blocks[index] ?? this.#populate(index);
    return block.subarray(within, Math.min(within + length, block.length));
  }

  /** True when the block at `offset` has been touched; an untouched one reads as zeros. */
  populated(offset: number): boolean {
    return this.#blocks[Math.floor(offset / this.#blockBytes)] !== undefined;
  }

  /** Copies bytes out without making untouched blocks. */
  read(offset: number, into: Uint8Array): void {
    for (let done = 0; done < into.length; ) {
      const at = offset + done;
      const length = Math.min(into.length - done, this.#blockBytes - (at % this.#blockBytes));
      if (this.populated(at)) into.set(this.span(at, length), done);
      else into.fill(0, done, done + length);
      done += length;
    }
  }

  /** Copies bytes in. */
  write(offset: number, from: Uint8Array): void {
    for (let done = 0; done < from.length; ) {
      const target = this.span(offset + done, from.length - done);
      target.set(target.length === from.length ? from : from.subarray(done, done + target.length));
      done += target.length;
    }
  }

  /** Copies what `source` holds from `sourceOffset` on into this range, which is taken to be fresh. */
  copyFrom(source: PageRange, sourceOffset: number): void {
    for (let done = 0; done < this.length; ) {
      const at = sourceOffset + done;
      const toBlockEnd = source.#blockBytes - (at % source.#blockBytes);
      const length = Math.min(this.length - done, toBlockEnd);
      if (source.populated(at)) this.write(done, source.span(at, length));
      done += length;
    }
  }

  /**
   * Moves the bytes elsewhere, as the migration of pages does: into memory that another program maps too, for instance, or
   * out of it again. The frames stay; views that were given out before are of no use any more.
   *
   * @param storage - as long as the range, and zero where nobody has touched it
   */
  moveTo(storage: Uint8Array): void {
    if (storage.length !== this.length) throw new RangeError(`${storage.length} bytes for ${this.length}`);
    if (this.#count === 0) throw new KernelBug('use-after-free', `move of freed frames ${this.#name()}`);
    for (const [index, block] of this.#blocks.entries()) {
      if (block !== undefined) storage.set(block, index * this.#blockBytes);
    }
    this.#blocks.splice(0, this.#blocks.length, storage);
    this.#blockBytes = storage.length;
    this.#owner.blockMade();
  }

  #populate(index: number): Uint8Array {
    if (this.#count === 0) throw new KernelBug('use-after-free', `access to freed frames ${this.#name()}`);
    const block = new Uint8Array(Math.min(this.#blockBytes, this.length - index * this.#blockBytes));
    this.#blocks[index] = block;
    this.#owner.blockMade();
    return block;
  }

  #name(): string {
    return `${this.basePfn.toString(16)}+${this.pages}`;
  }
}
