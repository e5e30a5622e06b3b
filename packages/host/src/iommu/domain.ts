/*
 * A domain: one I/O address space of an IOMMU, to which groups of devices are attached.
 *
 * Mappings are put in by whoever owns the domain (type1, iommufd, the DMA API) and looked up by devices on every access.
 */
import { BTree } from '../b-tree.js';
import { KernelBug, SystemError } from '../errors.js';
import type { Seams } from '../seams.js';
import { SmallSet } from '../small-map.js';
import type { Tracked } from '../tracker.js';
import { type Extent, ExtentTable, type PageRun } from './extents.js';
import type { IommuGroup } from './group.js';
import type { IommuUnit } from './unit.js';

/** What a mapping permits, as bits of `prot`. Source: include/linux/iommu.h */
export const IommuProt = {
  READ: 1,
  WRITE: 2,
  CACHE: 4,
  NOEXEC: 8,
  MMIO: 16,
  PRIV: 32,
} as const;

/** How a domain treats addresses; the words are those of a group's `type` attribute. */
export type DomainKind = 'unmanaged' | 'blocked' | 'identity' | 'DMA' | 'DMA-FQ';

/** IOVAs that a domain can map: first and last byte, both inclusive. */
export interface Aperture {
  readonly start: bigint;
  readonly end: bigint;
}

/** Where an access ends up: contiguous bytes behind an IOVA. */
export interface Translation {
  /** physical address of the first byte */
  readonly phys: number;
  /** bytes that follow each other, at most as many as asked for */
  readonly length: number;
  /** `IommuProt` bits of the mapping */
  readonly prot: number;
}

/** What a domain is made with. */
export interface DomainOptions {
  readonly kind: DomainKind;
  /** asks for hardware dirty bits; the unit must have them */
  readonly dirtyTracking?: boolean;
}

const ADDRESS_SPACE_END = 2n ** 64n;
/** Frames are numbers below 2^52 bytes, what today's tables can hold. */
const OUTPUT_END = 2 ** 52;

/**
 * An I/O address space. Made by `Iommu.allocDomain`; the caller owns it and ends it with `free`, after the last group left.
 *
 * @source drivers/iommu/iommu.c, drivers/iommu/generic_pt/iommu_pt.h
 */
export class IommuDomain {
  readonly kind: DomainKind;
  readonly unit: IommuUnit;
  readonly aperture: Aperture;
  /** Sizes of hardware entries, one bit each; the lowest is the alignment of everything. */
  readonly pageSizes: bigint;
  /** Whether the hardware keeps dirty bits for this domain. */
  readonly canTrackDirty: boolean;

  readonly #seams: Seams;
  readonly #tracked: Tracked;
  readonly #granule: number;
  readonly #granuleBig: bigint;
  /** The aperture in whole pages, the end exclusive. */
  readonly #firstPage: number;
  readonly #endPage: number;
  readonly #table: ExtentTable;
  /** Entries that a device wrote to, by first page: length in pages. */
  #dirty: BTree<number, number> | undefined;
  readonly #groups = new SmallSet<IommuGroup>();
  /** How many PASIDs of each group are attached. */
  #pasids: Map<IommuGroup, number> | undefined;
  #tracking = false;
  #generation = 0;
  #coherencyEnforced = false;
  #freed = false;

  /** Use `Iommu.allocDomain`. */
  constructor(seams: Seams, unit: IommuUnit, options: DomainOptions) {
    if (options.dirtyTracking === true && !unit.dirtyTracking) {
      throw new SystemError('EOPNOTSUPP', `${unit.name} keeps no dirty bits`, { syscall: 'iommu_domain_alloc' });
    }
    seams.faults.check('iommu_domain_alloc:domain');
    this.kind = options.kind;
    this.unit = unit;
    this.aperture = unit.aperture;
    this.pageSizes = unit.pageSizes;
    this.canTrackDirty = options.dirtyTracking === true;
    this.#seams = seams;
    const { granule, firstPage, endPage, entrySizes } = unit.geometry;
    this.#granuleBig = granule;
    this.#granule = Number(granule);
    this.#firstPage = firstPage;
    this.#endPage = endPage;
    this.#table = new ExtentTable(entrySizes);
    this.#tracked = seams.tracker.track('domain', () => `${options.kind} domain of ${unit.name}`);
  }

  /** Whether mappings can be made: not in a blocked or identity domain. */
  get paging(): boolean {
    return this.kind !== 'blocked' && this.kind !== 'identity';
  }

  /** How many map calls are in force (after partial unmaps: pieces of them). */
  get mappings(): number {
    return this.#table.size;
  }

  /** Another number whenever something that was mapped is not any more: what was translated before may be wrong then. */
  get generation(): number {
    return this.#generation;
  }

  /** The groups that are attached now. */
  get groups(): ReadonlySet<IommuGroup> {
    return new Set(this.#groups);
  }

  /** Whether `enforceCoherency` has succeeded. */
  get coherencyEnforced(): boolean {
    return this.#coherencyEnforced;
  }

  /** Whether device writes are being recorded. */
  get dirtyTracking(): boolean {
    return this.#tracking;
  }

  /**
   * Makes every access of attached devices snoop the caches, no-snoop requests included.
   *
   * @returns false when a unit behind the domain cannot, or when mappings exist already; nothing has changed then
   * @source drivers/iommu/intel/iommu.c intel_iommu_enforce_cache_coherency_ss()
   */
  enforceCoherency(): boolean {
    this.#assertAlive();
    if (this.#coherencyEnforced) return true;
    const able = this.unit.enforceCoherency && [...this.#groups].every((group) => group.canEnforceCoherency());
    if (!able || this.#table.size > 0) return false;
    this.#coherencyEnforced = true;
    return true;
  }

  /**
   * Connects `size` bytes at `iova` with physical memory at `phys`. All or nothing.
   *
   * @param size - bytes; 0 does nothing
   * @param prot - `IommuProt` bits, READ or WRITE at least
   * @throws EINVAL - the domain does not page, an argument is not a multiple of the smallest page, or neither READ nor WRITE
   * @throws ERANGE - outside of the aperture, or beyond physical addresses
   * @throws EEXIST - a page of the range is mapped
   * @throws ENOMEM - no memory for the table
   * @source drivers/iommu/iommu.c iommu_map()
   */
  map(iova: bigint, phys: number, size: bigint, prot: number): void {
    this.#assertAlive();
    if (!this.paging) throw this.#error('EINVAL', `${this.kind} domain has no page table`, iova);
    const frame = phys / this.#granule;
    if (!this.#aligned(iova) || !this.#aligned(size) || !Number.isInteger(frame)) {
      const where = `iova ${hex(iova)} pa ${hex(phys)} size ${hex(size)} min_pagesz ${hex(this.#granule)}`;
      this.#seams.log.err(`iommu: unaligned: ${where}`);
      throw this.#error('EINVAL', `unaligned: ${where}`, iova);
    }
    if (size === 0n) return;
    if ((prot & (IommuProt.READ | IommuProt.WRITE)) === 0) throw this.#error('EINVAL', 'neither READ nor WRITE', iova);
    const page = this.#page(iova);
    const pages = this.#page(size);
    if (page < this.#firstPage || pages < 0 || page + pages > this.#endPage) {
      throw this.#error('ERANGE', `${hex(size)} bytes are not inside of the aperture`, iova);
    }
    if (frame < 0 || (frame + pages) * this.#granule > OUTPUT_END) {
      throw this.#error('ERANGE', `no such frame: ${hex(phys)}`, iova);
    }
    this.#seams.faults.check('iommu_map:page-table');
    if (!this.#table.insert({ page, pages, frame, prot }))
      throw this.#error('EEXIST', `${hex(size)} bytes meet a mapping`, iova);
  }

  /**
   * Removes mappings from `iova` on. Large entries go as a whole, so that more than `size` may go; a hole, or a start in
   * the middle of a large entry, ends the walk. Nothing is thrown: whoever unmaps looks at the result.
   *
   * @returns bytes unmapped
   * @source drivers/iommu/iommu.c iommu_unmap(), drivers/iommu/generic_pt/iommu_pt.h unmap_pages()
   */
  unmap(iova: bigint, size: bigint): bigint {
    this.#assertAlive();
    if (!this.paging) return 0n;
    if (!this.#aligned(iova) || !this.#aligned(size)) {
      const where = `iova ${hex(iova)} size ${hex(size)} min_pagesz ${hex(this.#granule)}`;
      this.#seams.log.err(`iommu: unaligned: ${where}`);
      return 0n;
    }
    if (iova < 0n || size <= 0n || iova + size > ADDRESS_SPACE_END) return 0n;
    const page = this.#page(iova);
    const pages = this.#table.remove(page, this.#page(size));
    if (pages > 0) {
      this.#generation++;
      for (const entry of this.#dirtyEntries(page, pages)) this.#dirty?.delete(entry.page);
    }
    return BigInt(pages) * this.#granuleBig;
  }

  /** The physical address behind `iova`, to the byte; undefined where nothing is mapped. */
  iovaToPhys(iova: bigint): number | undefined {
    return this.translate(iova, 1)?.phys;
  }

  /**
   * Where an access of `length` bytes at `iova` goes. The answer stops at the end of the mapping found, however the next
   * one continues: ask again for the rest. Permissions are reported, not checked.
   *
   * @param length - bytes, more than 0
   * @returns undefined where nothing is mapped
   */
  translate(iova: bigint, length: number): Translation | undefined {
    this.#assertAlive();
    if (this.kind === 'blocked' || iova < 0n) return undefined;
    if (this.kind === 'identity') {
      return Number(iova) + length > OUTPUT_END
        ? undefined
        : { phys: Number(iova), length, prot: IommuProt.READ | IommuProt.WRITE };
    }
    const page = this.#page(iova);
    const extent = this.#table.find(page);
    if (extent === undefined) return undefined;
    const into = (page - extent.page) * this.#granule + this.#offset(iova, page);
    return {
      phys: extent.frame * this.#granule + into,
      length: Math.min(length, extent.pages * this.#granule - into),
      prot: extent.prot,
    };
  }

  /**
   * Starts or stops the recording of device writes. Bits from before stay readable.
   *
   * @throws EOPNOTSUPP - the domain was allocated without dirty tracking
   * @source include/linux/iommu.h struct iommu_dirty_ops
   */
  setDirtyTracking(enable: boolean): void {
    this.#assertAlive();
    if (!this.canTrackDirty) throw this.#error('EOPNOTSUPP', `${this.unit.name} keeps no dirty bits here`);
    if (enable === this.#tracking) return;
    this.#seams.faults.check('iommu_set_dirty_tracking:unit');
    this.#tracking = enable;
  }

  /**
   * Reports the entries in a range that devices wrote to, and makes them clean. The grain is the hardware entry: one byte
   * written to a 2 MiB entry reports 2 MiB, cut to the range asked for.
   *
   * @param visit - called by ascending address with the bytes that are dirty
   * @param keep - leaves the bits set
   * @throws EOPNOTSUPP - the domain was allocated without dirty tracking
   * @source include/linux/iommu.h struct iommu_dirty_ops
   */
  readAndClearDirty(iova: bigint, size: bigint, visit: (iova: bigint, size: bigint) => void, keep = false): void {
    this.#assertAlive();
    if (!this.canTrackDirty) throw this.#error('EOPNOTSUPP', `${this.unit.name} keeps no dirty bits here`);
    if (size <= 0n) return;
    const end = iova + size;
    const from = this.#page(iova);
    const entries = this.#dirtyEntries(from, this.#page(end - 1n) - from + 1);
    for (const entry of entries) {
      if (!keep) this.#dirty?.delete(entry.page);
      const entryStart = BigInt(entry.page) * this.#granuleBig;
      const entryEnd = entryStart + BigInt(entry.pages) * this.#granuleBig;
      const start = entryStart < iova ? iova : entryStart;
      visit(start, (entryEnd < end ? entryEnd : end) - start);
    }
  }

  /**
   * Sets the dirty bits of the entries behind a device write, while tracking is on. Called by the DMA engine; unmapped
   * addresses are skipped.
   *
   * @param length - bytes, more than 0
   */
  markDirty(iova: bigint, length: number): void {
    if (!this.#tracking) return;
    const last = this.#page(iova + BigInt(length) - 1n);
    let page = this.#page(iova);
    while (page <= last) {
      const extent: Extent | undefined = this.#table.find(page);
      if (extent === undefined) {
        page++;
        continue;
      }
      const entry = this.#table.entryAt(extent, page);
      this.#dirty ??= new BTree();
      this.#dirty.set(entry.page, entry.pages, false);
      page = entry.page + entry.pages;
    }
  }

  /** Called by a group that enters the domain. */
  addGroup(group: IommuGroup): void {
    this.#assertAlive();
    this.#groups.add(group);
  }

  /** Called by a group that leaves the domain. */
  removeGroup(group: IommuGroup): void {
    this.#groups.delete(group);
  }

  /** Called by a group that attaches a PASID. */
  addPasid(group: IommuGroup): void {
    this.#assertAlive();
    this.#pasids ??= new Map();
    this.#pasids.set(group, (this.#pasids.get(group) ?? 0) + 1);
  }

  /** Called by a group that detaches a PASID. */
  removePasid(group: IommuGroup): void {
    const left = (this.#pasids?.get(group) ?? 0) - 1;
    if (left > 0) this.#pasids?.set(group, left);
    else this.#pasids?.delete(group);
  }

  /**
   * Ends the domain; mappings that are left vanish with it.
   *
   * @throws KernelBug - a group or a PASID of one is attached, or the domain was freed before
   */
  free(): void {
    if (this.#freed) throw new KernelBug('double-free', `IOMMU domain of ${this.unit.name} freed twice`);
    const users = new Set([...this.#groups, ...(this.#pasids?.keys() ?? [])]);
    if (users.size > 0) {
      const ids = [...users].map((group) => group.id).join(', ');
      throw new KernelBug('use-after-free', `IOMMU domain freed while group ${ids} uses it`);
    }
    this.#freed = true;
    this.#generation++;
    this.#table.clear();
    this.#dirty?.clear();
    this.#tracked.release();
  }

  /** Dirty entries that share a page with the run, which has at least one. */
  #dirtyEntries(page: number, pages: number): PageRun[] {
    const found: PageRun[] = [];
    if (this.#dirty === undefined) return found;
    const start = this.#dirty.getPairOrNextLower(page)?.[0] ?? page;
    for (const [at, length] of this.#dirty.entries(start)) {
      if (at >= page + pages) break;
      if (at + length > page) found.push({ page: at, pages: length });
    }
    return found;
  }

  /** The page of an address, or the pages of a size: whole ones. Most are small enough for plain numbers, which are much faster. */
  #page(bytes: bigint): number {
    const near = Number(bytes);
    return near <= Number.MAX_SAFE_INTEGER ? Math.floor(near / this.#granule) : Number(bytes / this.#granuleBig);
  }

  #offset(iova: bigint, page: number): number {
    const near = Number(iova);
    return near <= Number.MAX_SAFE_INTEGER ? near - page * this.#granule : Number(iova & (this.#granuleBig - 1n));
  }

  #aligned(bytes: bigint): boolean {
    const near = Number(bytes);
    if (near <= Number.MAX_SAFE_INTEGER) return Number.isInteger(near / this.#granule);
    return (bytes & (this.#granuleBig - 1n)) === 0n;
  }

  #assertAlive(): void {
    if (this.#freed) throw new KernelBug('use-after-free', `IOMMU domain of ${this.unit.name} used after free`);
  }

  #error(code: 'EINVAL' | 'ERANGE' | 'EEXIST' | 'EOPNOTSUPP', reason: string, iova?: bigint): SystemError {
    return new SystemError(code, reason, iova === undefined ? {} : { subject: `iova ${hex(iova)}` });
  }
}

function hex(value: bigint | number): string {
  return `0x${value.toString(16)}`;
}
