/* Ranges of user addresses as system calls give them, checked and made numbers. */
import { SystemError } from '../errors.js';
import { HUGE_PAGE_SIZE, PAGE_SIZE, pageAlign, TASK_SIZE } from './layout.js';
import type { Vma } from './vma.js';

/** Length of a new mapping in whole units. */
export function mapLength(length: number | bigint, unit: number): number {
  const bytes = Number(length);
  if (bytes <= 0) throw new SystemError('EINVAL', 'length 0');
  const rounded = Math.ceil(bytes / unit) * unit;
  if (rounded > TASK_SIZE) throw new SystemError('ENOMEM', `${bytes} bytes do not fit user space`);
  return rounded;
}

/** A page range given to munmap or mprotect. */
export function userRange(addr: bigint, length: number | bigint, outside: 'EINVAL' | 'ENOMEM'): [number, number] {
  if (addr % BigInt(PAGE_SIZE) !== 0n) {
    throw new SystemError('EINVAL', `address 0x${addr.toString(16)} is not page aligned`);
  }
  if (addr < 0n || addr > BigInt(TASK_SIZE) || BigInt(length) > BigInt(TASK_SIZE) - addr) {
    throw new SystemError(outside, `0x${addr.toString(16)}+0x${length.toString(16)} is outside of user space`);
  }
  const start = Number(addr);
  return [start, start + pageAlign(Number(length))];
}

/** A huge page goes as a whole or not at all. */
export function checkHugeCut(vma: Vma, start: number, end: number): void {
  if (!vma.hugetlb) return;
  const cut = (at: number): boolean => at > vma.start && at < vma.end && at % HUGE_PAGE_SIZE !== 0;
  if (cut(start) || cut(end)) throw new SystemError('EINVAL', 'the range cuts a huge page');
}

/** Start of a range that the kernel is asked to access: `access_ok()`. */
export function accessRange(addr: bigint, length: number): number {
  if (addr < 0n || addr + BigInt(length) > BigInt(TASK_SIZE)) {
    throw new SystemError('EFAULT', `0x${addr.toString(16)}+0x${length.toString(16)} is outside of user space`);
  }
  return Number(addr);
}
