/** How the kernel chooses an IOVA: the lowest place that is free, allowed, and aligned so that large pages may fit. */
import { HUGE_PAGE_SIZE } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IoPagetable } from './io-pagetable.js';
import { ADDRESS_MAX, holes, type IovaRange, lastOf, PAGE, rangeText } from './iova-range.js';

const syscall = 'iommufd';
const maxAlignment = BigInt(HUGE_PAGE_SIZE);

/** The next power of two. */
function roundUpPow2(n: bigint): bigint {
  return 1n << BigInt((n - 1n).toString(2).length - (n === 1n ? 1 : 0));
}

/**
 * The lowest aligned place in a range.
 *
 * @param pageOffset - bits that are set in the place besides
 * @source drivers/iommu/iommufd/io_pagetable.c __alloc_iova_check_range()
 */
export function alignedIn(
  { start, last }: IovaRange,
  length: bigint,
  alignment: bigint,
  pageOffset: bigint,
): bigint | undefined {
  const up = start + alignment - 1n;
  if (up > ADDRESS_MAX) return undefined;
  const place = (up & -alignment) | pageOffset;
  return place >= last || last - place < length - 1n ? undefined : place;
}

/**
 * The alignment of a mapping that may lie anywhere: as good as its length and its address make useful.
 *
 * @param address - of the memory, or its place in a file
 */
export function preferredAlignment(address: bigint, length: bigint): bigint {
  let alignment = roundUpPow2(length);
  const lowest = address & -address;
  if (lowest !== 0n && lowest < alignment) alignment = lowest;
  return alignment > maxAlignment ? maxAlignment : alignment;
}

/**
 * Chooses an IOVA, never 0.
 *
 * @param address - of the memory, whose offset into its page the IOVA keeps
 * @throws EOVERFLOW - length 0, or half of the address space or more
 * @throws EINVAL - the address is not aligned as the table needs it
 * @throws ENOSPC - nothing allowed is large enough
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_alloc_iova()
 */
export function allocIova(iopt: IoPagetable, address: bigint, length: bigint): bigint {
  if (length === 0n || length >= ADDRESS_MAX / 2n) {
    throw new VfioError('EOVERFLOW', `no room is looked for of ${length} bytes`, { syscall });
  }
  const alignment = preferredAlignment(address, length);
  if (alignment < iopt.iovaAlignment) {
    throw new VfioError('EINVAL', `0x${address.toString(16)} is not a multiple of ${iopt.iovaAlignment}`, { syscall });
  }
  const pageOffset = address % PAGE;
  const reserved = iopt.reserved();
  const anywhere = { start: PAGE, last: ADDRESS_MAX - PAGE };
  const { allowed } = iopt;
  for (const span of allowed.length === 0 ? [anywhere] : allowed) {
    const last = span.last < anywhere.last ? span.last : anywhere.last;
    const whole = { start: span.start > anywhere.start ? span.start : anywhere.start, last };
    const start = whole.start > last ? undefined : alignedIn(whole, length, alignment, pageOffset);
    if (start === undefined) continue;
    const found = iopt.areas.lowestFit(start, last, length, (hole) => {
      const from = hole.start > start ? hole.start : start;
      const to = hole.last < last ? hole.last : last;
      for (const free of holes(reserved, from, to)) {
        const place = alignedIn(free, length, alignment, pageOffset);
        if (place !== undefined) return place;
      }
      return undefined;
    });
    if (found !== undefined) return found;
  }
  throw new VfioError('ENOSPC', `no room for ${length} bytes`, { syscall });
}

/**
 * Checks an IOVA that the user chose.
 *
 * @throws EINVAL - not aligned, or reserved
 * @throws EOVERFLOW - the range wraps
 * @throws EEXIST - something is mapped there
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_check_iova()
 */
export function checkIova(iopt: IoPagetable, iova: bigint, length: bigint): void {
  const subject = rangeText(iova, length);
  if ((iova & (iopt.iovaAlignment - 1n)) !== 0n) {
    throw new VfioError('EINVAL', `not a multiple of ${iopt.iovaAlignment}`, { syscall, subject });
  }
  const last = lastOf(iova, length);
  if (last === undefined) throw new VfioError('EOVERFLOW', 'passes the end of the address space', { syscall, subject });
  if (iopt.isReserved(iova, last)) throw new VfioError('EINVAL', 'meets a reserved range', { syscall, subject });
  const other = iopt.areas.first(iova, last);
  if (other) throw new VfioError('EEXIST', `${rangeText(other.start, other.length)} is mapped`, { syscall, subject });
}
