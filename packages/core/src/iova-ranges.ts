/**
 * Fewer, larger ranges out of many: for devices that can log writes to a limited number of ranges.
 */
import type { KernelLog } from '@vfio/host';
import type { IovaRange } from './device.js';

/**
 * Joins ranges until no more than `required` are left. The neighbours with the smallest gap between them are joined
 * first, of equal gaps the lower one, so that as little as possible is covered that was not asked for.
 *
 * @param ranges - disjoint, in any order
 * @param log - hears about a call that can not be answered: no ranges at all, or 0 required
 * @returns ranges in ascending order that cover all of the given ones
 * @source drivers/vfio/vfio_main.c vfio_combine_iova_ranges()
 */
export function combineIovaRanges(
  ranges: readonly IovaRange[],
  required: number,
  log: Pick<KernelLog, 'warnOnOnce'>,
): IovaRange[] {
  const sorted = [...ranges].sort((a, b) => (a.iova < b.iova ? -1 : a.iova > b.iova ? 1 : 0));
  const impossible = required < 1 || (required === 1 && sorted.length === 0);
  log.warnOnOnce(combineIovaRanges, impossible, `vfio_combine_iova_ranges: ${sorted.length} ranges to ${required}`);
  const joined = smallestGaps(sorted, sorted.length - Math.max(required, 1));
  const result: IovaRange[] = [];
  for (const [i, range] of sorted.entries()) {
    const last = result.at(-1);
    if (last && joined.has(i)) {
      result[result.length - 1] = { iova: last.iova, length: range.iova + range.length - last.iova };
    } else {
      result.push(range);
    }
  }
  return result;
}

/**
 * The `count` smallest gaps, each by the index of the range after it. Joining two ranges leaves all other gaps as they
 * are: the order in which they go can be settled at once.
 */
function smallestGaps(sorted: readonly IovaRange[], count: number): Set<number> {
  if (count <= 0) return new Set();
  const gaps = sorted.slice(1).map((range, i) => {
    const before = sorted[i] ?? range;
    return { index: i + 1, size: range.iova - (before.iova + before.length) };
  });
  gaps.sort((a, b) => (a.size < b.size ? -1 : a.size > b.size ? 1 : a.index - b.index));
  return new Set(gaps.slice(0, count).map((gap) => gap.index));
}
