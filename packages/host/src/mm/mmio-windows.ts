/*
 * Windows of device registers in the physical address space, as other devices reach them.
 */
import { BTree } from '../b-tree.js';

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

/** A window, and where it is. */
export interface FoundWindow {
  readonly basePfn: number;
  readonly pages: number;
  readonly window: MmioWindow;
}

/** All windows of a host, by frame; without overlaps, which is up to who adds them. */
export class MmioWindows {
  readonly #windows = new BTree<number, FoundWindow>();

  add(basePfn: number, pages: number, window: MmioWindow): void {
    this.#windows.set(basePfn, { basePfn, pages, window });
  }

  /** @returns whether there was one that begins there */
  delete(basePfn: number): boolean {
    return this.#windows.delete(basePfn);
  }

  /** The last window that has a frame of a range. */
  within(basePfn: number, pages: number): FoundWindow | undefined {
    const found = this.#windows.getPairOrNextLower(basePfn + pages - 1)?.[1];
    return found !== undefined && found.basePfn + found.pages > basePfn ? found : undefined;
  }

  /** The window that holds a frame. */
  at(pfn: number): FoundWindow | undefined {
    return this.within(pfn, 1);
  }
}
