// The header that every message begins with, 16 bytes, and the numbers in it.

/** Bytes of the header. */
export const HEADER_BYTES = 16;

/** Where the fields of the header are. */
export const At = { id: 0, command: 2, size: 4, flags: 8, error: 12 } as const;

/** Bits of `flags`. */
export const HeaderFlag = {
  TYPE_MASK: 0xf,
  /** type of a command */
  COMMAND: 0,
  /** type of a reply */
  REPLY: 1,
  /** no reply is wanted, not even to an error */
  NO_REPLY: 0x10,
  /** of a reply: it failed, the errno is in the header */
  ERROR: 0x20,
} as const;

/** Commands by number. C: from the client; S: from the server. */
export const Command = {
  /** C */
  VERSION: 1,
  /** C */
  DMA_MAP: 2,
  /** C */
  DMA_UNMAP: 3,
  /** C */
  DEVICE_GET_INFO: 4,
  /** C */
  DEVICE_GET_REGION_INFO: 5,
  /** C */
  DEVICE_GET_REGION_IO_FDS: 6,
  /** C */
  DEVICE_GET_IRQ_INFO: 7,
  /** C */
  DEVICE_SET_IRQS: 8,
  /** C */
  REGION_READ: 9,
  /** C */
  REGION_WRITE: 10,
  /** S */
  DMA_READ: 11,
  /** S */
  DMA_WRITE: 12,
  /** C */
  DEVICE_RESET: 13,
  /** C; 14 was DIRTY_PAGES, which is gone */
  REGION_WRITE_MULTI: 15,
  /** C */
  DEVICE_FEATURE: 16,
  /** C */
  MIG_DATA_READ: 17,
  /** C */
  MIG_DATA_WRITE: 18,
} as const;
/** A command number. */
export type Command = (typeof Command)[keyof typeof Command];

/** Writes a header. */
export function writeHeader(
  view: DataView,
  at: number,
  id: number,
  command: number,
  size: number,
  flags: number,
  error = 0,
): void {
  view.setUint16(at + At.id, id, true);
  view.setUint16(at + At.command, command, true);
  view.setUint32(at + At.size, size, true);
  view.setUint32(at + At.flags, flags, true);
  view.setUint32(at + At.error, error, true);
}
