/*
 * IOVA ranges that hardware or firmware keeps for itself: the interrupt window, memory that firmware wants mapped one to one,
 * and ranges that a device cannot use.
 */
import { type IommuDomain, IommuProt } from './domain.js';

/** What a reserved range is for, in the words of `reserved_regions`. 'sw-msi' is a window that Linux itself picks for doorbells. */
export type ReservedType = 'direct' | 'direct-relaxable' | 'reserved' | 'msi' | 'sw-msi';

/** A range of I/O virtual addresses that is not free for mappings. */
export interface ReservedRegion {
  /** first byte */
  readonly start: bigint;
  /** last byte, inclusive */
  readonly end: bigint;
  readonly type: ReservedType;
}

/** The order of types at one address, that of the kernel's enumeration. */
const TYPE_ORDER: Readonly<Record<ReservedType, number>> = {
  direct: 0,
  'direct-relaxable': 1,
  reserved: 2,
  msi: 3,
  'sw-msi': 4,
};

/**
 * Sorts regions by address and joins those of one type that touch or overlap; types stay apart.
 *
 * @source drivers/iommu/iommu.c iommu_insert_resv_region()
 */
export function mergeReservedRegions(regions: Iterable<ReservedRegion>): ReservedRegion[] {
  const merged: ReservedRegion[] = [];
  for (const region of [...regions].sort(compareRegions)) {
    const index = merged.findLastIndex((other) => other.type === region.type);
    const top = merged[index];
    if (top !== undefined && region.start <= top.end + 1n) {
      merged[index] = { ...top, end: region.end > top.end ? region.end : top.end };
    } else {
      merged.push(region);
    }
  }
  return merged;
}

/**
 * Writes regions as `/sys/kernel/iommu_groups/<id>/reserved_regions` shows them, one line each.
 *
 * @source drivers/iommu/iommu.c iommu_group_show_resv_regions()
 */
export function formatReservedRegions(regions: readonly ReservedRegion[]): string {
  return regions
    .map(({ start, end, type }) => `${address(start)} ${address(end)} ${type === 'sw-msi' ? 'msi' : type}\n`)
    .join('');
}

/**
 * Maps firmware's regions one to one, as far as nothing is mapped there: they stay reachable at their own addresses.
 *
 * @throws ENOMEM - no memory for the table
 * @source drivers/iommu/iommu.c iommu_create_device_direct_mappings()
 */
export function mapDirect(domain: IommuDomain, regions: readonly ReservedRegion[]): void {
  if (!domain.paging) return;
  const page = domain.pageSizes & -domain.pageSizes;
  for (const { start, end, type } of regions) {
    if (type !== 'direct' && type !== 'direct-relaxable') continue;
    const last = end - (end % page);
    for (let iova = start - (start % page); iova <= last; iova += page) {
      if (domain.iovaToPhys(iova) !== undefined) continue;
      domain.map(iova, Number(iova), page, IommuProt.READ | IommuProt.WRITE);
    }
  }
}

function compareRegions(a: ReservedRegion, b: ReservedRegion): number {
  if (a.start !== b.start) return a.start < b.start ? -1 : 1;
  return TYPE_ORDER[a.type] - TYPE_ORDER[b.type];
}

function address(value: bigint): string {
  return `0x${value.toString(16).padStart(16, '0')}`;
}
