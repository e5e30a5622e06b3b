/**
 * The part of iommufd.h for hardware-accelerated virtual IOMMUs: what particular IOMMUs tell and take, page faults, virtual
 * devices, event and command queues. Answered with ENOTTY here; the layouts are those of the header.
 */
import { bytes, struct, u8, u32, u64 } from './struct.js';

/** `flags` of `iommuHwptVtdS1`. Source: include/uapi/linux/iommufd.h enum iommu_hwpt_vtd_s1_flags */
export const IommuVtdS1Flag = { SRE: 1, EAFE: 2, WPE: 4 } as const;

/** `struct iommu_hwpt_vtd_s1`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptVtdS1 = struct('iommu_hwpt_vtd_s1', 24, {
  flags: u64(0), //      IommuVtdS1Flag bits
  pgtblAddr: u64(8), //  guest physical address of the page table
  addrWidth: u32(16), // bits
  reserved: u32(20),
});

/** `struct iommu_hwpt_arm_smmuv3`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptArmSmmuv3 = struct('iommu_hwpt_arm_smmuv3', 16, {
  ste: bytes(0, 16), // first two double words of a stream table entry, little-endian
});

/** `struct iommu_hwpt_amd_guest`, 32 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptAmdGuest = struct('iommu_hwpt_amd_guest', 32, {
  dte: bytes(0, 32), // a device table entry, four u64
});

/** `flags` of `iommuHwInfoVtd`. Source: include/uapi/linux/iommufd.h enum iommu_hw_info_vtd_flags */
export const IommuHwInfoVtdFlag = { ERRATA_772415_SPR17: 1 } as const;

/** `struct iommu_hw_info_vtd`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwInfoVtd = struct('iommu_hw_info_vtd', 24, {
  flags: u32(0), // IommuHwInfoVtdFlag bits
  reserved: u32(4),
  capReg: u64(8),
  ecapReg: u64(16),
});

/** `struct iommu_hw_info_arm_smmuv3`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwInfoArmSmmuv3 = struct('iommu_hw_info_arm_smmuv3', 40, {
  flags: u32(0),
  reserved: u32(4),
  idr: bytes(8, 24), // six u32 registers
  iidr: u32(32),
  aidr: u32(36),
});

/** `struct iommu_hw_info_tegra241_cmdqv`, 8 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwInfoTegra241Cmdqv = struct('iommu_hw_info_tegra241_cmdqv', 8, {
  flags: u32(0),
  version: u8(4),
  log2vcmdqs: u8(5),
  log2vsids: u8(6),
  reserved: u8(7),
});

/** `struct iommu_hw_info_amd`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwInfoAmd = struct('iommu_hw_info_amd', 16, { efr: u64(0), efr2: u64(8) });

/** `dataType` of `iommuHwptInvalidate`. Source: include/uapi/linux/iommufd.h enum iommu_hwpt_invalidate_data_type */
export const IommuHwptInvalidateDataType = { VTD_S1: 0, VIOMMU_ARM_SMMUV3: 1 } as const;

/** `flags` of `iommuHwptVtdS1Invalidate`. Source: include/uapi/linux/iommufd.h enum iommu_hwpt_vtd_s1_invalidate_flags */
export const IommuVtdInvFlag = { LEAF: 1 } as const;

/** `struct iommu_hwpt_vtd_s1_invalidate`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptVtdS1Invalidate = struct('iommu_hwpt_vtd_s1_invalidate', 24, {
  addr: u64(0),
  npages: u64(8),
  flags: u32(16), // IommuVtdInvFlag bits
  reserved: u32(20),
});

/** `struct iommu_viommu_arm_smmuv3_invalidate`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuViommuArmSmmuv3Invalidate = struct('iommu_viommu_arm_smmuv3_invalidate', 16, {
  cmd: bytes(0, 16), // a command, two little-endian u64
});

/** `struct iommu_hwpt_invalidate`, 32 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptInvalidate = struct('iommu_hwpt_invalidate', 32, {
  size: u32(0),
  hwptId: u32(4), //    or a virtual IOMMU
  dataUptr: u64(8), //  address of the entries
  dataType: u32(16), // an IommuHwptInvalidateDataType
  entryLen: u32(20), // bytes
  entryNum: u32(24), // entries given; entries handled, on return
  reserved: u32(28),
});

/** `flags` of `iommuHwptPgfault`. Source: include/uapi/linux/iommufd.h enum iommu_hwpt_pgfault_flags */
export const IommuPgfaultFlag = { PASID_VALID: 1, LAST_PAGE: 2 } as const;

/** `perm` of `iommuHwptPgfault`. Source: include/uapi/linux/iommufd.h enum iommu_hwpt_pgfault_perm */
export const IommuPgfaultPerm = { READ: 1, WRITE: 2, EXEC: 4, PRIV: 8 } as const;

/** `struct iommu_hwpt_pgfault`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptPgfault = struct('iommu_hwpt_pgfault', 40, {
  flags: u32(0), //   IommuPgfaultFlag bits
  devId: u32(4),
  pasid: u32(8),
  grpid: u32(12),
  perm: u32(16), //   IommuPgfaultPerm bits
  reserved: u32(20),
  addr: u64(24),
  length: u32(32), // bytes, a hint
  cookie: u32(36), // given back in the response
});

/** `code` of `iommuHwptPageResponse`. Source: include/uapi/linux/iommufd.h enum iommufd_page_response_code */
export const IommufdPageResponse = { SUCCESS: 0, INVALID: 1 } as const;

/** `struct iommu_hwpt_page_response`, 8 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwptPageResponse = struct('iommu_hwpt_page_response', 8, {
  cookie: u32(0),
  code: u32(4), // an IommufdPageResponse
});

/** `struct iommu_fault_alloc`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuFaultAlloc = struct('iommu_fault_alloc', 16, {
  size: u32(0),
  flags: u32(4),
  outFaultId: u32(8), //  on return
  outFaultFd: u32(12), // on return
});

/** `type` of `iommuViommuAlloc`. Source: include/uapi/linux/iommufd.h enum iommu_viommu_type */
export const IommuViommuType = { DEFAULT: 0, ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;

/** `struct iommu_viommu_tegra241_cmdqv`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuViommuTegra241Cmdqv = struct('iommu_viommu_tegra241_cmdqv', 16, {
  outVintfMmapOffset: u64(0), // on return
  outVintfMmapLength: u64(8), // on return
});

/** `struct iommu_viommu_alloc`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuViommuAlloc = struct('iommu_viommu_alloc', 40, {
  size: u32(0),
  flags: u32(4),
  type: u32(8), //         an IommuViommuType
  devId: u32(12),
  hwptId: u32(16), //      the parent page table
  outViommuId: u32(20), // on return
  dataLen: u32(24), //     bytes
  reserved: u32(28),
  dataUptr: u64(32), //    address of the data
});

/** `struct iommu_vdevice_alloc`, 24 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuVdeviceAlloc = struct('iommu_vdevice_alloc', 24, {
  size: u32(0),
  viommuId: u32(4),
  devId: u32(8),
  outVdeviceId: u32(12), // on return
  virtId: u64(16), //       the device's id in the virtual IOMMU
});

/** `flags` of `iommufdVeventHeader`. Source: include/uapi/linux/iommufd.h enum iommu_veventq_flag */
export const IommuVeventqFlag = { LOST_EVENTS: 1 } as const;

/** `struct iommufd_vevent_header`, 8 bytes. Source: include/uapi/linux/iommufd.h */
export const iommufdVeventHeader = struct('iommufd_vevent_header', 8, {
  flags: u32(0), //    IommuVeventqFlag bits
  sequence: u32(4), // of the event; a gap tells of lost ones
});

/** `type` of `iommuVeventqAlloc`. Source: include/uapi/linux/iommufd.h enum iommu_veventq_type */
export const IommuVeventqType = { DEFAULT: 0, ARM_SMMUV3: 1, TEGRA241_CMDQV: 2 } as const;

/** `struct iommu_vevent_arm_smmuv3`, 32 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuVeventArmSmmuv3 = struct('iommu_vevent_arm_smmuv3', 32, {
  evt: bytes(0, 32), // an event record, four little-endian u64
});

/** `struct iommu_vevent_tegra241_cmdqv`, 16 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuVeventTegra241Cmdqv = struct('iommu_vevent_tegra241_cmdqv', 16, {
  lvcmdqErrMap: bytes(0, 16), // two little-endian u64
});

/** `struct iommu_veventq_alloc`, 32 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuVeventqAlloc = struct('iommu_veventq_alloc', 32, {
  size: u32(0),
  flags: u32(4),
  viommuId: u32(8),
  type: u32(12), //         an IommuVeventqType
  veventqDepth: u32(16), // events
  outVeventqId: u32(20), // on return
  outVeventqFd: u32(24), // on return
  reserved: u32(28),
});

/** `type` of `iommuHwQueueAlloc`. Source: include/uapi/linux/iommufd.h enum iommu_hw_queue_type */
export const IommuHwQueueType = { DEFAULT: 0, TEGRA241_CMDQV: 1 } as const;

/** `struct iommu_hw_queue_alloc`, 40 bytes. Source: include/uapi/linux/iommufd.h */
export const iommuHwQueueAlloc = struct('iommu_hw_queue_alloc', 40, {
  size: u32(0),
  flags: u32(4),
  viommuId: u32(8),
  type: u32(12), //             an IommuHwQueueType
  index: u32(16),
  outHwQueueId: u32(20), //     on return
  nestingParentIova: u64(24),
  length: u64(32), //           bytes of the queue
});
