/**
 * Ranges of I/O virtual addresses by their first and last byte, since a range may end at the last byte of all. The
 * arithmetic that areas, reserved and allowed ranges share.
 */
import { PAGE_SIZE } from '@vfio/host';

/** The last byte of a 64-bit address space. Source: include/linux/limits.h ULONG_MAX */
export const ADDRESS_MAX = 2n ** 64n - 1n;

/** Bytes in a page of the CPU. */
export const PAGE = BigInt(PAGE_SIZE);

/** A range, both ends included. */
export interface IovaRange {
  readonly start: bigint;
  readonly last: bigint;
}

/** Orders bigint keys. */
export function byBigint(a: bigint, b: bigint): number {
  return a < b ? -1 : a > b ? 1 : 0;
}

/**
 * The last byte of a range.
 *
 * @param length - bytes, not 0
 * @returns undefined when the range goes past the end of the address space
 */
export function lastOf(start: bigint, length: bigint): bigint | undefined {
  const last = start + length - 1n;
  return last > ADDRESS_MAX ? undefined : last;
}

/** Whether two ranges have a byte in common. */
export function overlaps(a: IovaRange, start: bigint, last: bigint): boolean {
  return a.start <= last && a.last >= start;
}

/** A range as messages show it. */
export function rangeText(start: bigint, length: bigint): string {
  return `0x${start.toString(16)}+0x${length.toString(16)}`;
}

/**
 * Ranges sorted by their start, with those that overlap or touch joined.
 *
 * @source lib/interval_tree.c interval_tree_span_iter_next()
 */
export function joined(ranges: readonly IovaRange[]): IovaRange[] {
  const spans: { start: bigint; last: bigint }[] = [];
  for (const { start, last } of [...ranges].sort((a, b) => byBigint(a.start, b.start))) {
    const top = spans.at(-1);
    if (top && start <= top.last + 1n) top.last = last > top.last ? last : top.last;
    else spans.push({ start, last });
  }
  return spans;
}

/**
 * What `ranges` leave of a range, ascending.
 *
 * @param ranges - joined
 */
export function holes(ranges: readonly IovaRange[], start: bigint, last: bigint): IovaRange[] {
  const free: IovaRange[] = [];
  let from = start;
  for (const used of ranges) {
    if (used.last < from) continue;
    if (used.start > last) break;
    if (used.start > from) free.push({ start: from, last: used.start - 1n });
    from = used.last + 1n;
  }
  if (from <= last) free.push({ start: from, last });
  return free;
}
