/*
 * Physical memory of a host: page frames by number. A range of frames costs nothing until somebody writes to it, so a guest of
 * 64 GiB is as cheap as its working set.
 */
import { BTree } from '../b-tree.js';
import { SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { HUGE_PAGE_SIZE, PAGE_SIZE } from './layout.js';
import { type MmioWindow, MmioWindows, type PlacedWindow } from './mmio-windows.js';
import { PageRange, type PageRangeOwner, type PageRangeParts } from './page-range.js';

/** Frames below 4 GiB are left to firmware and device windows. */
const FIRST_PFN = 0x10_0000;
/** One past the last frame: 52 bits of physical address. */
const END_PFN = 2 ** 40;

/** What {@link PhysicalMemory} is built with. */
export interface PhysicalMemoryOptions {
  /** Huge pages of 2 MiB in the pool that MAP_HUGETLB takes from; 0 unless given. */
  hugePages?: number;
}

/** All memory of a host. Frames are numbers (physical address / 4096). */
export class PhysicalMemory implements PageRangeOwner {
  readonly #seams: Seams;
  readonly #ranges = new BTree<number, PageRange>();
  readonly #windows = new MmioWindows();
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
    const memory = this.#ranges.getPairOrNextLower(basePfn + pages - 1)?.[1];
    const isMemory = memory !== undefined && memory.basePfn + memory.pages > basePfn;
    if (isMemory || this.#windows.within(basePfn, pages)) {
      throw new SystemError('EBUSY', `frames ${basePfn.toString(16)}+${pages} are taken`);
    }
    this.#windows.add(basePfn, pages, window);
    return { [Symbol.dispose]: () => void this.#windows.delete(basePfn) };
  }

  /**
   * As {@link addMmio}, wherever frames are free.
   *
   * @throws ENOMEM - the physical address space is used up
   */
  placeMmio(pages: number, window: MmioWindow): PlacedWindow {
    const basePfn = this.#takeFrames(pages);
    this.#windows.add(basePfn, pages, window);
    return {
      basePfn,
      [Symbol.dispose]: () => {
        if (this.#windows.delete(basePfn)) this.#freeFrames(basePfn, pages);
      },
    };
  }

  /** Reads at a physical address. What is neither memory nor a device reads as all ones, as a bus would answer. */
  read(phys: number, into: Uint8Array): void {
    this.#walk(phys, into, readRange, readWindow);
  }

  /** Writes at a physical address. What is neither memory nor a device swallows the bytes. */
  write(phys: number, from: Uint8Array): void {
    this.#walk(phys, from, writeRange, writeWindow);
  }

  /** As {@link read}, for a bus master, who can wait: a promise when a window has to ask somebody. */
  readBus(phys: number, into: Uint8Array): void | Promise<void> {
    const later: Promise<void>[] = [];
    this.#walk(phys, into, readRange, (window, offset, part) => {
      if (window?.readLater) later.push(window.readLater(offset, part));
      else readWindow(window, offset, part);
    });
    return later.length === 0 ? undefined : allOf(later);
  }

  /** As {@link write}, for a bus master, who can wait: a promise when a window has to ask somebody. */
  writeBus(phys: number, from: Uint8Array): void | Promise<void> {
    const later: Promise<void>[] = [];
    this.#walk(phys, from, writeRange, (window, offset, part) => {
      if (window?.writeLater) later.push(window.writeLater(offset, part));
      else writeWindow(window, offset, part);
    });
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

  blockMade(): void {
    this.#epoch++;
  }

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

  #walk(phys: number, bytes: Uint8Array, memory: Access<PageRange>, other: Access<MmioWindow | undefined>): void {
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
      const found = this.#windows.at(pfn);
      const offset = found ? at - found.basePfn * PAGE_SIZE : 0;
      // who has to be asked is asked once
      const toEnd = found?.window.readLater ? found.pages * PAGE_SIZE - offset : PAGE_SIZE - (at % PAGE_SIZE);
      const length = Math.min(bytes.length - done, toEnd);
      other(found?.window, offset, bytes.subarray(done, done + length));
      done += length;
    }
  }
}

/** Moves some bytes between memory or a window and their place. */
type Access<Target> = (target: Target, offset: number, part: Uint8Array) => void;

const readRange: Access<PageRange> = (range, offset, part) => range.read(offset, part);
const writeRange: Access<PageRange> = (range, offset, part) => range.write(offset, part);

function readWindow(window: MmioWindow | undefined, offset: number, part: Uint8Array): void {
  if (window === undefined) part.fill(0xff);
  else window.read(offset, part);
}

function writeWindow(window: MmioWindow | undefined, offset: number, part: Uint8Array): void {
  window?.write(offset, part);
}

/** Resolves when all have been done; fails as the first that fails, when none is under way any more. */
async function allOf(parts: readonly Promise<void>[]): Promise<void> {
  for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason;
}
