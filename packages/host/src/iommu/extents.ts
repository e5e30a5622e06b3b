/*
 * The page table of an IOMMU domain, kept as extents instead of as pages.
 *
 * Every map call leaves one extent, however large, so that a guest of 64 GiB costs one entry when its memory is contiguous
 * and a million single pages cost a million. Which hardware entries (4 KiB, 2 MiB, 1 GiB, ...) an extent is made of follows
 * from its alignment alone, and is computed when somebody asks: an unmap that stops inside a large entry takes all of it.
 */
import { RadixIndex } from '../radix-index.js';

/** A run of IOVA pages that one map call connected to a run of frames. All numbers count pages of the table's granule. */
export interface Extent {
  /** first IOVA page */
  readonly page: number;
  readonly pages: number;
  /** frame behind `page`; the others follow */
  readonly frame: number;
  /** `IommuProt` bits, not 0 */
  readonly prot: number;
}

/** Some IOVA pages in a row. */
export interface PageRun {
  readonly page: number;
  readonly pages: number;
}

/** A single page has its frame and access in the index itself, as an entry of hardware has them: this many bits are access. */
const PROT_LIMIT = 1 << 8;

/** What a larger extent has, in this order; those of all extents are in one array. */
const PAGES = 0;
const FRAME = 1;
const PROT = 2;
const FIELDS = 3;
/** Larger extents to make room for at first, and the most that an empty table keeps room for. */
const FIRST_ROOM = 4;
const KEPT_ROOM = 64;

/**
 * Extents by IOVA page, without overlaps. Finding, adding and removing touch a few places of memory, however many extents
 * there are.
 */
export class ExtentTable {
  /**
   * By first page: a single page itself, or less than 0 for a place in `#large`. Made with the first extent: most tables
   * stay empty, as those of devices that nobody has opened.
   */
  #index: RadixIndex | undefined;
  #large = new Float64Array(0);
  /** Places in it that were ever used, from 1 on, and those that nobody uses any more. */
  #places = 0;
  #free: number[] = [];
  readonly #entrySizes: readonly number[];
  /** What the last lookup found, without pages if that is gone: devices work through one buffer at a time. */
  readonly #recent = { page: 0, pages: 0, frame: 0, prot: 0 };

  /** @param entrySizes - pages per hardware entry, largest first: powers of two, with 1 among them */
  constructor(entrySizes: readonly number[]) {
    this.#entrySizes = entrySizes;
  }

  /** How many extents there are. */
  get size(): number {
    return this.#index?.size ?? 0;
  }

  /**
   * Adds an extent of its own, even next to one that continues it.
   *
   * @returns false, with nothing changed, when a page of it is mapped already
   */
  insert(extent: Extent): boolean {
    this.#index ??= new RadixIndex();
    const { page, pages } = extent;
    const below = this.#index.floor(page + pages - 1);
    if (below >= page || (below >= 0 && below + this.#pagesOf(this.#index.get(below)) > page)) return false;
    this.#add(this.#index, page, pages, extent.frame, extent.prot);
    return true;
  }

  /** The extent that covers `page`, until the next call of anything here. */
  find(page: number): Extent | undefined {
    const recent = this.#recent;
    if (page >= recent.page && page < recent.page + recent.pages) return recent;
    const index = this.#index;
    if (index === undefined) return undefined;
    let first = page;
    let entry = index.get(first);
    if (entry === 0) {
      first = index.floor(page);
      if (first < 0) return undefined;
      entry = index.get(first);
      if (page >= first + this.#pagesOf(entry)) return undefined;
    }
    recent.page = first;
    recent.pages = this.#pagesOf(entry);
    recent.frame = entry > 0 ? Math.floor(entry / PROT_LIMIT) : this.#field(entry, FRAME);
    recent.prot = entry > 0 ? entry % PROT_LIMIT : this.#field(entry, PROT);
    return recent;
  }

  /**
   * The hardware entry that covers `page`: the largest aligned block that fits in the extent and whose frames are aligned alike.
   *
   * @param extent - what `find(page)` said
   */
  entryAt(extent: Extent, page: number): PageRun {
    const end = extent.page + extent.pages;
    for (const size of this.#entrySizes) {
      if ((extent.page - extent.frame) % size !== 0) continue;
      const start = page - (page % size);
      if (start >= extent.page && start + size <= end) return { page: start, pages: size };
    }
    return { page, pages: 1 };
  }

  /**
   * Removes entries from `page` on. The first one must start there, a hole ends the walk, and the last one goes entirely
   * even if the range stops inside of it.
   *
   * @returns pages removed, 0 to more than `pages`
   */
  remove(page: number, pages: number): number {
    const last = page + pages - 1;
    let at = page;
    while (at <= last) {
      const extent = this.find(at);
      if (extent === undefined) break;
      // Only the first extent can be entered in its middle: what follows starts where the one before ended.
      if (at !== extent.page && this.entryAt(extent, at).page !== at) break;
      let end = extent.page + extent.pages;
      if (last < end - 1) {
        const entry = this.entryAt(extent, last);
        end = entry.page + entry.pages;
      }
      this.#cut(extent, at, end);
      at = end;
    }
    return at - page;
  }

  /** Forgets everything. */
  clear(): void {
    this.#index?.clear();
    this.#large = new Float64Array(0);
    this.#places = 0;
    this.#free = [];
    this.#recent.pages = 0;
  }

  /** Takes [from, to) out of an extent; both are borders of hardware entries. */
  #cut({ page, pages, frame, prot }: Extent, from: number, to: number): void {
    const index = this.#index;
    if (index === undefined) return;
    this.#recent.pages = 0;
    const entry = index.get(page);
    if (entry < 0) this.#free.push(-entry);
    index.delete(page);
    if (from > page) this.#add(index, page, from - page, frame, prot);
    if (to < page + pages) this.#add(index, to, page + pages - to, frame + (to - page), prot);
    if (index.size === 0 && this.#places > KEPT_ROOM) this.clear();
  }

  #add(index: RadixIndex, page: number, pages: number, frame: number, prot: number): void {
    if (pages === 1 && prot < PROT_LIMIT) {
      index.set(page, frame * PROT_LIMIT + prot);
      return;
    }
    const place = this.#free.pop() ?? ++this.#places;
    if ((place + 1) * FIELDS > this.#large.length) {
      const large = new Float64Array(Math.max(FIRST_ROOM, 2 * place) * FIELDS);
      large.set(this.#large);
      this.#large = large;
    }
    const at = place * FIELDS;
    this.#large[at + PAGES] = pages;
    this.#large[at + FRAME] = frame;
    this.#large[at + PROT] = prot;
    index.set(page, -place);
  }

  /** Pages of an extent, by what the index has for it. */
  #pagesOf(entry: number): number {
    return entry > 0 ? 1 : this.#field(entry, PAGES);
  }

  #field(entry: number, field: number): number {
    return this.#large[-entry * FIELDS + field] ?? 0;
  }
}
