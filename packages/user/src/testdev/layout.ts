// What the test device looks like from outside: the numbers that a client's tests are written against.

import { PAGE_SIZE } from '@vfio/host';

export const VENDOR_ID = 0x1d1d;
export const DEVICE_ID = 0x0001;
/** Class, subclass and programming interface: a device that fits no class. */
export const CLASS_CODE = 0xff_0000;

/** Bytes of its regions, by index; BARs 3 and 5, ROM and VGA are not there. */
export const regionSizes: readonly number[] = [1 << 20, 64 << 10, 4096, 0, 4096, 0, 0, 256, 0];

/** What can be mapped of region 1. */
export const mappableAreas = [
  { offset: 0x1000, size: 0x1000 },
  { offset: 0x4000, size: 0x2000 },
] as const;

/** Registers in region 2. All else reads as 0, and takes writes without effect. */
export const Reg = {
  /** u64: where in the client's memory a copy begins */
  ADDRESS: 0x00,
  /** u32: bytes of a copy */
  LENGTH: 0x08,
  /** u32: where in region 0 a copy begins */
  OFFSET: 0x0c,
  /** u32: a TestCommand; writing its first byte starts it */
  COMMAND: 0x10,
  /** u32, read only: 0, or the errno of the last command; EINPROGRESS until it is complete */
  STATUS: 0x14,
  /** u32: which interrupt SIGNAL means */
  VECTOR: 0x18,
  /** u32, read only: resets so far */
  RESETS: 0x1c,
  /** u32, read only: DMA regions that the client has mapped */
  DMA_REGIONS: 0x20,
  /** 4 bytes, with an eventfd in their place */
  BELL: 0x100,
  /** the same, for the value 7 only; shares the eventfd */
  MATCHING_BELL: 0x104,
} as const;

/** The value that MATCHING_BELL is for. */
export const BELL_MATCH = 7n;

/** Values of the command register. */
export const TestCommand = {
  /** copies the client's memory to region 0 */
  FETCH: 1,
  /** copies region 0 to the client's memory */
  STORE: 2,
  /** signals the interrupt in the vector register: of MSI-X if it is in use, of INTx otherwise */
  SIGNAL: 3,
  /** as FETCH, by messages also where the device could reach the memory itself */
  FETCH_BY_MESSAGE: 5,
  /** as STORE, the same */
  STORE_BY_MESSAGE: 6,
} as const;

/** MSI-X in region 4. */
export const Msix = { BAR: 4, VECTORS: 32, TABLE: 0, PENDING: 0x800 } as const;

/** Interrupts of each index. */
export const irqCounts: readonly number[] = [1, 0, Msix.VECTORS, 1, 1];

/** Pages of each stretch of region 1 that is mapped, or not, as a whole. */
export const stretches: readonly { readonly first: number; readonly pages: number }[] = [
  { first: 0, pages: 1 },
  { first: 1, pages: 1 },
  { first: 2, pages: 2 },
  { first: 4, pages: 2 },
  { first: 6, pages: (64 << 10) / PAGE_SIZE - 6 },
];
