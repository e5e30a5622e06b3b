/* The sorted mappings of an address space, and where the next one goes. */
import { BTree } from '../b-tree.js';
import { SystemError } from '../errors.js';
import { MMAP_BASE, MMAP_MIN_ADDR } from './layout.js';
import type { Vma } from './vma.js';

/** Most mappings in one address space (`vm.max_map_count`). */
const MAX_MAP_COUNT = 65530;

/** Mappings by address; they never overlap. */
export class VmaSet {
  readonly #byStart = new BTree<number, Vma>();
  /** The mapping found last: accesses come in runs. */
  #last: Vma | undefined;
  /** The search for a hole begins below this address. */
  #searchFrom = MMAP_BASE;
  /** Largest hole that the search has passed over so far. */
  #largestSkipped = 0;

  /** Mappings in the set. */
  get size(): number {
    return this.#byStart.size;
  }

  /** The mapping that holds `address`. */
  find(address: number): Vma | undefined {
    const last = this.#last;
    if (last !== undefined && address >= last.start && address < last.end) return last;
    const found = this.#byStart.getPairOrNextLower(address)?.[1];
    if (found === undefined || address >= found.end) return undefined;
    this.#last = found;
    return found;
  }

  /** The mappings that overlap `[start, end)`, lowest first. The set may be changed while they are looked at. */
  overlapping(start: number, end: number): Vma[] {
    const first = this.#byStart.getPairOrNextLower(start)?.[1];
    const found: Vma[] = first !== undefined && first.end > start && first.start < start ? [first] : [];
    this.#byStart.forRange(start, end, false, (_, vma) => {
      found.push(vma);
    });
    return found;
  }

  /** True when nothing is mapped in `[start, end)`. */
  isFree(start: number, end: number): boolean {
    const below = this.#byStart.nextLowerPair(end)?.[1];
    return below === undefined || below.end <= start;
  }

  /** All mappings, lowest first. */
  all(): Vma[] {
    return this.#byStart.valuesArray();
  }

  insert(vma: Vma): void {
    this.#byStart.set(vma.start, vma);
  }

  remove(vma: Vma): void {
    this.#byStart.delete(vma.start);
    if (this.#last === vma) this.#last = undefined;
    if (vma.end > this.#searchFrom && vma.end <= MMAP_BASE) this.#searchFrom = vma.end;
  }

  /** Puts `pieces` in the place of `vma`. */
  replace(vma: Vma, pieces: readonly Vma[]): void {
    this.#byStart.delete(vma.start);
    if (this.#last === vma) this.#last = undefined;
    for (const piece of pieces) this.#byStart.set(piece.start, piece);
  }

  /**
   * Makes sure that there may be `more` mappings.
   *
   * @throws ENOMEM - there would be too many
   */
  checkRoom(more: number): void {
    if (this.size + more > MAX_MAP_COUNT) throw new SystemError('ENOMEM', `more than ${MAX_MAP_COUNT} mappings`);
  }

  /**
   * Finds room from the top down.
   *
   * @throws ENOMEM - no hole is large enough
   * @source mm/mmap.c arch_get_unmapped_area_topdown()
   */
  findHole(length: number, alignment: number): number {
    if (length <= this.#largestSkipped) {
      this.#searchFrom = MMAP_BASE;
      this.#largestSkipped = 0;
    }
    let top = this.#searchFrom;
    for (;;) {
      const start = Math.floor((top - length) / alignment) * alignment;
      if (start < MMAP_MIN_ADDR) throw new SystemError('ENOMEM', `no room for ${length} bytes`);
      const below = this.#byStart.nextLowerPair(top)?.[1];
      if (below === undefined || below.end <= start) {
        this.#searchFrom = start;
        return start;
      }
      this.#largestSkipped = Math.max(this.#largestSkipped, top - below.end);
      top = below.start;
    }
  }
}
