/**
 * The page table behind an IOAS: which IOVA is mapped, which may be, and which never. Domains of hardware hold a copy of
 * all of it; devices without hardware reach the pages through accesses. Everything here is under its two locks: the
 * domains' lock keeps the list of domains and accesses, the IOVA lock the three sets of ranges.
 */
import { type Host, type IommuDomain, RwLock } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IommufdAccess } from './access-object.js';
import { AreaTree } from './area-tree.js';
import { fillDomain, unfillDomain } from './domain-fill.js';
import { ADDRESS_MAX, byBigint, holes, type IovaRange, joined, overlaps, PAGE, rangeText } from './iova-range.js';

/** A range that must not be mapped, and on whose behalf. */
interface Reserved extends IovaRange {
  readonly owner: object;
}

function inUse(reason: string): VfioError {
  return new VfioError('EADDRINUSE', reason, { syscall: 'iommufd' });
}

/** Source: drivers/iommu/iommufd/io_pagetable.h struct io_pagetable */
export class IoPagetable {
  readonly host: Host;
  readonly domainsRwsem: RwLock;
  readonly iovaRwsem: RwLock;
  readonly areas = new AreaTree();
  /** The domains that hold a copy, in no order that matters. */
  readonly domains: IommuDomain[] = [];
  readonly accesses = new Set<IommufdAccess>();
  /** What every start, length and page offset is a multiple of; no more than a page of the CPU. */
  iovaAlignment = 1n;
  /** Domains get single pages, so that a mapping can be cut. */
  largePagesDisabled = false;
  /** Sorted, with neighbours joined. */
  #allowed: readonly IovaRange[] = [];
  /** Sorted by start; they may overlap. */
  readonly #reserved: Reserved[] = [];

  /** @source drivers/iommu/iommufd/io_pagetable.c iopt_init_table() */
  constructor(host: Host) {
    this.host = host;
    this.domainsRwsem = new RwLock(host, 'io_pagetable.domains_rwsem');
    this.iovaRwsem = new RwLock(host, 'io_pagetable.iova_rwsem');
  }

  /** Where the kernel may choose an IOVA, ascending, with neighbours joined; empty: anywhere. */
  get allowed(): readonly IovaRange[] {
    return this.#allowed;
  }

  /** What must not be mapped, ascending, joined. */
  reserved(): IovaRange[] {
    return joined(this.#reserved);
  }

  /** What is not reserved, ascending. */
  usable(): IovaRange[] {
    return holes(this.reserved(), 0n, ADDRESS_MAX);
  }

  /** Whether a byte of a range is reserved. */
  isReserved(start: bigint, last: bigint): boolean {
    return this.#reserved.some((range) => overlaps(range, start, last));
  }

  /**
   * Replaces where the kernel may choose.
   *
   * @param ranges - sorted, without overlaps
   * @throws EADDRINUSE - one of them meets a reserved range; the old ones stay
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_set_allow_iova()
   */
  async setAllowIova(ranges: readonly IovaRange[]): Promise<void> {
    using _held = await this.iovaRwsem.write();
    const reserved = this.reserved();
    for (const { start, last } of ranges) {
      // sorted and joined: the first that ends at or after the start decides
      const next = reserved[lowerBound(reserved, start)];
      if (next && next.start <= last) throw inUse(`${rangeText(start, last - start + 1n)} meets a reserved range`);
    }
    this.#allowed = joined(ranges);
  }

  /**
   * Keeps a range from being mapped.
   *
   * @param owner - by whom `removeReserved` finds it again
   * @throws EADDRINUSE - a mapping or an allowed range is there
   * @throws ENOMEM - no memory for it
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_reserve_iova()
   */
  reserve(start: bigint, last: bigint, owner: object): void {
    this.iovaRwsem.assertHeldWrite();
    if (this.areas.first(start, last)) throw inUse(`${rangeText(start, last - start + 1n)} is mapped`);
    const allowed = this.#allowed[lowerBound(this.#allowed, start)];
    if (allowed && allowed.start <= last) throw inUse(`${rangeText(start, last - start + 1n)} is allowed`);
    this.host.faults.check('iopt_reserve_iova:reserved');
    this.#reserved.push({ start, last, owner });
    this.#reserved.sort((a, b) => byBigint(a.start, b.start));
  }

  /** Ends all reservations of an owner, with the lock held. Source: __iopt_remove_reserved_iova() */
  dropReserved(owner: object): void {
    this.iovaRwsem.assertHeldWrite();
    for (let at = this.#reserved.length - 1; at >= 0; at--) {
      if (this.#reserved[at]?.owner === owner) this.#reserved.splice(at, 1);
    }
  }

  /** Ends all reservations of an owner. Source: drivers/iommu/iommufd/io_pagetable.c iopt_remove_reserved_iova() */
  async removeReserved(owner: object): Promise<void> {
    using _held = await this.iovaRwsem.write();
    this.dropReserved(owner);
  }

  /**
   * Adds a domain, which then holds everything that is mapped, and narrows the table to what the domain can do.
   *
   * @throws EINVAL - its smallest page is larger than one of the CPU
   * @throws EADDRINUSE - what is mapped or allowed lies outside of its aperture, or does not fit its pages
   * @throws EFAULT, ENOMEM - the memory of a mapping cannot be pinned
   * @throws the errno of the domain; nothing has changed then
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_table_add_domain()
   */
  async addDomain(domain: IommuDomain): Promise<void> {
    using _domains = await this.domainsRwsem.write();
    using _iova = await this.iovaRwsem.write();
    const smallest = domain.pageSizes & -domain.pageSizes;
    const alignment = smallest > this.iovaAlignment ? smallest : this.iovaAlignment;
    if (alignment > PAGE) {
      throw new VfioError('EINVAL', `the domain maps no less than ${alignment} bytes`, { syscall: 'iommufd' });
    }
    if (alignment !== this.iovaAlignment) this.#checkAlignment(alignment);
    const { start, end } = domain.aperture;
    try {
      if (start !== 0n) this.reserve(0n, start - 1n, domain);
      if (end !== ADDRESS_MAX) this.reserve(end + 1n, ADDRESS_MAX, domain);
      this.host.faults.check('iopt_table_add_domain:domains');
      await fillDomain(this, domain);
    } catch (error) {
      this.dropReserved(domain);
      throw error;
    }
    this.iovaAlignment = alignment;
    this.domains.push(domain);
  }

  /**
   * Takes a domain out; with the last one, pages are unpinned that no access holds.
   *
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_table_remove_domain()
   */
  async removeDomain(domain: IommuDomain): Promise<void> {
    using _domains = await this.domainsRwsem.write();
    using _iova = await this.iovaRwsem.write();
    const at = this.domains.indexOf(domain);
    if (this.host.log.warnOn(at < 0, 'iommufd: the domain is not of this page table')) return;
    this.domains.splice(at, 1);
    await unfillDomain(this, domain);
    this.dropReserved(domain);
    this.#calculateAlignment();
  }

  /**
   * Adds an access.
   *
   * @throws EADDRINUSE - what is mapped does not fit its alignment
   * @throws ENOMEM - no memory for it
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_add_access()
   */
  async addAccess(access: IommufdAccess): Promise<void> {
    using _domains = await this.domainsRwsem.write();
    using _iova = await this.iovaRwsem.write();
    this.host.faults.check('iopt_add_access:access');
    this.accesses.add(access);
    try {
      this.#calculateAlignment();
    } catch (error) {
      this.accesses.delete(access);
      throw error;
    }
  }

  /** Takes an access out. Source: drivers/iommu/iommufd/io_pagetable.c iopt_remove_access() */
  async removeAccess(access: IommufdAccess): Promise<void> {
    using _domains = await this.domainsRwsem.write();
    using _iova = await this.iovaRwsem.write();
    this.host.log.warnOn(!this.accesses.delete(access), 'iommufd: the access is not of this page table');
    this.#calculateAlignment();
  }

  /** Lets domains use large pages for what is mapped from now on. Source: io_pagetable.c iopt_enable_large_pages() */
  async enableLargePages(): Promise<void> {
    using _domains = await this.domainsRwsem.write();
    using _iova = await this.iovaRwsem.write();
    this.largePagesDisabled = false;
    this.#calculateAlignment();
  }

  /**
   * Gives domains single pages from now on.
   *
   * @throws EINVAL - something is mapped in a domain already
   * @throws EADDRINUSE - something is mapped that is not made of pages
   * @source drivers/iommu/iommufd/io_pagetable.c iopt_disable_large_pages()
   */
  async disableLargePages(): Promise<void> {
    using _domains = await this.domainsRwsem.write();
    using _iova = await this.iovaRwsem.write();
    if (this.largePagesDisabled) return;
    if (this.domains.length > 0 && this.areas.size > 0) {
      throw new VfioError('EINVAL', 'domains have large pages already', { syscall: 'iommufd' });
    }
    this.largePagesDisabled = true;
    try {
      this.#calculateAlignment();
    } catch (error) {
      this.largePagesDisabled = false;
      throw error;
    }
  }

  /** The table goes. Source: drivers/iommu/iommufd/io_pagetable.c iopt_destroy_table() */
  destroy(): void {
    const left = this.#reserved.length + this.domains.length + this.accesses.size + this.areas.size;
    this.host.log.warnOn(left > 0, 'iommufd: the page table is still in use');
  }

  /** It fails only where more is asked for than before. Source: io_pagetable.c iopt_calculate_iova_alignment() */
  #calculateAlignment(): void {
    let alignment = this.largePagesDisabled ? PAGE : 1n;
    for (const { pageSizes } of this.domains) alignment = larger(alignment, pageSizes & -pageSizes);
    for (const access of this.accesses) alignment = larger(alignment, access.iovaAlignment);
    if (alignment > this.iovaAlignment) this.#checkAlignment(alignment);
    this.iovaAlignment = alignment;
  }

  /** Source: drivers/iommu/iommufd/io_pagetable.c iopt_check_iova_alignment() */
  #checkAlignment(alignment: bigint): void {
    for (const { start, length, pageOffset } of this.areas) {
      if (((start | length | pageOffset) & (alignment - 1n)) === 0n) continue;
      throw inUse(`the mapping ${rangeText(start, length)} is not a multiple of ${alignment}`);
    }
  }
}

function larger(a: bigint, b: bigint): bigint {
  return a > b ? a : b;
}

/** Index of the first range that ends at or after an address. */
function lowerBound(ranges: readonly IovaRange[], address: bigint): number {
  let low = 0;
  let high = ranges.length;
  while (low < high) {
    const middle = (low + high) >>> 1;
    const range = ranges[middle];
    if (range && range.last < address) low = middle + 1;
    else high = middle;
  }
  return low;
}
