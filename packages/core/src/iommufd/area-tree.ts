/**
 * The areas of an address space by IOVA, and the room between them. Areas never overlap, so every look-up takes O(log n).
 * Whoever looks for room asks for the lowest hole that is large enough, so holes are also kept by their size, from the
 * first such question on.
 */
import { BTree } from '@vfio/host';
import type { IoptArea } from './area.js';
import { ADDRESS_MAX, byBigint, type IovaRange } from './iova-range.js';

/** A part of a range that one area holds. */
export interface AreaPiece {
  readonly area: IoptArea;
  readonly from: bigint;
  readonly to: bigint;
}

/** What of a range is mapped without a gap, from its start. */
export interface ContiguousAreas {
  readonly pieces: readonly AreaPiece[];
  /** The range is mapped to its end. */
  readonly complete: boolean;
}

/** Areas by their first byte. Source: drivers/iommu/iommufd/io_pagetable.h struct io_pagetable area_itree */
export class AreaTree {
  readonly #tree = new BTree<bigint, IoptArea>(undefined, byBigint);
  /** Last byte of each hole by its first, in bins: bin n has holes of 2^n bytes to less than 2^(n+1). */
  #bins: BTree<bigint, bigint>[] | undefined;

  /** How many areas there are. */
  get size(): number {
    return this.#tree.size;
  }

  /** All areas, ascending. The tree must not change meanwhile. */
  [Symbol.iterator](): IterableIterator<IoptArea> {
    return this.#tree.values();
  }

  /** The lowest area that has a byte in start..last. */
  first(start: bigint, last: bigint): IoptArea | undefined {
    const below = this.#tree.getPairOrNextLower(start)?.[1];
    if (below && below.last >= start) return below;
    const above = this.#tree.getPairOrNextHigher(start)?.[1];
    return above && above.start <= last ? above : undefined;
  }

  /**
   * The areas behind a range, up to the first gap; an area that is being made or removed counts as one.
   *
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_area_contig_init(), iopt_area_contig_next()
   */
  contiguous(start: bigint, last: bigint): ContiguousAreas {
    const pieces: AreaPiece[] = [];
    for (let from = start; ; ) {
      const area = this.first(from, from);
      if (!area?.pages) return { pieces, complete: false };
      const to = area.last < last ? area.last : last;
      pieces.push({ area, from, to });
      if (area.last >= last) return { pieces, complete: true };
      from = area.last + 1n;
    }
  }

  /** Enters an area that overlaps none. */
  insert(area: IoptArea): void {
    if (this.#bins) {
      const hole = this.#holeAround(area.start, area.last);
      this.#dropHole(hole);
      if (hole.start < area.start) this.#addHole({ start: hole.start, last: area.start - 1n });
      if (area.last < hole.last) this.#addHole({ start: area.last + 1n, last: hole.last });
    }
    this.#tree.set(area.start, area);
  }

  /** Takes an area out. */
  remove(area: IoptArea): void {
    this.#tree.delete(area.start);
    if (!this.#bins) return;
    const hole = this.#holeAround(area.start, area.last);
    if (hole.start < area.start) this.#dropHole({ start: hole.start, last: area.start - 1n });
    if (area.last < hole.last) this.#dropHole({ start: area.last + 1n, last: hole.last });
    this.#addHole(hole);
  }

  /**
   * Offers holes that have a byte in start..last and could have room, and returns the lowest place that is taken.
   *
   * @param length - bytes wanted; no hole that is smaller is offered
   * @param fit - the place in a hole, cut to start..last by `fit` itself, or undefined
   */
  lowestFit(
    start: bigint,
    last: bigint,
    length: bigint,
    fit: (hole: IovaRange) => bigint | undefined,
  ): bigint | undefined {
    const at = this.first(start, start);
    if (!at) {
      const found = fit(this.#holeAround(start, start));
      if (found !== undefined) return found;
    }
    let lowest: bigint | undefined;
    const bins = this.#sizes();
    for (let bin = log2(length); bin < bins.length; bin++) {
      for (const [from, to] of bins[bin]?.entries(start) ?? []) {
        if (from > (lowest ?? last)) break;
        if (from === start) continue;
        const found = fit({ start: from, last: to });
        if (found === undefined) continue;
        if (lowest === undefined || found < lowest) lowest = found;
        break;
      }
    }
    return lowest;
  }

  /** The hole that start..last, in which no area lies, is in. */
  #holeAround(start: bigint, last: bigint): IovaRange {
    const below = this.#tree.nextLowerPair(start)?.[1];
    const above = this.#tree.nextHigherPair(last)?.[1];
    return { start: below ? below.last + 1n : 0n, last: above ? above.start - 1n : ADDRESS_MAX };
  }

  #sizes(): readonly BTree<bigint, bigint>[] {
    if (this.#bins) return this.#bins;
    const bins = Array.from({ length: 65 }, () => new BTree<bigint, bigint>(undefined, byBigint));
    this.#bins = bins;
    let from = 0n;
    for (const { start, last } of this) {
      if (start > from) this.#addHole({ start: from, last: start - 1n });
      from = last + 1n;
    }
    if (from <= ADDRESS_MAX) this.#addHole({ start: from, last: ADDRESS_MAX });
    return bins;
  }

  #addHole({ start, last }: IovaRange): void {
    this.#bins?.[log2(last - start + 1n)]?.set(start, last);
  }

  #dropHole({ start, last }: IovaRange): void {
    this.#bins?.[log2(last - start + 1n)]?.delete(start);
  }
}

/** The highest bit of a number that is not 0. */
function log2(n: bigint): number {
  const high = Number(n >> 32n);
  if (high >= 2 ** 32) return 64;
  return high > 0 ? 63 - Math.clz32(high) : 31 - Math.clz32(Number(n & 0xffff_ffffn));
}
