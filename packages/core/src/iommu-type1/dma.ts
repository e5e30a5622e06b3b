/**
 * One mapping of a container: IOVA pages, the memory of a process behind them, and everything that keeps that memory in
 * place. Pages are numbers here (2^52 of them cover the address space); bytes and bigints belong to the uAPI.
 */
import { type AddressSpace, BTree, byNumber, type PinnedRun, type Process, type Tracked } from '@vfio/host';
import type { DirtyBitmap } from './dirty-bitmap.js';
import { pageAddress } from './units.js';

/** Pages in a row that a hardware mapping pinned. */
export interface MappedRun {
  /** Pages from the start of the mapping. */
  readonly offset: number;
  readonly run: PinnedRun;
}

/** A page that devices pinned themselves, however often. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_pfn */
export interface ExternalPfn {
  readonly run: PinnedRun;
  refCount: number;
}

/** What a {@link Dma} is made from. */
export interface DmaInit {
  /** First IOVA page. */
  readonly page: number;
  /** Address of the first byte in the memory of `task`. */
  readonly vaddr: bigint;
  /** `Prot` bits, from the device's side. */
  readonly prot: number;
  /** Whose memory it is, and whose limit. */
  readonly task: Process;
  /** Whether that task may lock as much as it likes. */
  readonly lockCap: boolean;
  readonly tracked: Tracked;
}

/** A mapping. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_dma */
export class Dma {
  readonly page: number;
  readonly prot: number;
  /** Pages mapped so far: grows while the mapping is made. */
  pages = 0;
  vaddr: bigint;
  task: Process;
  /** Outlives the task, and then has no users. */
  mm: AddressSpace;
  /** CAP_IPC_LOCK when the mapping was made, or when its owner last changed. */
  lockCap: boolean;
  /** Pages of `mm.lockedVm` that this mapping stands for. */
  lockedVm = 0;
  /** All pages are pinned and present in every domain. */
  iommuMapped = false;
  /** The user took `vaddr` back and owes a new one. */
  vaddrInvalid = false;
  /** Exists exactly while dirty tracking is on. */
  bitmap: DirtyBitmap | undefined;
  /** Pins of the hardware mapping, by ascending offset. */
  runs: MappedRun[] = [];
  readonly #tracked: Tracked;
  /** By IOVA page; made on first use, for most mappings never have one. */
  #pfns: BTree<number, ExternalPfn> | undefined;

  constructor(init: DmaInit) {
    this.page = init.page;
    this.vaddr = init.vaddr;
    this.prot = init.prot;
    this.task = init.task;
    this.mm = init.task.mm;
    this.lockCap = init.lockCap;
    this.#tracked = init.tracked;
  }

  /** First byte. */
  get iova(): bigint {
    return pageAddress(this.page);
  }

  /** Bytes. */
  get size(): bigint {
    return pageAddress(this.pages);
  }

  /** Last IOVA page. */
  get lastPage(): number {
    return this.page + this.pages - 1;
  }

  /** Whether a device holds a page of it. */
  get hasPfns(): boolean {
    return this.#pfns !== undefined && this.#pfns.size > 0;
  }

  /** Address in the owner's memory of an IOVA page. */
  vaddrOf(page: number): bigint {
    return this.vaddr + pageAddress(page - this.page);
  }

  /** The pin that devices have on a page. */
  findPfn(page: number): ExternalPfn | undefined {
    return this.#pfns?.get(page);
  }

  /** Enters the first pin of a page. */
  addPfn(page: number, pfn: ExternalPfn): void {
    this.#pfns ??= new BTree<number, ExternalPfn>(undefined, byNumber);
    this.#pfns.set(page, pfn);
  }

  /** Forgets a page whose last pin went. */
  removePfn(page: number): void {
    this.#pfns?.delete(page);
  }

  /** The pages that devices hold, ascending. The set must not change meanwhile. */
  pfns(): Iterable<[page: number, pfn: ExternalPfn]> {
    return this.#pfns?.entries() ?? [];
  }

  /** How many of `pages` pages from `page` on are held by devices. */
  countPfns(page: number, pages: number): number {
    return this.#pfns?.forRange(page, page + pages, false) ?? 0;
  }

  /** The mapping is gone. */
  free(): void {
    this.#tracked.release();
  }
}
