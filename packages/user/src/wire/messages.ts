// Payloads of the messages, as structures: offsets count from the end of the header. What equals a structure of VFIO is that
// one (region info, interrupt info, the head of SET_IRQS, features) and is not declared again. All is little endian.

import { struct, tail, u16, u32, u64 } from '@vfio/core';

/** VERSION, 4 bytes and optionally JSON with one NUL at its end. */
export const versionMessage = struct('vfio_user_version', 4, {
  major: u16(0),
  minor: u16(2),
  data: tail(4),
});

/** Bits of `flags` of DMA_MAP. */
export const DmaMapFlag = {
  READ: 1,
  WRITE: 2,
  /** use the descriptor by mmap; of libvfio-user */
  MMAP: 4,
  /** use the descriptor by pread and pwrite; of libvfio-user */
  FILE_IO: 8,
} as const;

/** DMA_MAP, 32 bytes. */
export const dmaMapMessage = struct('vfio_user_dma_map', 32, {
  argsz: u32(0), //   bytes of this
  flags: u32(4), //   DmaMapFlag bits
  offset: u64(8), //  of the first byte, in the file of the descriptor
  address: u64(16), // the first one that the device uses
  size: u64(24), //   bytes
});

/** Bits of `flags` of DMA_UNMAP. */
export const DmaUnmapFlag = {
  /** a dirty bitmap comes with the reply; of an older draft */
  GET_DIRTY_BITMAP: 1,
  /** everything; address and size are 0 */
  ALL: 2,
} as const;

/** DMA_UNMAP and its reply, 24 bytes. */
export const dmaUnmapMessage = struct('vfio_user_dma_unmap', 24, {
  argsz: u32(0),
  flags: u32(4), //   DmaUnmapFlag bits
  address: u64(8),
  size: u64(16), //   bytes
});

/** DEVICE_GET_INFO and its reply, 16 bytes: `struct vfio_device_info` as it was first. */
export const deviceInfoMessage = struct('vfio_user_device_info', 16, {
  argsz: u32(0),
  flags: u32(4), //       DeviceInfoFlag bits
  numRegions: u32(8),
  numIrqs: u32(12),
});

/** DEVICE_GET_REGION_IO_FDS and its reply, 16 bytes and `count` entries. */
export const regionIoFdsMessage = struct('vfio_user_region_io_fds', 16, {
  argsz: u32(0),
  flags: u32(4), // 0
  index: u32(8), // of the region
  count: u32(12),
  entries: tail(16),
});

/** What an entry of DEVICE_GET_REGION_IO_FDS is. */
export const IoFdType = { IOEVENTFD: 0, IOREGIONFD: 1, SHADOW_IOEVENTFD: 2 } as const;

/** Bits of `flags` of an ioeventfd entry. */
export const IoeventfdEntryFlag = { DATAMATCH: 1, PIO: 2 } as const;

/** An ioeventfd entry, 40 bytes. */
export const ioeventfdEntry = struct('vfio_user_sub_region_ioeventfd', 40, {
  offset: u64(0), //    in the region
  size: u64(8), //      of the write, 0 for any
  fdIndex: u32(16), //  among the descriptors of the reply
  type: u32(20), //     IoFdType
  flags: u32(24), //    IoeventfdEntryFlag bits
  reserved: u32(28),
  datamatch: u64(32),
});

/** Head of REGION_READ, REGION_WRITE and their replies, 16 bytes and data. */
export const regionAccessMessage = struct('vfio_user_region_access', 16, {
  offset: u64(0), //  in the region
  region: u32(8),
  count: u32(12), //  bytes
  data: tail(16),
});
/** Where its fields are, for the path that makes no objects. */
export const RegionAccess = { offset: 0, offsetHigh: 4, region: 8, count: 12, data: 16 } as const;

/** Head of REGION_WRITE_MULTI and its reply, 8 bytes and entries. */
export const regionWriteMultiMessage = struct('vfio_user_region_write_multi', 8, {
  count: u64(0), // of writes; in the reply, of those done
  entries: tail(8),
});

/** One write of REGION_WRITE_MULTI, 24 bytes; the last 8 are the data. */
export const WriteMulti = { offset: 0, offsetHigh: 4, region: 8, count: 12, data: 16, size: 24, mostBytes: 8 } as const;

/** Head of DMA_READ, DMA_WRITE and their replies, 16 bytes and data. */
export const dmaAccessMessage = struct('vfio_user_dma_access', 16, {
  address: u64(0),
  count: u64(8), // bytes
  data: tail(16),
});

/** Head of MIG_DATA_READ, MIG_DATA_WRITE and their replies, 8 bytes and data. */
export const migDataMessage = struct('vfio_user_mig_data', 8, {
  argsz: u32(0),
  size: u32(4), // bytes of data
  data: tail(8),
});
