/*
 * The page table of an IOMMU domain, kept as extents instead of as pages.
 *
 * Every map call leaves one extent, however large, so that a guest of 64 GiB costs one entry when its memory is contiguous
 * and a million single pages cost a million. Which hardware entries (4 KiB, 2 MiB, 1 GiB, ...) an extent is made of follows
 * from its alignment alone, and is computed when somebody asks: an unmap that stops inside a large entry takes all of it.
 */
import { BTree } from '../b-tree.js';

/** A run of IOVA pages that one map call connected to a run of frames. All numbers count pages of the table's granule. */
export interface Extent {
  /** first IOVA page */
  readonly page: number;
  readonly pages: number;
  /** frame behind `page`; the others follow */
  readonly frame: number;
  /** `IommuProt` bits */
  readonly prot: number;
}

/** Some IOVA pages in a row. */
export interface PageRun {
  readonly page: number;
  readonly pages: number;
}

/**
 * Extents by IOVA page, without overlaps. Finding, adding and removing take O(log n).
 */
export class ExtentTable {
  /** Made with the first extent: most tables stay empty, as those of devices that nobody has opened. */
  #tree: BTree<number, Extent> | undefined;
  readonly #entrySizes: readonly number[];
  /** What the last lookup found: devices work through one buffer at a time. */
  #recent: Extent | undefined;

  /** @param entrySizes - pages per hardware entry, largest first: powers of two, with 1 among them */
  constructor(entrySizes: readonly number[]) {
    this.#entrySizes = entrySizes;
  }

  /** How many extents there are. */
  get size(): number {
    return this.#tree?.size ?? 0;
  }

  /** Lists the extents by ascending IOVA; the table must not change meanwhile. */
  *[Symbol.iterator](): IterableIterator<Extent> {
    if (this.#tree !== undefined) yield* this.#tree.values();
  }

  /**
   * Adds an extent of its own, even next to one that continues it.
   *
   * @returns false, with nothing changed, when a page of it is mapped already
   */
  insert(extent: Extent): boolean {
    this.#tree ??= new BTree(undefined, byNumber);
    const below = this.#tree.getPairOrNextLower(extent.page + extent.pages - 1);
    if (below !== undefined && below[0] + below[1].pages > extent.page) return false;
    this.#tree.set(extent.page, extent);
    return true;
  }

  /** The extent that covers `page`. */
  find(page: number): Extent | undefined {
    const recent = this.#recent;
    if (recent !== undefined && page >= recent.page && page < recent.page + recent.pages) return recent;
    const below = this.#tree?.getPairOrNextLower(page);
    if (below === undefined || page >= below[0] + below[1].pages) return undefined;
    this.#recent = below[1];
    return below[1];
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
      const extentEnd = extent.page + extent.pages;
      let end = extentEnd;
      if (last < extentEnd - 1) {
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
    this.#recent = undefined;
    this.#tree?.clear();
  }

  /** Takes [from, to) out of an extent; both are borders of hardware entries. */
  #cut(extent: Extent, from: number, to: number): void {
    this.#recent = undefined;
    if (from === extent.page) this.#tree?.delete(extent.page);
    else this.#tree?.set(extent.page, { ...extent, pages: from - extent.page });
    const rest = extent.page + extent.pages - to;
    if (rest > 0) {
      const frame = extent.frame + (to - extent.page);
      this.#tree?.set(to, { page: to, pages: rest, frame, prot: extent.prot });
    }
  }
}

function byNumber(a: number, b: number): number {
  return a - b;
}
