/*
 * Physical memory of a host: page frames by number, with the bytes behind them made on first touch. A range of
 * frames costs nothing until somebody writes to it, so a guest of 64 GiB is as cheap as its working set.
 */
import { BTree } from '../b-tree.js';
import { KernelBug, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import type { Tracked } from '../tracker.js';
import { HUGE_PAGE_SIZE, PAGE_SIZE } from './layout.js';

/** Frames below 4 GiB are left to firmware and device windows. */
const FIRST_PFN = 0x10_0000;
/** One past the last frame: 52 bits of physical address. */
const END_PFN = 2 ** 40;

/** A window of device registers in the physical address space, as the target of DMA from another device. */
export interface MmioWindow {
  /** Reads `into.length` bytes at `offset` from the start of the window. */
  read(offset: number, into: Uint8Array): void;
  /** Writes `from` at `offset` from the start of the window. */
  write(offset: number, from: Uint8Array): void;
  /** As `read`, for a bus master, of a window that has to ask somebody; there with `writeLater` or not at all. */
  readLater?(offset: number, into: Uint8Array): Promise<void>;
  /** As `write`, for a bus master. */
  writeLater?(offset: number, from: Uint8Array): Promise<void>;
}

/** Frames that were taken for a window; given back with it. */
export interface PlacedWindow extends Disposable {
  readonly basePfn: number;
}

/** What {@link PhysicalMemory} is built with. */
export interface PhysicalMemoryOptions {
  /** Huge pages of 2 MiB in the pool that MAP_HUGETLB takes from; 0 unless given. */
  hugePages?: number;
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
  readonly #memory: PhysicalMemory;
  readonly #tracked: Tracked;
  /** Storage in blocks of `#blockBytes`; a hole reads as zeros. */
  readonly #blocks: (Uint8Array | undefined)[] = [];
  #blockBytes: number;
  /** Huge pages of the pool that the range is made of. */
  readonly hugePages: number;
  #count = 1;

  /** Ranges are made by {@link PhysicalMemory.alloc} and {@link PhysicalMemory.adopt}. */
  constructor(memory: PhysicalMemory, parts: PageRangeParts) {
    const { storage } = parts;
    this.#memory = memory;
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
    this.#memory.releaseRange(this);
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
    this.#memory.blockMade();
  }

  #populate(index: number): Uint8Array {
    if (this.#count === 0) throw new KernelBug('use-after-free', `access to freed frames ${this.#name()}`);
    const block = new Uint8Array(Math.min(this.#blockBytes, this.length - index * this.#blockBytes));
    this.#blocks[index] = block;
    this.#memory.blockMade();
    return block;
  }

  #name(): string {
    return `${this.basePfn.toString(16)}+${this.pages}`;
  }
}

/** All memory of a host. Frames are numbers (physical address / 4096). */
export class PhysicalMemory {
  readonly #seams: Seams;
  readonly #ranges = new BTree<number, PageRange>();
  readonly #windows = new BTree<number, { pages: number; window: MmioWindow }>();
  /** Free frames below `#next`: base to count, never adjacent to one another. */
  readonly #free = new BTree<number, number>();
  #next = FIRST_PFN;
  #epoch = 0;
  /** What untouched pages read as. */
  readonly #zeros = new Uint8Array(PAGE_SIZE);
  #hugePagesFree: number;

  constructor(seams: Seams, options: PhysicalMemoryOptions = {}) {
    this.#seams = seams;
    this.#hugePagesFree = options.hugePages ?? 0;
  }

  /** Huge pages left in the pool. */
  get hugePagesFree(): number {
    return this.#hugePagesFree;
  }

  /** Another number whenever frames were freed, or touched for the first time: what {@link page} gave may be wrong then. */
  get epoch(): number {
    return this.#epoch;
  }

  /**
   * Takes `pages` consecutive frames, zero filled, with one reference that belongs to the caller.
   *
   * @param what - names the owner in a report of leaks
   * @throws ENOMEM - the physical address space is used up
   */
  alloc(pages: number, what: string): PageRange {
    this.#seams.faults.check(`alloc_pages:${what}`);
    return this.#insert(pages, what);
  }

  /**
   * As {@link alloc}, of huge pages out of the pool; they go back to it with the range.
   *
   * @param count - huge pages
   * @throws ENOMEM - the pool has fewer
   */
  allocHuge(count: number, what: string): PageRange {
    this.#seams.faults.check(`hugetlb_acct_memory:${what}`);
    if (count > this.#hugePagesFree) {
      throw new SystemError('ENOMEM', `${count} huge pages wanted, ${this.#hugePagesFree} free`);
    }
    const range = this.#insert((count * HUGE_PAGE_SIZE) / PAGE_SIZE, what, { hugePages: count });
    this.#hugePagesFree -= count;
    return range;
  }

  /**
   * Gives frames to memory that somebody else made, such as a shared buffer of another process. The bytes stay
   * where they are: all of it is one contiguous view.
   *
   * @throws EINVAL - the buffer is empty or not a whole number of pages
   * @throws ENOMEM - the physical address space is used up
   */
  adopt(buffer: ArrayBuffer | SharedArrayBuffer, what: string): PageRange {
    if (buffer.byteLength === 0 || buffer.byteLength % PAGE_SIZE !== 0) {
      throw new SystemError('EINVAL', `${buffer.byteLength} bytes are not whole pages`);
    }
    this.#seams.faults.check(`memremap_pages:${what}`);
    return this.#insert(buffer.byteLength / PAGE_SIZE, what, { storage: new Uint8Array(buffer) });
  }

  /** The range that holds `pfn`, or undefined when the frame is not memory. */
  at(pfn: number): PageRange | undefined {
    const range = this.#ranges.getPairOrNextLower(pfn)?.[1];
    return range !== undefined && pfn < range.basePfn + range.pages ? range : undefined;
  }

  /**
   * Makes a window of device registers reachable for DMA, from frame `basePfn` on.
   *
   * @returns what takes the window away again
   * @throws EBUSY - the frames are memory or belong to another window
   */
  addMmio(basePfn: number, pages: number, window: MmioWindow): Disposable {
    const below = this.#windows.getPairOrNextLower(basePfn + pages - 1);
    const memory = this.#ranges.getPairOrNextLower(basePfn + pages - 1)?.[1];
    if (
      (below !== undefined && below[0] + below[1].pages > basePfn) ||
      (memory !== undefined && memory.basePfn + memory.pages > basePfn)
    ) {
      throw new SystemError('EBUSY', `frames ${basePfn.toString(16)}+${pages} are taken`);
    }
    this.#windows.set(basePfn, { pages, window });
    return { [Symbol.dispose]: () => void this.#windows.delete(basePfn) };
  }

  /**
   * As {@link addMmio}, wherever frames are free.
   *
   * @throws ENOMEM - the physical address space is used up
   */
  placeMmio(pages: number, window: MmioWindow): PlacedWindow {
    const basePfn = this.#takeFrames(pages);
    this.#windows.set(basePfn, { pages, window });
    return {
      basePfn,
      [Symbol.dispose]: () => {
        if (this.#windows.delete(basePfn)) this.#freeFrames(basePfn, pages);
      },
    };
  }

  /** Reads at a physical address. What is neither memory nor a device reads as all ones, as a bus would answer. */
  read(phys: number, into: Uint8Array): void {
    this.#walk(
      phys,
      into,
      (range, offset, part) => range.read(offset, part),
      (window, offset, part) => {
        if (window === undefined) part.fill(0xff);
        else window.read(offset, part);
      },
    );
  }

  /** Writes at a physical address. What is neither memory nor a device swallows the bytes. */
  write(phys: number, from: Uint8Array): void {
    this.#walk(
      phys,
      from,
      (range, offset, part) => range.write(offset, part),
      (window, offset, part) => {
        window?.write(offset, part);
      },
    );
  }

  /** As {@link read}, for a bus master, who can wait: a promise when a window has to ask somebody. */
  readBus(phys: number, into: Uint8Array): void | Promise<void> {
    const later: Promise<void>[] = [];
    this.#walk(
      phys,
      into,
      (range, offset, part) => range.read(offset, part),
      (window, offset, part) => {
        if (window === undefined) part.fill(0xff);
        else if (window.readLater === undefined) window.read(offset, part);
        else later.push(window.readLater(offset, part));
      },
    );
    return later.length === 0 ? undefined : allOf(later);
  }

  /** As {@link write}, for a bus master, who can wait: a promise when a window has to ask somebody. */
  writeBus(phys: number, from: Uint8Array): void | Promise<void> {
    const later: Promise<void>[] = [];
    this.#walk(
      phys,
      from,
      (range, offset, part) => range.write(offset, part),
      (window, offset, part) => {
        if (window?.writeLater === undefined) window?.write(offset, part);
        else later.push(window.writeLater(offset, part));
      },
    );
    return later.length === 0 ? undefined : allOf(later);
  }

  /** The bytes at a physical address without a copy, or undefined when they are not contiguous memory. */
  view(phys: number, length: number): Uint8Array | undefined {
    const range = this.at(Math.floor(phys / PAGE_SIZE));
    if (range === undefined) return undefined;
    const offset = phys - range.basePfn * PAGE_SIZE;
    if (offset + length > range.length) return undefined;
    const bytes = range.span(offset, length);
    return bytes.length === length ? bytes : undefined;
  }

  /**
   * The page at a physical address, to be kept until {@link epoch} changes; undefined when it is not memory in one piece.
   *
   * @param phys - of its first byte, which need not be the first of a frame
   * @param write - makes the page if nobody has touched it; without, zeros stand in for it, which are not to be written to
   */
  page(phys: number, write: boolean): Uint8Array | undefined {
    const range = this.at(Math.floor(phys / PAGE_SIZE));
    if (range === undefined) return undefined;
    const offset = phys - range.basePfn * PAGE_SIZE;
    if (offset + PAGE_SIZE > range.length) return undefined;
    if (!write && !range.populated(offset) && !range.populated(offset + PAGE_SIZE - 1)) return this.#zeros;
    const bytes = range.span(offset, PAGE_SIZE);
    return bytes.length === PAGE_SIZE ? bytes : undefined;
  }

  /** Called by a range that has been touched where it was not before, or was moved. */
  blockMade(): void {
    this.#epoch++;
  }

  /** Called by a range whose last reference is gone. */
  releaseRange(range: PageRange): void {
    this.#epoch++;
    this.#ranges.delete(range.basePfn);
    this.#hugePagesFree += range.hugePages;
    this.#freeFrames(range.basePfn, range.pages);
  }

  #freeFrames(first: number, count: number): void {
    let base = first;
    let pages = count;
    const below = this.#free.getPairOrNextLower(base);
    if (below !== undefined && below[0] + below[1] === base) {
      this.#free.delete(below[0]);
      base = below[0];
      pages += below[1];
    }
    const above = this.#free.get(base + pages);
    if (above !== undefined) {
      this.#free.delete(base + pages);
      pages += above;
    }
    if (base + pages === this.#next) this.#next = base;
    else this.#free.set(base, pages);
  }

  #insert(pages: number, what: string, parts: Pick<PageRangeParts, 'hugePages' | 'storage'> = {}): PageRange {
    const basePfn = this.#takeFrames(pages);
    const tracked = this.#seams.tracker.track('memory', () => `${pages} pages of ${what}`);
    const range = new PageRange(this, { basePfn, pages, tracked, ...parts });
    this.#ranges.set(basePfn, range);
    return range;
  }

  /** Finds frames; what fills a huge page starts at one, so that an IOMMU can use its large pages. */
  #takeFrames(pages: number): number {
    const unit = pages >= HUGE_PAGE_SIZE / PAGE_SIZE ? HUGE_PAGE_SIZE / PAGE_SIZE : 1;
    for (const [base, count] of this.#free.entries()) {
      const start = Math.ceil(base / unit) * unit;
      const after = base + count - (start + pages);
      if (after < 0) continue;
      this.#free.delete(base);
      if (start > base) this.#free.set(base, start - base);
      if (after > 0) this.#free.set(start + pages, after);
      return start;
    }
    const start = Math.ceil(this.#next / unit) * unit;
    if (start + pages > END_PFN) throw new SystemError('ENOMEM', `no ${pages} consecutive frames`);
    if (start > this.#next) this.#free.set(this.#next, start - this.#next);
    this.#next = start + pages;
    return start;
  }

  #walk(
    phys: number,
    bytes: Uint8Array,
    memory: (range: PageRange, offset: number, part: Uint8Array) => void,
    other: (window: MmioWindow | undefined, offset: number, part: Uint8Array) => void,
  ): void {
    for (let done = 0; done < bytes.length; ) {
      const at = phys + done;
      const pfn = Math.floor(at / PAGE_SIZE);
      const range = this.at(pfn);
      if (range !== undefined) {
        const offset = at - range.basePfn * PAGE_SIZE;
        const length = Math.min(bytes.length - done, range.length - offset);
        // a view costs as much as copying a page does
        memory(range, offset, length === bytes.length ? bytes : bytes.subarray(done, done + length));
        done += length;
        continue;
      }
      const found = this.#windows.getPairOrNextLower(pfn);
      const inside = found !== undefined && pfn < found[0] + found[1].pages;
      const offset = inside ? at - found[0] * PAGE_SIZE : 0;
      // who has to be asked is asked once
      const whole = inside && found[1].window.readLater !== undefined;
      const toEnd = whole ? found[1].pages * PAGE_SIZE - offset : PAGE_SIZE - (at % PAGE_SIZE);
      const length = Math.min(bytes.length - done, toEnd);
      other(inside ? found[1].window : undefined, offset, bytes.subarray(done, done + length));
      done += length;
    }
  }
}

/** Resolves when all have been done; fails as the first that fails, when none is under way any more. */
async function allOf(parts: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason;
}
