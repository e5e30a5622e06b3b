/**
 * Containers and groups: what a program uses to put groups of devices behind one IOMMU context, with the type1 driver's
 * mapping requests. The SPAPR and EEH structs are in `spapr.ts`.
 */
import { nested, pad, struct, tail, u16, u32, u64, type ValueOf } from './struct.js';

/** What CHECK_EXTENSION and SET_IOMMU take. Source: include/uapi/linux/vfio.h VFIO_TYPE1_IOMMU and following */
export const Extension = {
  TYPE1_IOMMU: 1,
  SPAPR_TCE_IOMMU: 2,
  TYPE1v2_IOMMU: 3,
  DMA_CC_IOMMU: 4,
  EEH: 5,
  SPAPR_TCE_v2_IOMMU: 7,
  NOIOMMU_IOMMU: 8,
  UNMAP_ALL: 9,
  UPDATE_VADDR: 10,
} as const;
/** An extension number. */
export type Extension = (typeof Extension)[keyof typeof Extension];

/** `flags` of `groupStatus`. Source: include/uapi/linux/vfio.h VFIO_GROUP_FLAGS_* */
export const GroupStatusFlag = { VIABLE: 1, CONTAINER_SET: 2 } as const;

/** `struct vfio_group_status`, 8 bytes. Source: include/uapi/linux/vfio.h */
export const groupStatus = struct('vfio_group_status', 8, {
  argsz: u32(0), // bytes the caller provides
  flags: u32(4), // GroupStatusFlag bits
});
/** The value of `groupStatus`. */
export type GroupStatus = ValueOf<typeof groupStatus.fields>;

/** `struct vfio_info_cap_header`, 8 bytes: begins each capability of an INFO answer. Source: include/uapi/linux/vfio.h */
export const infoCapHeader = struct('vfio_info_cap_header', 8, {
  id: u16(0), //      depends on the INFO request
  version: u16(2),
  next: u32(4), //    bytes from the start of the INFO struct to the next header, 0 in the last
});
/** The value of `infoCapHeader`. */
export type InfoCapHeader = ValueOf<typeof infoCapHeader.fields>;

/** `flags` of `iommuType1Info`. Source: include/uapi/linux/vfio.h VFIO_IOMMU_INFO_* */
export const IommuInfoFlag = { PGSIZES: 1, CAPS: 2 } as const;

/** Capabilities of `iommuType1Info`. Source: include/uapi/linux/vfio.h VFIO_IOMMU_TYPE1_INFO_* */
export const IommuInfoCap = { IOVA_RANGE: 1, MIGRATION: 2, DMA_AVAIL: 3 } as const;

/** `struct vfio_iommu_type1_info`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const iommuType1Info = struct('vfio_iommu_type1_info', 24, {
  argsz: u32(0), //       bytes the caller provides; the size needed, on return
  flags: u32(4), //       IommuInfoFlag bits
  iovaPgsizes: u64(8), // bitmap of page sizes
  capOffset: u32(16), //  bytes from the struct's start to the first capability, 0 for none
  pad: u32(20),
});
/** The value of `iommuType1Info`. */
export type IommuType1Info = ValueOf<typeof iommuType1Info.fields>;

/** `struct vfio_iova_range`, 16 bytes: a range that may be mapped, `end` included. Source: include/uapi/linux/vfio.h */
export const iovaRange = struct('vfio_iova_range', 16, { start: u64(0), end: u64(8) });

/** `struct vfio_iommu_type1_info_cap_iova_range`, 16 bytes and `nrIovas` of `iovaRange`. Source: include/uapi/linux/vfio.h */
export const iommuType1InfoCapIovaRange = struct('vfio_iommu_type1_info_cap_iova_range', 16, {
  header: nested(0, infoCapHeader),
  nrIovas: u32(8),
  reserved: u32(12),
  iovaRanges: tail(16),
});

/** `struct vfio_iommu_type1_info_cap_migration`, 32 bytes. Source: include/uapi/linux/vfio.h */
export const iommuType1InfoCapMigration = struct('vfio_iommu_type1_info_cap_migration', 32, {
  header: nested(0, infoCapHeader),
  flags: u32(8),
  pad: pad(12, 4),
  pgsizeBitmap: u64(16), //       page sizes that dirty pages can be reported in
  maxDirtyBitmapSize: u64(24), // bytes
});

/** `struct vfio_iommu_type1_info_dma_avail`, 12 bytes. Source: include/uapi/linux/vfio.h */
export const iommuType1InfoDmaAvail = struct('vfio_iommu_type1_info_dma_avail', 12, {
  header: nested(0, infoCapHeader),
  avail: u32(8), // mappings that may still be made
});

/** `flags` of `iommuType1DmaMap`; read and write are the device's. Source: include/uapi/linux/vfio.h VFIO_DMA_MAP_FLAG_* */
export const DmaMapFlag = { READ: 1, WRITE: 2, VADDR: 4 } as const;

/** `struct vfio_iommu_type1_dma_map`, 32 bytes. Source: include/uapi/linux/vfio.h */
export const iommuType1DmaMap = struct('vfio_iommu_type1_dma_map', 32, {
  argsz: u32(0),
  flags: u32(4), //  DmaMapFlag bits
  vaddr: u64(8), //  address in the caller's memory
  iova: u64(16), //  address for the device
  size: u64(24), //  bytes
});
/** The value of `iommuType1DmaMap`. */
export type IommuType1DmaMap = ValueOf<typeof iommuType1DmaMap.fields>;

/** `struct vfio_bitmap`, 24 bytes: a bitmap in the caller's memory, one bit for each page. Source: include/uapi/linux/vfio.h */
export const bitmap = struct('vfio_bitmap', 24, {
  pgsize: u64(0), // bytes that a bit stands for
  size: u64(8), //   bytes of the bitmap
  data: u64(16), //  its address
});
/** The value of `bitmap`. */
export type Bitmap = ValueOf<typeof bitmap.fields>;

/** `flags` of `iommuType1DmaUnmap`. Source: include/uapi/linux/vfio.h VFIO_DMA_UNMAP_FLAG_* */
export const DmaUnmapFlag = { GET_DIRTY_BITMAP: 1, ALL: 2, VADDR: 4 } as const;

/** `struct vfio_iommu_type1_dma_unmap`, 24 bytes and, with GET_DIRTY_BITMAP, a `bitmap`. Source: include/uapi/linux/vfio.h */
export const iommuType1DmaUnmap = struct('vfio_iommu_type1_dma_unmap', 24, {
  argsz: u32(0),
  flags: u32(4), // DmaUnmapFlag bits
  iova: u64(8),
  size: u64(16), // bytes to unmap; bytes that were unmapped, on return
  data: tail(24),
});
/** The value of `iommuType1DmaUnmap`. */
export type IommuType1DmaUnmap = ValueOf<typeof iommuType1DmaUnmap.fields>;

/** `flags` of `iommuType1DirtyBitmap`. Source: include/uapi/linux/vfio.h VFIO_IOMMU_DIRTY_PAGES_FLAG_* */
export const DirtyPagesFlag = { START: 1, STOP: 2, GET_BITMAP: 4 } as const;

/** `struct vfio_iommu_type1_dirty_bitmap`, 8 bytes and, with GET_BITMAP, an `iommuType1DirtyBitmapGet`. Source: include/uapi/linux/vfio.h */
export const iommuType1DirtyBitmap = struct('vfio_iommu_type1_dirty_bitmap', 8, {
  argsz: u32(0),
  flags: u32(4), // DirtyPagesFlag bits
  data: tail(8),
});
/** The value of `iommuType1DirtyBitmap`. */
export type IommuType1DirtyBitmap = ValueOf<typeof iommuType1DirtyBitmap.fields>;

/** `struct vfio_iommu_type1_dirty_bitmap_get`, 40 bytes. Source: include/uapi/linux/vfio.h */
export const iommuType1DirtyBitmapGet = struct('vfio_iommu_type1_dirty_bitmap_get', 40, {
  iova: u64(0),
  size: u64(8), //               bytes of IOVA
  bitmap: nested(16, bitmap),
});
/** The value of `iommuType1DirtyBitmapGet`. */
export type IommuType1DirtyBitmapGet = ValueOf<typeof iommuType1DirtyBitmapGet.fields>;
