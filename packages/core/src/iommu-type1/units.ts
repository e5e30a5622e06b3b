/**
 * The units of type1: pages as numbers inside, bytes as bigints outside, and the arithmetic of 64-bit ranges that may end
 * at the last byte but not go past it.
 */
import { PAGE_SHIFT } from '@vfio/host';

/** The last byte of a 64-bit address space. */
export const ADDRESS_MAX = 2n ** 64n - 1n;

const pageShift = BigInt(PAGE_SHIFT);

/** Bytes from the start of the address space to `page`, or in `page` pages. */
export function pageAddress(page: number): bigint {
  return BigInt(page) << pageShift;
}

/** The page that holds the byte at `address`; also whole pages in `address` bytes. */
export function pageOf(address: bigint): number {
  return Number(address >> pageShift);
}

/**
 * The last byte of a range.
 *
 * @param size - bytes, not 0
 * @returns undefined when the range goes past the end of the address space
 */
export function rangeEnd(start: bigint, size: bigint): bigint | undefined {
  const end = start + size - 1n;
  return end > ADDRESS_MAX ? undefined : end;
}

/** A range as messages show it. */
export function rangeText(start: bigint, size: bigint): string {
  return `0x${start.toString(16)}+0x${size.toString(16)}`;
}
