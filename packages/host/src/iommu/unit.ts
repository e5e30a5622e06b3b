/*
 * One IOMMU of the machine, as hardware describes itself: what it can address, enforce and record.
 */
import type { Device } from '../drivers/device.js';
import type { Seams } from '../seams.js';
import type { AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Aperture, DomainKind, IommuDomain } from './domain.js';
import { PASID_LIMIT } from './pasids.js';
import type { ReservedRegion } from './reserved.js';

/** A hardware unit in the words of a machine file. */
export interface IommuOptions {
  /** its name in messages and in /sys/class/iommu; 'dmar0', 'dmar1', ... in messages alone when absent */
  readonly name?: string;
  /** what its driver shows of it in sysfs, such as `intel-iommu/`, beside the links to its devices */
  readonly groups?: readonly AttributeGroup[];
  /** first and last IOVA, both inclusive */
  readonly aperture: readonly [bigint, bigint];
  /** sizes of its page table entries, one bit each; the lowest from 2 KiB on */
  readonly pageSizes: bigint;
  /** DMA is coherent with the CPU's caches: VFIO refuses devices behind a unit that is not */
  readonly coherent: boolean;
  /** can override no-snoop requests of devices; as `coherent` when absent */
  readonly enforceCoherency?: boolean;
  /** its tables have dirty bits */
  readonly dirtyTracking?: boolean;
  /** PASIDs that its tables hold for each device; its driver refuses them when absent */
  readonly maxPasids?: number;
  /** devices can raise only the interrupts that were given to them */
  readonly msiIsolated: boolean;
  /** what every device behind it must not use */
  readonly reserved: readonly ReservedRegion[];
  /** what groups get while nobody asks for a domain of their own; DMA-FQ when absent */
  readonly defaultDomain?: Exclude<DomainKind, 'unmanaged' | 'blocked'>;
}

const SMALLEST_PAGE = 2048n;

/** What a page table of a unit is made of, in its smallest pages. */
export interface TableGeometry {
  /** Bytes of the smallest page. */
  readonly granule: bigint;
  /** The aperture in whole pages, the end exclusive. */
  readonly firstPage: number;
  readonly endPage: number;
  /** Pages in each kind of entry, largest first. */
  readonly entrySizes: readonly number[];
}

/**
 * A unit with its defaults filled in. Made by `Iommu`.
 */
export class IommuUnit {
  readonly name: string;
  /** Its name is its own: it is a device in sysfs. */
  readonly named: boolean;
  readonly groups: readonly AttributeGroup[];
  readonly aperture: Aperture;
  readonly pageSizes: bigint;
  readonly coherent: boolean;
  readonly enforceCoherency: boolean;
  readonly dirtyTracking: boolean;
  readonly maxPasids: number | undefined;
  readonly msiIsolated: boolean;
  readonly reserved: readonly ReservedRegion[];
  readonly defaultDomain: Exclude<DomainKind, 'unmanaged' | 'blocked'>;

  /** The same for all of its domains. */
  readonly geometry: TableGeometry;

  /** The unit in /sys/class/iommu, while it is there. */
  device: Device | undefined;

  readonly #seams: Seams;

  /**
   * @throws RangeError - no page size, a page below 2 KiB, an aperture that ends before it starts, or more PASIDs than tags
   */
  constructor(seams: Seams, name: string, options: IommuOptions) {
    const [start, end] = options.aperture;
    const smallest = options.pageSizes & -options.pageSizes;
    if (options.pageSizes <= 0n || smallest < SMALLEST_PAGE) {
      throw new RangeError(`IOMMU page sizes 0x${options.pageSizes.toString(16)}: at least one, none below 2 KiB`);
    }
    if (start < 0n || end < start || end >= 2n ** 64n) throw new RangeError(`IOMMU aperture ${start}..${end}`);
    const { maxPasids } = options;
    if (maxPasids !== undefined && (maxPasids < 0 || maxPasids > PASID_LIMIT))
      throw new RangeError(`${maxPasids} PASIDs`);
    this.#seams = seams;
    this.name = options.name ?? name;
    this.named = options.name !== undefined;
    this.groups = options.groups ?? [];
    this.aperture = { start, end };
    this.pageSizes = options.pageSizes;
    this.coherent = options.coherent;
    this.enforceCoherency = options.enforceCoherency ?? options.coherent;
    this.dirtyTracking = options.dirtyTracking ?? false;
    this.maxPasids = maxPasids;
    this.msiIsolated = options.msiIsolated;
    this.reserved = options.reserved;
    this.defaultDomain = options.defaultDomain ?? 'DMA-FQ';
    this.geometry = {
      granule: smallest,
      firstPage: Number((start + smallest - 1n) / smallest),
      endPage: Number((end + 1n) / smallest),
      entrySizes: pagesPerEntry(options.pageSizes, smallest),
    };
  }

  /**
   * Whether devices behind this unit can work in a domain that another unit's driver made: it must reach as far, know
   * every entry size, and keep what the domain promises.
   *
   * @source drivers/iommu/intel/iommu.c paging_domain_compatible()
   */
  supports(domain: IommuDomain): boolean {
    if (domain.unit === this || !domain.paging) return true;
    return (
      this.aperture.start <= domain.aperture.start &&
      this.aperture.end >= domain.aperture.end &&
      (domain.pageSizes & ~this.pageSizes) === 0n &&
      (this.enforceCoherency || !domain.coherencyEnforced) &&
      (this.dirtyTracking || !domain.canTrackDirty)
    );
  }

  /**
   * Links a device and the unit in both directions, if the unit is in sysfs. All or nothing.
   *
   * @throws EEXIST, ENOMEM - the links
   * @source drivers/iommu/iommu-sysfs.c iommu_device_link()
   */
  linkDevice(device: Device): void {
    const devices = this.#devicesDir();
    if (devices === undefined || this.device === undefined) return;
    devices.addLink(device.name, device.sysfs);
    try {
      device.sysfs.addLink('iommu', this.device.sysfs);
    } catch (error) {
      devices.removeEntry(device.name);
      throw error;
    }
  }

  /** Takes back `linkDevice`. Source: drivers/iommu/iommu-sysfs.c iommu_device_unlink() */
  unlinkDevice(device: Device): void {
    const devices = this.#devicesDir();
    if (devices === undefined) return;
    device.sysfs.removeEntry('iommu');
    devices.removeEntry(device.name);
  }

  /**
   * Logs a DMA fault, within the kernel's usual rate limit.
   *
   * @param device - name of the device that asked
   * @param reason - number and text of the fault as hardware gives them
   * @param pasid - of a tagged request
   * @source drivers/iommu/intel/dmar.c dmar_fault_do_one()
   */
  reportFault(device: string, iova: bigint, write: boolean, reason: FaultReason, pasid?: number): void {
    const { log } = this.#seams;
    if (!log.rateLimit(this)) return;
    const tag = pasid === undefined ? 'NO_PASID' : `PASID 0x${pasid.toString(16)}`;
    const what = `[DMA ${write ? 'Write' : 'Read'} ${tag}] Request device [${sourceId(device)}]`;
    const why = `[fault reason 0x${reason.number.toString(16).padStart(2, '0')}] ${reason.text}`;
    log.err(`DMAR: ${what} fault addr 0x${iova.toString(16)} ${why}`);
  }

  #devicesDir(): SysfsDir | undefined {
    const dir = this.device?.sysfs.lookup('devices');
    return dir?.kind === 'dir' ? dir : undefined;
  }
}

/** Why a unit refused an access: number and text of VT-d's legacy table. */
export interface FaultReason {
  readonly number: number;
  readonly text: string;
}

/** The refusals that a page table can cause. Source: VT-d specification, fault reason encodings. */
export const FAULT_REASONS = {
  blocked: { number: 0x02, text: 'Present bit in context entry is clear' },
  beyond: { number: 0x04, text: 'Access beyond MGAW' },
  write: { number: 0x05, text: 'PTE Write access is not set' },
  read: { number: 0x06, text: 'PTE Read access is not set' },
} as const satisfies Record<string, FaultReason>;

/** As `FAULT_REASONS`, for tagged requests, which go through tables of scalable mode with a first level of pages. */
export const PASID_FAULT_REASONS = {
  disabled: { number: 0x45, text: 'SM: PASID Enable field in Context Entry is clear' },
  tooLarge: { number: 0x46, text: 'SM: PASID is larger than the max in Context Entry' },
  blocked: { number: 0x59, text: 'SM: Present bit in PASID Table Entry is clear' },
  absent: { number: 0x71, text: 'SM: Present bit in first-level paging entry is clear' },
  beyond: { number: 0x80, text: 'SM: Address in first-level translation is not canonical' },
  write: { number: 0x85, text: 'SM: No write permission for Write/AtomicOp request' },
  read: { number: 0x86, text: 'SM: No read permission for Read/AtomicOp request' },
} as const satisfies Record<string, FaultReason>;

/** A PCI function is known to the unit by bus, device and function only. */
function sourceId(device: string): string {
  return /^[0-9a-f]{4,}:([0-9a-f]{2}:[0-9a-f]{2}\.[0-7])$/.exec(device)?.[1] ?? device;
}

function pagesPerEntry(pageSizes: bigint, granule: bigint): number[] {
  const sizes: number[] = [];
  for (let size = granule; size <= pageSizes; size <<= 1n) {
    if ((pageSizes & size) !== 0n) sizes.push(Number(size / granule));
  }
  return sizes.reverse();
}
