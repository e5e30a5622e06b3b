/**
 * What a type1 container knows: its mappings, domains, groups and windows, and the two locks around them. The rooms beside
 * this file work on it; `backend.ts` lets the outside in.
 */
import { type Held, type Host, type IommuDomain, type IommuGroup, KernelBug, Mutex, PAGE_SIZE } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { DmaUnmapListener } from '../iommu-driver.js';
import { DmaTree } from './dma-tree.js';
import { pageOf } from './units.js';

/** Parameters of the module, as they are at the moment of asking. */
export interface Type1Parameters {
  /** Groups are accepted although their interrupts are not isolated. */
  readonly allowUnsafeInterrupts: boolean;
  /** Memory is pinned and mapped page by page. */
  readonly disableHugepages: boolean;
  /** Mappings that a container made from now on may have. */
  readonly dmaEntryLimit: number;
}

/** A group in a container. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_iommu_group */
export interface AttachedGroup {
  readonly iommuGroup: IommuGroup;
  /** Only pinned pages of it can become dirty: it is emulated, or has pinned pages before. */
  pinnedPageDirtyScope: boolean;
}

/** A hardware domain and the groups in it, newest first. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_domain */
export interface Type1Domain {
  readonly domain: IommuDomain;
  readonly groups: AttachedGroup[];
  /** The hardware overrides no-snoop requests here. */
  readonly enforceCacheCoherency: boolean;
}

/** IOVA that may be mapped, both ends inclusive. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_iova */
export interface IovaWindow {
  readonly start: bigint;
  readonly end: bigint;
}

/** All page sizes that a CPU with pages of 4 KiB can follow. */
const ANY_PAGE_SIZE = 2n ** 64n - BigInt(PAGE_SIZE);
const SUB_PAGE_SIZES = BigInt(PAGE_SIZE) - 1n;

/** A container's type1 state. Source: drivers/vfio/vfio_iommu_type1.c struct vfio_iommu */
export class Type1State {
  readonly host: Host;
  readonly parameters: Type1Parameters;
  /** Whether mappings are units that are removed whole, and devices may pin. */
  readonly v2: boolean;
  /** Everything below. */
  readonly lock: Mutex;
  /** The list of devices while they are told of something: alone, so that they can unpin. */
  readonly deviceListLock: Mutex;
  /** Newest first. */
  readonly domains: Type1Domain[] = [];
  /** Groups without hardware behind them, newest first. */
  readonly emulatedGroups: AttachedGroup[] = [];
  /** Open devices that can pin, newest first. */
  readonly devices: DmaUnmapListener[] = [];
  readonly dmas = new DmaTree();
  /** Sorted and disjoint. Empty while no hardware has a say: then everything may be mapped. */
  windows: readonly IovaWindow[] = [];
  /** Mappings that may still be made. */
  dmaAvail: number;
  /** Mappings whose address the user took back. */
  vaddrInvalidCount = 0;
  /** Groups whose devices can write anywhere without the host noticing. */
  numNonPinnedGroups = 0;
  dirtyPageTracking = false;
  /** The container gave its driver up: nobody can come in any more. */
  released = false;
  #pgsizeBitmap = ANY_PAGE_SIZE;

  constructor(host: Host, parameters: Type1Parameters, v2: boolean) {
    this.host = host;
    this.parameters = parameters;
    this.v2 = v2;
    this.dmaAvail = parameters.dmaEntryLimit;
    this.lock = new Mutex(host, 'type1 iommu.lock');
    this.deviceListLock = new Mutex(host, 'type1 device_list_lock');
  }

  /**
   * Takes the lock for a request on the container's file, which may have been on its way when the last group left.
   *
   * Differs: the kernel would work on memory that was freed; here the container has no driver any more.
   *
   * @throws EINVAL - released meanwhile
   */
  async lockForRequest(): Promise<Held> {
    const held = await this.lock.lock();
    if (!this.released) return held;
    held.release();
    throw new VfioError('EINVAL', 'the container has no IOMMU driver any more', { syscall: 'ioctl' });
  }

  /** Page sizes that all domains have, one bit each. */
  get pgsizeBitmap(): bigint {
    return this.#pgsizeBitmap;
  }

  /** The smallest of them, in bytes. */
  get pgsize(): bigint {
    return this.#pgsizeBitmap & -this.#pgsizeBitmap;
  }

  /** The smallest of them, in pages. */
  get pgsizePages(): number {
    return pageOf(this.pgsize);
  }

  /**
   * Looks again what the domains have in common. Sizes below a page of the CPU are hidden behind one page.
   *
   * @source drivers/vfio/vfio_iommu_type1.c vfio_update_pgsize_bitmap()
   */
  updatePgsizeBitmap(): void {
    const common = this.domains.reduce((sizes, { domain }) => sizes & domain.pageSizes, ANY_PAGE_SIZE | SUB_PAGE_SIZES);
    const subPage = (common & SUB_PAGE_SIZES) !== 0n;
    const whole = common & ANY_PAGE_SIZE;
    // no size in common at all: nothing could be mapped anyway, and 0 has no lowest bit
    this.#pgsizeBitmap = subPage || whole === 0n ? whole | BigInt(PAGE_SIZE) : whole;
  }

  /**
   * A group that is attached, in whatever way.
   *
   * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_find_iommu_group()
   */
  findGroup(iommuGroup: IommuGroup): AttachedGroup | undefined {
    for (const { groups } of this.domains) {
      const found = groups.find((group) => group.iommuGroup === iommuGroup);
      if (found) return found;
    }
    return this.emulatedGroups.find((group) => group.iommuGroup === iommuGroup);
  }

  /**
   * As `findGroup`, for callers who stand for a device of the group.
   *
   * @throws KernelBug('driver') - the group is not in this container
   */
  groupOf(iommuGroup: IommuGroup): AttachedGroup {
    const group = this.findGroup(iommuGroup);
    if (!group) throw new KernelBug('driver', `IOMMU group ${iommuGroup.id} is not attached to this container`);
    return group;
  }
}
