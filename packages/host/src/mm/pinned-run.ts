/* Frames that are held in place for DMA, whatever becomes of the mapping through which they were found. */
import { KernelBug } from '../errors.js';
import type { Tracked, Tracker } from '../tracker.js';
import type { PageRange } from './page-range.js';

/**
 * Consecutive pinned frames. Each run is unpinned once; one that has to be given back in parts is cut with
 * {@link PinnedRun.splitAt} first.
 */
export class PinnedRun {
  readonly pfn: number;
  /** True for frames of a device: they are not memory, and not counted as locked. */
  readonly reserved: boolean;
  readonly #tracker: Tracker;
  readonly #range: PageRange | undefined;
  #pages: number;
  #tracked: Tracked | undefined;

  /**
   * @param range - the memory, of which the run takes a reference; undefined for frames of a device
   */
  constructor(tracker: Tracker, range: PageRange | undefined, pfn: number, pages: number) {
    this.pfn = pfn;
    this.#pages = pages;
    this.reserved = range === undefined;
    this.#tracker = tracker;
    this.#range = range?.get();
    this.#tracked = tracker.track('pin', () => `frames ${pfn.toString(16)}+${this.#pages}`);
  }

  /** Frames in the run. */
  get pages(): number {
    return this.#pages;
  }

  /**
   * Cuts the run: this one keeps the first `pages`, the rest is returned and has to be unpinned by itself.
   *
   * @param pages - more than 0 and fewer than the run has
   */
  splitAt(pages: number): PinnedRun {
    if (pages <= 0 || pages >= this.#pages) throw new RangeError(`cannot cut ${this.#pages} pages at ${pages}`);
    this.#live();
    const rest = new PinnedRun(this.#tracker, this.#range, this.pfn + pages, this.#pages - pages);
    this.#pages = pages;
    return rest;
  }

  /**
   * Lets the frames go.
   *
   * @param _dirty - the pages were written to; nothing here is ever swapped, so this only documents the caller
   */
  unpin(_dirty = false): void {
    this.#live().release();
    this.#tracked = undefined;
    this.#range?.put();
  }

  #live(): Tracked {
    if (this.#tracked === undefined) {
      throw new KernelBug('double-free', `frames ${this.pfn.toString(16)}+${this.#pages} are no longer pinned`);
    }
    return this.#tracked;
  }
}
