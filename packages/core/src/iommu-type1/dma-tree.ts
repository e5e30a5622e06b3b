/**
 * The mappings of a container by IOVA. They never overlap, so the one below or at a page is the only one that can hold
 * it, and every look-up takes O(log n).
 */
import { BTree, byNumber } from '@vfio/host';
import type { Dma } from './dma.js';

/** Mappings by their first page. All arguments are IOVA pages. Source: drivers/vfio/vfio_iommu_type1.c dma_list */
export class DmaTree {
  readonly #tree = new BTree<number, Dma>(undefined, byNumber);
  /** What the last look-up of a single page found: devices work through one mapping at a time. */
  #recent: Dma | undefined;

  /** How many mappings there are. */
  get size(): number {
    return this.#tree.size;
  }

  /** All mappings, ascending. The tree must not change meanwhile. */
  [Symbol.iterator](): IterableIterator<Dma> {
    return this.#tree.values();
  }

  /** The mapping that holds `page`. */
  at(page: number): Dma | undefined {
    const recent = this.#recent;
    if (recent && page >= recent.page && page <= recent.lastPage) return recent;
    const found = this.find(page, page);
    this.#recent = found;
    return found;
  }

  /**
   * A mapping that has a page in first..last.
   *
   * @source drivers/vfio/vfio_iommu_type1.c vfio_find_dma()
   */
  find(first: number, last: number): Dma | undefined {
    const below = this.#tree.getPairOrNextLower(last)?.[1];
    return below && below.lastPage >= first ? below : undefined;
  }

  /**
   * The lowest mapping that has a page in first..last.
   *
   * @source drivers/vfio/vfio_iommu_type1.c vfio_find_dma_first_node()
   */
  first(first: number, last: number): Dma | undefined {
    const below = this.#tree.getPairOrNextLower(first)?.[1];
    if (below && below.lastPage >= first) return below;
    const above = this.#tree.getPairOrNextHigher(first)?.[1];
    return above && above.page <= last ? above : undefined;
  }

  /** The mapping after one that is, or was, in the tree. */
  next(dma: Dma): Dma | undefined {
    return this.#tree.nextHigherPair(dma.page)?.[1];
  }

  /** Enters a mapping that overlaps none. */
  link(dma: Dma): void {
    this.#tree.set(dma.page, dma);
  }

  /** Takes a mapping out. */
  unlink(dma: Dma): void {
    if (this.#recent === dma) this.#recent = undefined;
    this.#tree.delete(dma.page);
  }
}
