/**
 * The IOVA that may be mapped: what the apertures of all domains share, less what hardware and firmware keep for
 * themselves. Every function makes a new list; the container swaps its own when everything else has worked.
 */
import type { Faults, ReservedRegion } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { DmaTree } from './dma-tree.js';
import type { IovaWindow, Type1Domain } from './state.js';
import { ADDRESS_MAX, pageOf } from './units.js';

/** Source: drivers/vfio/vfio_iommu_type1.c vfio_iommu_iova_insert() */
function iovaInsert(faults: Faults, windows: IovaWindow[], start: bigint, end: bigint): void {
  faults.check('vfio_iommu_iova_insert:window');
  windows.push({ start, end });
}

/**
 * A copy to work on.
 *
 * @throws ENOMEM - no memory for it
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_iova_get_copy()
 */
export function iovaGetCopy(faults: Faults, windows: readonly IovaWindow[]): IovaWindow[] {
  const copy: IovaWindow[] = [];
  for (const { start, end } of windows) iovaInsert(faults, copy, start, end);
  return copy;
}

/**
 * Whether a range lies inside one window. No windows at all stand for no restriction.
 *
 * @param end - last byte
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_iova_dma_valid()
 */
export function iovaDmaValid(windows: readonly IovaWindow[], start: bigint, end: bigint): boolean {
  return windows.length === 0 || windows.some((window) => start >= window.start && end <= window.end);
}

function mapped(dmas: DmaTree, start: bigint, end: bigint): boolean {
  return dmas.find(pageOf(start), pageOf(end)) !== undefined;
}

/**
 * Whether an aperture has nothing in common with the windows, or would cut off what is mapped.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_aper_conflict()
 */
export function aperConflict(windows: readonly IovaWindow[], dmas: DmaTree, aperture: IovaWindow): boolean {
  const first = windows.at(0);
  const last = windows.at(-1);
  if (!first || !last) return false;
  const { start, end } = aperture;
  if (start > last.end || end < first.start) return true;
  if (start > first.start && mapped(dmas, first.start, start - 1n)) return true;
  return end < last.end && mapped(dmas, end + 1n, last.end);
}

/**
 * The windows cut to an aperture that does not conflict with them; without windows, the aperture.
 *
 * @throws ENOMEM - no memory for the list
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_aper_resize()
 */
export function aperResize(faults: Faults, windows: readonly IovaWindow[], { start, end }: IovaWindow): IovaWindow[] {
  if (windows.length === 0) {
    const whole: IovaWindow[] = [];
    iovaInsert(faults, whole, start, end);
    return whole;
  }
  // a window of which one byte is left goes too: nothing could be mapped there
  return windows
    .filter((window) => window.end > start && window.start < end)
    .map((window) => ({
      start: window.start < start ? start : window.start,
      end: window.end > end ? end : window.end,
    }));
}

/** Regions that no mapping may touch. Firmware can do without the relaxable ones. */
function inTheWay(regions: readonly ReservedRegion[]): ReservedRegion[] {
  return regions.filter(({ type }) => type !== 'direct-relaxable');
}

/**
 * Whether something is mapped where a region is reserved.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_resv_conflict()
 */
export function resvConflict(dmas: DmaTree, regions: readonly ReservedRegion[]): boolean {
  return inTheWay(regions).some(({ start, end }) => mapped(dmas, start, end));
}

/**
 * The windows without the reserved regions.
 *
 * @throws EINVAL - no window is left
 * @throws ENOMEM - no memory for the list
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_resv_exclude()
 */
export function resvExclude(
  faults: Faults,
  windows: readonly IovaWindow[],
  regions: readonly ReservedRegion[],
): IovaWindow[] {
  let left = [...windows];
  for (const { start, end } of inTheWay(regions)) {
    const next: IovaWindow[] = [];
    for (const window of left) {
      if (start > window.end || end < window.start) {
        next.push(window);
        continue;
      }
      if (start > window.start) iovaInsert(faults, next, window.start, start - 1n);
      if (end < window.end) iovaInsert(faults, next, end + 1n, window.end);
    }
    left = next;
  }
  if (left.length === 0)
    throw new VfioError('EINVAL', 'reserved regions leave nothing to map', { syscall: 'attach_group' });
  return left;
}

/**
 * The aperture that domains share; everything when there are none.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_aper_expand()
 */
export function commonAperture(domains: readonly Type1Domain[]): IovaWindow {
  let start = 0n;
  let end = ADDRESS_MAX;
  for (const { aperture } of domains.map(({ domain }) => domain)) {
    if (aperture.start > start) start = aperture.start;
    if (aperture.end < end) end = aperture.end;
  }
  return { start, end };
}

/**
 * The windows after a group went: its reserved regions may be free now, unless another group has them too.
 *
 * @param ends - where the first window starts and the last one ends
 * @param domains - with the groups that remain
 * @throws EINVAL - no window is left
 * @throws ENOMEM - no memory for the list
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_resv_refresh()
 */
export function resvRefresh(faults: Faults, ends: IovaWindow, domains: readonly Type1Domain[]): IovaWindow[] {
  const regions = domains.flatMap(({ groups }) => groups.flatMap(({ iommuGroup }) => iommuGroup.reservedRegions()));
  return resvExclude(faults, aperResize(faults, [], ends), regions);
}
