/* Numbers of the file system calls, as generic Linux and x86-64 have them. */

/** Flags of `open`, also kept in an open file description. */
export const O = {
  RDONLY: 0,
  WRONLY: 0o1,
  RDWR: 0o2,
  /** Mask of the access mode. */
  ACCMODE: 0o3,
  CREAT: 0o100,
  EXCL: 0o200,
  NOCTTY: 0o400,
  TRUNC: 0o1000,
  APPEND: 0o2000,
  NONBLOCK: 0o4000,
  LARGEFILE: 0o100000,
  DIRECTORY: 0o200000,
  NOFOLLOW: 0o400000,
  CLOEXEC: 0o2000000,
  PATH: 0o10000000,
} as const;

/** Where `lseek` counts from. */
export const Seek = { SET: 0, CUR: 1, END: 2 } as const;

/** Bits of `poll`. */
export const Poll = {
  IN: 0x1,
  PRI: 0x2,
  OUT: 0x4,
  ERR: 0x8,
  HUP: 0x10,
  NVAL: 0x20,
  RDNORM: 0x40,
  WRNORM: 0x100,
} as const;

/** What a file without a poll operation answers: reading and writing do not block. */
export const DEFAULT_POLL = Poll.IN | Poll.OUT | Poll.RDNORM | Poll.WRNORM;

/** Most bytes that one read or write moves. */
export const MAX_RW_COUNT = 0x7fff_f000;

/** Largest file offset. */
export const MAX_OFFSET = 2n ** 63n - 1n;
