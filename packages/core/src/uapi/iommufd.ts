/**
 * Objects of an iommufd: address spaces (IOAS), hardware page tables and their dirty bits, devices. Every struct begins
 * with its size. What serves hardware-accelerated virtual IOMMUs is in `iommufd-viommu.ts`.
 */
import { alias, bytes, s32, struct, u8, u16, u32, u64, type ValueOf } from './struct.js';

/** `struct iommu_destroy`, 8 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuDestroy = struct('iommu_destroy', 8, { size: u32(0), id: u32(4) });

/** `struct iommu_ioas_alloc`, 12 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasAlloc = struct('iommu_ioas_alloc', 12, {
  size: u32(0),
  flags: u32(4), //     0
  outIoasId: u32(8), // on return
});
/** The value of `iommuIoasAlloc`. */
export type IommuIoasAlloc = ValueOf<typeof iommuIoasAlloc.fields>;

/** `struct iommu_iova_range`, 16 bytes, `last` included. Source: include/uapi/linux/iommufd.h */
export const iommuIovaRange = struct('iommu_iova_range', 16, { start: u64(0), last: u64(8) });
/** The value of `iommuIovaRange`. */
export type IommuIovaRange = ValueOf<typeof iommuIovaRange.fields>;

/** `struct iommu_ioas_iova_ranges`, 32 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasIovaRanges = struct('iommu_ioas_iova_ranges', 32, {
  size: u32(0),
  ioasId: u32(4),
  numIovas: u32(8), //          elements there is room for; ranges there are, on return
  reserved: u32(12),
  allowedIovas: u64(16), //     address of an array of iommuIovaRange
  outIovaAlignment: u64(24), // bytes, on return
});
/** The value of `iommuIoasIovaRanges`. */
export type IommuIoasIovaRanges = ValueOf<typeof iommuIoasIovaRanges.fields>;

/** `struct iommu_ioas_allow_iovas`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasAllowIovas = struct('iommu_ioas_allow_iovas', 24, {
  size: u32(0),
  ioasId: u32(4),
  numIovas: u32(8),
  reserved: u32(12),
  allowedIovas: u64(16), // address of an array of iommuIovaRange
});
/** The value of `iommuIoasAllowIovas`. */
export type IommuIoasAllowIovas = ValueOf<typeof iommuIoasAllowIovas.fields>;

/** `flags` of `iommuIoasMap`. Source: include/uapi/linux/iommufd.h enum iommufd_ioas_map_flags */
export const IommuIoasMapFlag = { FIXED_IOVA: 1, WRITEABLE: 2, READABLE: 4 } as const;

/** `struct iommu_ioas_map`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasMap = struct('iommu_ioas_map', 40, {
  size: u32(0),
  flags: u32(4), //   IommuIoasMapFlag bits
  ioasId: u32(8),
  reserved: u32(12),
  userVa: u64(16), // address in the caller's memory
  length: u64(24), // bytes
  iova: u64(32), //   chosen by the kernel and returned, without FIXED_IOVA
});
/** The value of `iommuIoasMap`. */
export type IommuIoasMap = ValueOf<typeof iommuIoasMap.fields>;

/** `struct iommu_ioas_map_file`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasMapFile = struct('iommu_ioas_map_file', 40, {
  size: u32(0),
  flags: u32(4), // IommuIoasMapFlag bits
  ioasId: u32(8),
  fd: s32(12), //     of a memfd
  start: u64(16), //  bytes from the start of the file
  length: u64(24), // bytes
  iova: u64(32),
});

/** `struct iommu_ioas_copy`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasCopy = struct('iommu_ioas_copy', 40, {
  size: u32(0),
  flags: u32(4), //    IommuIoasMapFlag bits
  dstIoasId: u32(8),
  srcIoasId: u32(12),
  length: u64(16), //  bytes
  dstIova: u64(24), // chosen by the kernel and returned, without FIXED_IOVA
  srcIova: u64(32),
});
/** The value of `iommuIoasCopy`. */
export type IommuIoasCopy = ValueOf<typeof iommuIoasCopy.fields>;

/** `struct iommu_ioas_unmap`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasUnmap = struct('iommu_ioas_unmap', 24, {
  size: u32(0),
  ioasId: u32(4),
  iova: u64(8),
  length: u64(16), // bytes to unmap; bytes that were unmapped, on return
});
/** The value of `iommuIoasUnmap`. */
export type IommuIoasUnmap = ValueOf<typeof iommuIoasUnmap.fields>;

/** `optionId` of `iommuOption`. Source: include/uapi/linux/iommufd.h enum iommufd_option */
export const IommuOptionId = { RLIMIT_MODE: 0, HUGE_PAGES: 1 } as const;

/** `op` of `iommuOption`. Source: include/uapi/linux/iommufd.h enum iommufd_option_ops */
export const IommuOptionOp = { SET: 0, GET: 1 } as const;

/** `struct iommu_option`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuOption = struct('iommu_option', 24, {
  size: u32(0),
  optionId: u32(4), //  an IommuOptionId
  op: u16(8), //        an IommuOptionOp
  reserved: u16(10),
  objectId: u32(12), // 0 for the options of the whole context
  val64: u64(16),
});
/** The value of `iommuOption`. */
export type IommuOption = ValueOf<typeof iommuOption.fields>;

/** `op` of `iommuVfioIoas`. Source: include/uapi/linux/iommufd.h enum iommufd_vfio_ioas_op */
export const IommuVfioIoasOp = { GET: 0, SET: 1, CLEAR: 2 } as const;

/** `struct iommu_vfio_ioas`, 12 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuVfioIoas = struct('iommu_vfio_ioas', 12, {
  size: u32(0),
  ioasId: u32(4),
  op: u16(8), // an IommuVfioIoasOp
  reserved: u16(10),
});
/** The value of `iommuVfioIoas`. */
export type IommuVfioIoas = ValueOf<typeof iommuVfioIoas.fields>;

/** `flags` of `iommuHwptAlloc`. Source: include/uapi/linux/iommufd.h enum iommufd_hwpt_alloc_flags */
export const IommuHwptAllocFlag = { NEST_PARENT: 1, DIRTY_TRACKING: 2, FAULT_ID_VALID: 4, PASID: 8 } as const;

/** `dataType` of `iommuHwptAlloc`. Source: include/uapi/linux/iommufd.h enum iommu_hwpt_data_type */
export const IommuHwptDataType = { NONE: 0, VTD_S1: 1, ARM_SMMUV3: 2, AMD_GUEST: 3 } as const;

/** `struct iommu_hwpt_alloc`, 48 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptAlloc = struct('iommu_hwpt_alloc', 48, {
  size: u32(0),
  flags: u32(4), //      IommuHwptAllocFlag bits
  devId: u32(8),
  ptId: u32(12), //      an IOAS or the parent page table
  outHwptId: u32(16), // on return
  reserved: u32(20),
  dataType: u32(24), //  an IommuHwptDataType
  dataLen: u32(28), //   bytes
  dataUptr: u64(32), //  address of the data
  faultId: u32(40), //   with FAULT_ID_VALID
  reserved2: u32(44),
});
/** The value of `iommuHwptAlloc`. */
export type IommuHwptAlloc = ValueOf<typeof iommuHwptAlloc.fields>;

/** `flags` of `iommuHwInfo`. Source: include/uapi/linux/iommufd.h enum iommufd_hw_info_flags */
export const IommuHwInfoFlag = { INPUT_TYPE: 1 } as const;

/** `outDataType` of `iommuHwInfo`; DEFAULT may only be asked for. Source: include/uapi/linux/iommufd.h enum iommu_hw_info_type */
export const IommuHwInfoType = {
  NONE: 0,
  DEFAULT: 0,
  INTEL_VTD: 1,
  ARM_SMMUV3: 2,
  TEGRA241_CMDQV: 3,
  AMD: 4,
} as const;

/** `outCapabilities` of `iommuHwInfo`. Source: include/uapi/linux/iommufd.h enum iommufd_hw_capabilities */
export const IommuHwCap = {
  DIRTY_TRACKING: 1,
  PCI_PASID_EXEC: 2,
  PCI_PASID_PRIV: 4,
  PCI_ATS_NOT_SUPPORTED: 8,
} as const;

/** `struct iommu_hw_info`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwInfo = struct('iommu_hw_info', 40, {
  size: u32(0),
  flags: u32(4), //               IommuHwInfoFlag bits
  devId: u32(8),
  dataLen: u32(12), //            bytes there is room for; bytes there are, on return
  dataUptr: u64(16), //           address of the data
  outDataType: u32(24), //        an IommuHwInfoType
  inDataType: alias(u32(24)), //  the type wanted, with INPUT_TYPE
  outMaxPasidLog2: u8(28), //     0 without PASIDs
  reserved: bytes(29, 3),
  outCapabilities: u64(32), //    IommuHwCap bits
});
/** The value of `iommuHwInfo`. */
export type IommuHwInfo = ValueOf<typeof iommuHwInfo.fields>;

/** `flags` of `iommuHwptSetDirtyTracking`. Source: include/uapi/linux/iommufd.h enum iommufd_hwpt_set_dirty_tracking_flags */
export const IommuHwptDirtyTrackingFlag = { ENABLE: 1 } as const;

/** `struct iommu_hwpt_set_dirty_tracking`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptSetDirtyTracking = struct('iommu_hwpt_set_dirty_tracking', 16, {
  size: u32(0),
  flags: u32(4), // IommuHwptDirtyTrackingFlag bits
  hwptId: u32(8),
  reserved: u32(12),
});

/** `flags` of `iommuHwptGetDirtyBitmap`. Source: include/uapi/linux/iommufd.h enum iommufd_hwpt_get_dirty_bitmap_flags */
export const IommuHwptGetDirtyBitmapFlag = { NO_CLEAR: 1 } as const;

/** `struct iommu_hwpt_get_dirty_bitmap`, 48 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptGetDirtyBitmap = struct('iommu_hwpt_get_dirty_bitmap', 48, {
  size: u32(0),
  hwptId: u32(4),
  flags: u32(8), //     IommuHwptGetDirtyBitmapFlag bits
  reserved: u32(12),
  iova: u64(16),
  length: u64(24), //   bytes
  pageSize: u64(32), // bytes that a bit stands for
  data: u64(40), //     address of the bitmap
});

/** `struct iommu_ioas_change_process`, 8 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuIoasChangeProcess = struct('iommu_ioas_change_process', 8, { size: u32(0), reserved: u32(4) });
