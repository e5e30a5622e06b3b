/*
 * The shape of x86-64 user memory: page sizes, the highest address, protections. Addresses of a process stay below
 * 2^47, so inside the host they are plain numbers; the uAPI side takes and gives bigints.
 */

/** Byte order of a process, and so of every struct that it passes to an ioctl. */
export type ByteOrder = 'little' | 'big';

/** Bytes in a page. */
export const PAGE_SIZE = 4096;

/** log2 of {@link PAGE_SIZE}. */
export const PAGE_SHIFT = 12;

/** Bytes in a huge page, and in one lazily made block of memory behind ordinary pages. */
export const HUGE_PAGE_SIZE = 2 * 1024 * 1024;

/**
 * The first address no process can map: 2^47 less a guard page.
 *
 * @source arch/x86/include/asm/page_64_types.h TASK_SIZE_MAX
 */
export const TASK_SIZE = 0x7fff_ffff_f000;

/** Lowest address a process without CAP_SYS_RAWIO may map. */
export const MMAP_MIN_ADDR = 0x1_0000;

/** Where top-down placement of mappings begins; above it is room for a stack. */
export const MMAP_BASE = 0x7fe0_0000_0000;

/** From here to the top of user space lie arguments that were given as bytes; no other mapping gets there. */
export const EPHEMERAL_BASE = 0x7ff0_0000_0000;

/** Protection bits of a mapping, as `mmap` takes them. */
export const Prot = { NONE: 0, READ: 1, WRITE: 2, EXEC: 4 } as const;

/** A combination of {@link Prot} bits. */
export type Prot = number;

/** Rounds `bytes` up to whole pages; the result is in bytes. */
export function pageAlign(bytes: number): number {
  return Math.ceil(bytes / PAGE_SIZE) * PAGE_SIZE;
}

/** The canonical user address of `addr`, or undefined when it lies outside user space. */
export function userAddress(addr: bigint): number | undefined {
  return addr >= 0n && addr < BigInt(TASK_SIZE) ? Number(addr) : undefined;
}
