/**
 * The POWER (SPAPR TCE) IOMMU driver's requests and its error handling. No such IOMMU is built here; the layouts are those
 * that a program compiled against the header uses.
 */
import { nested, pad, struct, u32, u64 } from './struct.js';

/** `struct vfio_iommu_spapr_tce_ddw_info`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const iommuSpaprTceDdwInfo = struct('vfio_iommu_spapr_tce_ddw_info', 16, {
  pgsizes: u64(0), // bitmap of page sizes
  maxDynamicWindowsSupported: u32(8),
  levels: u32(12),
});

/** `flags` of `iommuSpaprTceInfo`. Source: include/uapi/linux/vfio.h VFIO_IOMMU_SPAPR_INFO_DDW */
export const SpaprInfoFlag = { DDW: 1 } as const;

/** `struct vfio_iommu_spapr_tce_info`, 32 bytes. Source: include/uapi/linux/vfio.h */
export const iommuSpaprTceInfo = struct('vfio_iommu_spapr_tce_info', 32, {
  argsz: u32(0),
  flags: u32(4), //              SpaprInfoFlag bits
  dma32WindowStart: u32(8), //   IOVA
  dma32WindowSize: u32(12), //   bytes
  ddw: nested(16, iommuSpaprTceDdwInfo),
});

/** `struct vfio_eeh_pe_err`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const eehPeErr = struct('vfio_eeh_pe_err', 24, {
  type: u32(0),
  func: u32(4),
  addr: u64(8),
  mask: u64(16),
});

/** `op` of `eehPeOp`. Source: include/uapi/linux/vfio.h VFIO_EEH_PE_* */
export const EehPeOp = {
  DISABLE: 0,
  ENABLE: 1,
  UNFREEZE_IO: 2,
  UNFREEZE_DMA: 3,
  GET_STATE: 4,
  RESET_DEACTIVATE: 5,
  RESET_HOT: 6,
  RESET_FUNDAMENTAL: 7,
  CONFIGURE: 8,
  INJECT_ERR: 9,
} as const;

/** What `EehPeOp.GET_STATE` answers. Source: include/uapi/linux/vfio.h VFIO_EEH_PE_STATE_* */
export const EehPeState = { NORMAL: 0, RESET: 1, STOPPED: 2, STOPPED_DMA: 4, UNAVAIL: 5 } as const;

/** `struct vfio_eeh_pe_op`, 40 bytes. Source: include/uapi/linux/vfio.h */
export const eehPeOp = struct('vfio_eeh_pe_op', 40, {
  argsz: u32(0),
  flags: u32(4),
  op: u32(8), // an EehPeOp
  pad: pad(12, 4),
  err: nested(16, eehPeErr), // with INJECT_ERR
});

/** `struct vfio_iommu_spapr_register_memory`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const iommuSpaprRegisterMemory = struct('vfio_iommu_spapr_register_memory', 24, {
  argsz: u32(0),
  flags: u32(4),
  vaddr: u64(8), // address in the caller's memory
  size: u64(16), // bytes
});

/** `struct vfio_iommu_spapr_tce_create`, 40 bytes. Source: include/uapi/linux/vfio.h */
export const iommuSpaprTceCreate = struct('vfio_iommu_spapr_tce_create', 40, {
  argsz: u32(0),
  flags: u32(4),
  pageShift: u32(8),
  resv1: u32(12),
  windowSize: u64(16), // bytes
  levels: u32(24),
  resv2: u32(28),
  startAddr: u64(32), //  IOVA, on return
});

/** `struct vfio_iommu_spapr_tce_remove`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const iommuSpaprTceRemove = struct('vfio_iommu_spapr_tce_remove', 16, {
  argsz: u32(0),
  flags: u32(4),
  startAddr: u64(8), // IOVA
});
