/** Regions of the displays, which lie close together at fixed places of the device file. */
import { type RegionInfo, VfioError } from '@vfio/core';

/** A region that is there. */
export interface RegionEntry {
  readonly index: number;
  /** Bytes from the start of the device file. */
  readonly start: number;
  /** Bytes. */
  readonly size: number;
  /** RegionInfoFlag bits. */
  readonly flags: number;
}

/**
 * Fills in flags, size and offset of `info.index`; of one that is not in the table, as nothing.
 *
 * @param count - indexes from here on exist only where the table has them
 * @returns the region, if there is one
 * @throws EINVAL - no such index
 * @source samples/vfio-mdev/mdpy.c mdpy_ioctl_get_region_info(), mbochs.c mbochs_ioctl_get_region_info()
 */
export function describeRegion(
  info: RegionInfo,
  table: readonly RegionEntry[],
  count: number,
): RegionEntry | undefined {
  const region = table.find(({ index }) => index === info.index);
  if (!region && info.index >= count) throw new VfioError('EINVAL', `region ${info.index} of ${count}`);
  info.offset = BigInt(region?.start ?? 0);
  info.size = BigInt(region?.size ?? 0);
  info.flags = region?.flags ?? 0;
  return region;
}

/** Whether an access lies in a region. */
export function within({ start, size }: RegionEntry, position: number, width: number): boolean {
  return position >= start && position + width <= start + size;
}
