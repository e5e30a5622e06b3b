/** One mapping of an address space: a range of IOVA and the slice of pages behind it. */
import type { Tracked } from '@vfio/host';
import { PAGE } from './iova-range.js';
import type { IoptPages } from './pages.js';

/** What an area is made from. */
export interface AreaInit {
  readonly start: bigint;
  readonly last: bigint;
  /** Bytes from the start of the pages. */
  readonly startByte: bigint;
  /** `IommuProt` bits. */
  readonly prot: number;
  readonly tracked: Tracked;
}

/** A mapping. Source: drivers/iommu/iommufd/io_pagetable.h struct iopt_area */
export class IoptArea {
  readonly start: bigint;
  readonly last: bigint;
  readonly startByte: bigint;
  readonly prot: number;
  /** Absent while the area is being made or removed: then its range is taken, and nothing else may be done with it. */
  pages: IoptPages | undefined;
  /** An unmap waits for devices: no new ones may come. */
  preventAccess = false;
  /** Pins that devices have. */
  numAccesses = 0;
  /** The domains of the address space have it, and its pages are held for them. */
  filled = false;
  readonly #tracked: Tracked;

  constructor({ start, last, startByte, prot, tracked }: AreaInit) {
    this.start = start;
    this.last = last;
    this.startByte = startByte;
    this.prot = prot;
    this.#tracked = tracked;
  }

  /** Bytes. */
  get length(): bigint {
    return this.last - this.start + 1n;
  }

  /** Bytes into the first page. */
  get pageOffset(): bigint {
    return this.startByte % PAGE;
  }

  /** Index of the first page. */
  get firstIndex(): number {
    return Number(this.startByte / PAGE);
  }

  /** Index of the last page. */
  get lastIndex(): number {
    return this.indexOf(this.last);
  }

  /** Bytes from the start of the pages to an IOVA of the area. */
  byteOf(iova: bigint): bigint {
    return this.startByte + (iova - this.start);
  }

  /** Index of the page behind an IOVA of the area. */
  indexOf(iova: bigint): number {
    return Number(this.byteOf(iova) / PAGE);
  }

  /** The area is gone. */
  free(): void {
    this.#tracked.release();
  }
}
