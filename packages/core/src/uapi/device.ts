/**
 * Device descriptors: information about the device, its regions and its interrupts, PCI hot reset, ioeventfds, graphics
 * planes, and binding to an iommufd. Features and migration are in `feature.ts`.
 */
import { infoCapHeader } from './container.js';
import { alias, nested, s32, struct, tail, u8, u16, u32, u64, type ValueOf } from './struct.js';

/** `flags` of `deviceInfo`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_FLAGS_* */
export const DeviceInfoFlag = {
  RESET: 1,
  PCI: 2,
  PLATFORM: 4,
  AMBA: 8,
  CCW: 0x10,
  AP: 0x20,
  FSL_MC: 0x40,
  CAPS: 0x80,
  CDX: 0x100,
} as const;

/** Capabilities of `deviceInfo`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_INFO_CAP_* */
export const DeviceInfoCap = { ZPCI_BASE: 1, ZPCI_GROUP: 2, ZPCI_UTIL: 3, ZPCI_PFIP: 4, PCI_ATOMIC_COMP: 5 } as const;

/**
 * What `device_api` of a mediated device type says, by the bus that its devices look like.
 * Source: include/uapi/linux/vfio.h VFIO_DEVICE_API_*_STRING
 */
export const DeviceApi = {
  PCI: 'vfio-pci',
  PLATFORM: 'vfio-platform',
  AMBA: 'vfio-amba',
  CCW: 'vfio-ccw',
  AP: 'vfio-ap',
} as const;
/** A name of `DeviceApi`. */
export type DeviceApi = (typeof DeviceApi)[keyof typeof DeviceApi];

/** `struct vfio_device_info`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const deviceInfo = struct('vfio_device_info', 24, {
  argsz: u32(0), //      bytes the caller provides; the size needed, on return
  flags: u32(4), //      DeviceInfoFlag bits
  numRegions: u32(8), // one more than the highest region index
  numIrqs: u32(12), //   one more than the highest irq index
  capOffset: u32(16), // bytes from the struct's start to the first capability, 0 for none
  pad: u32(20),
});
/** The value of `deviceInfo`. */
export type DeviceInfo = ValueOf<typeof deviceInfo.fields>;

/** `flags` of `deviceInfoCapPciAtomicComp`. Source: include/uapi/linux/vfio.h VFIO_PCI_ATOMIC_COMP* */
export const PciAtomicComp = { COMP32: 1, COMP64: 2, COMP128: 4 } as const;

/** `struct vfio_device_info_cap_pci_atomic_comp`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const deviceInfoCapPciAtomicComp = struct('vfio_device_info_cap_pci_atomic_comp', 16, {
  header: nested(0, infoCapHeader),
  flags: u32(8), // PciAtomicComp bits
  reserved: u32(12),
});

/** `flags` of `regionInfo`. Source: include/uapi/linux/vfio.h VFIO_REGION_INFO_FLAG_* */
export const RegionInfoFlag = { READ: 1, WRITE: 2, MMAP: 4, CAPS: 8 } as const;

/** Capabilities of `regionInfo`; the last two are retired. Source: include/uapi/linux/vfio.h VFIO_REGION_INFO_CAP_* */
export const RegionInfoCap = {
  SPARSE_MMAP: 1,
  TYPE: 2,
  MSIX_MAPPABLE: 3,
  NVLINK2_SSATGT: 4,
  NVLINK2_LNKSPD: 5,
} as const;

/** `struct vfio_region_info`, 32 bytes. Source: include/uapi/linux/vfio.h */
export const regionInfo = struct('vfio_region_info', 32, {
  argsz: u32(0), //      bytes the caller provides; the size needed, on return
  flags: u32(4), //      RegionInfoFlag bits
  index: u32(8),
  capOffset: u32(12), // bytes from the struct's start to the first capability, 0 for none
  size: u64(16), //      bytes
  offset: u64(24), //    bytes from the start of the device file
});
/** The value of `regionInfo`. */
export type RegionInfo = ValueOf<typeof regionInfo.fields>;

/** `struct vfio_region_sparse_mmap_area`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const regionSparseMmapArea = struct('vfio_region_sparse_mmap_area', 16, {
  offset: u64(0), // bytes from the start of the region
  size: u64(8), //   bytes
});
/** The value of `regionSparseMmapArea`. */
export type RegionSparseMmapArea = ValueOf<typeof regionSparseMmapArea.fields>;

/** `struct vfio_region_info_cap_sparse_mmap`, 16 bytes and `nrAreas` of `regionSparseMmapArea`. Source: include/uapi/linux/vfio.h */
export const regionInfoCapSparseMmap = struct('vfio_region_info_cap_sparse_mmap', 16, {
  header: nested(0, infoCapHeader),
  nrAreas: u32(8),
  reserved: u32(12),
  areas: tail(16),
});

/** `struct vfio_region_info_cap_type`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const regionInfoCapType = struct('vfio_region_info_cap_type', 16, {
  header: nested(0, infoCapHeader),
  type: u32(8), //     a RegionType, or PCI_VENDOR_TYPE with a vendor id
  subtype: u32(12), // one of the type's own
});

/** `type` of `regionInfoCapType`. Source: include/uapi/linux/vfio.h VFIO_REGION_TYPE_* */
export const RegionType = {
  GFX: 1,
  CCW: 2,
  MIGRATION_DEPRECATED: 3,
  /** A region of a PCI vendor: this bit and the vendor id. */
  PCI_VENDOR_TYPE: 0x8000_0000,
  PCI_VENDOR_MASK: 0xffff,
} as const;

/** `subtype` of `regionInfoCapType`, each meaningful under its type only. Source: include/uapi/linux/vfio.h VFIO_REGION_SUBTYPE_* */
export const RegionSubtype = {
  INTEL_IGD_OPREGION: 1,
  INTEL_IGD_HOST_CFG: 2,
  INTEL_IGD_LPC_CFG: 3,
  NVIDIA_NVLINK2_RAM: 1,
  IBM_NVLINK2_ATSD: 1,
  GFX_EDID: 1,
  CCW_ASYNC_CMD: 1,
  CCW_SCHIB: 2,
  CCW_CRW: 3,
  MIGRATION_DEPRECATED: 1,
} as const;

/** `linkState` of `regionGfxEdid`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_GFX_LINK_STATE_* */
export const GfxLinkState = { UP: 1, DOWN: 2 } as const;

/** `struct vfio_region_gfx_edid`, 24 bytes: the start of an EDID region. Source: include/uapi/linux/vfio.h */
export const regionGfxEdid = struct('vfio_region_gfx_edid', 24, {
  edidOffset: u32(0), //  bytes from the start of the region to the EDID blob
  edidMaxSize: u32(4), // bytes
  edidSize: u32(8), //    bytes
  maxXres: u32(12), //    pixels
  maxYres: u32(16), //    pixels
  linkState: u32(20), //  a GfxLinkState
});

/** `struct vfio_region_info_cap_nvlink2_ssatgt`, 16 bytes, retired. Source: include/uapi/linux/vfio.h */
export const regionInfoCapNvlink2Ssatgt = struct('vfio_region_info_cap_nvlink2_ssatgt', 16, {
  header: nested(0, infoCapHeader),
  tgt: u64(8),
});

/** `struct vfio_region_info_cap_nvlink2_lnkspd`, 16 bytes, retired. Source: include/uapi/linux/vfio.h */
export const regionInfoCapNvlink2Lnkspd = struct('vfio_region_info_cap_nvlink2_lnkspd', 16, {
  header: nested(0, infoCapHeader),
  linkSpeed: u32(8),
  pad: u32(12),
});

/** `flags` of `irqInfo`. Source: include/uapi/linux/vfio.h VFIO_IRQ_INFO_* */
export const IrqInfoFlag = { EVENTFD: 1, MASKABLE: 2, AUTOMASKED: 4, NORESIZE: 8 } as const;

/** `struct vfio_irq_info`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const irqInfo = struct('vfio_irq_info', 16, {
  argsz: u32(0),
  flags: u32(4), //  IrqInfoFlag bits
  index: u32(8),
  count: u32(12), // interrupts within this index
});
/** The value of `irqInfo`. */
export type IrqInfo = ValueOf<typeof irqInfo.fields>;

/** `flags` of `irqSet`: one kind of data and an action. Source: include/uapi/linux/vfio.h VFIO_IRQ_SET_* */
export const IrqSetFlag = {
  DATA_NONE: 1,
  DATA_BOOL: 2,
  DATA_EVENTFD: 4,
  ACTION_MASK: 8,
  ACTION_UNMASK: 0x10,
  ACTION_TRIGGER: 0x20,
  DATA_TYPE_MASK: 0x07,
  ACTION_TYPE_MASK: 0x38,
} as const;

/** `struct vfio_irq_set`, 20 bytes and `count` elements: a byte each for BOOL, an s32 each for EVENTFD. Source: include/uapi/linux/vfio.h */
export const irqSet = struct('vfio_irq_set', 20, {
  argsz: u32(0),
  flags: u32(4), // IrqSetFlag bits
  index: u32(8),
  start: u32(12), // first interrupt within the index
  count: u32(16), // interrupts
  data: tail(20),
});
/** The value of `irqSet`. */
export type IrqSet = ValueOf<typeof irqSet.fields>;

/** Regions of a PCI device. Source: include/uapi/linux/vfio.h VFIO_PCI_*_REGION_INDEX */
export const PciRegionIndex = {
  BAR0: 0,
  BAR1: 1,
  BAR2: 2,
  BAR3: 3,
  BAR4: 4,
  BAR5: 5,
  ROM: 6,
  CONFIG: 7,
  VGA: 8,
} as const;

/** How many regions every PCI device has; device specific ones follow. Source: include/uapi/linux/vfio.h VFIO_PCI_NUM_REGIONS */
export const PCI_NUM_REGIONS = 9;

/** Interrupts of a PCI device. Source: include/uapi/linux/vfio.h VFIO_PCI_*_IRQ_INDEX */
export const PciIrqIndex = { INTX: 0, MSI: 1, MSIX: 2, ERR: 3, REQ: 4 } as const;

/** Source: include/uapi/linux/vfio.h VFIO_PCI_NUM_IRQS */
export const PCI_NUM_IRQS = 5;

/** Regions of a channel I/O device. Source: include/uapi/linux/vfio.h VFIO_CCW_CONFIG_REGION_INDEX */
export const CcwRegionIndex = { CONFIG: 0 } as const;

/** How many regions every channel I/O device has; others follow. Source: include/uapi/linux/vfio.h VFIO_CCW_NUM_REGIONS */
export const CCW_NUM_REGIONS = 1;

/** Interrupts of a channel I/O device. Source: include/uapi/linux/vfio.h VFIO_CCW_*_IRQ_INDEX */
export const CcwIrqIndex = { IO: 0, CRW: 1, REQ: 2 } as const;

/** Source: include/uapi/linux/vfio.h VFIO_CCW_NUM_IRQS */
export const CCW_NUM_IRQS = 3;

/** Interrupts of an adjunct processor device. Source: include/uapi/linux/vfio.h VFIO_AP_*_IRQ_INDEX */
export const ApIrqIndex = { REQ: 0, CFG_CHG: 1 } as const;

/** Source: include/uapi/linux/vfio.h VFIO_AP_NUM_IRQS */
export const AP_NUM_IRQS = 2;

/** `flags` of `pciHotResetInfo`. Source: include/uapi/linux/vfio.h VFIO_PCI_HOT_RESET_FLAG_* */
export const PciHotResetFlag = { DEV_ID: 1, DEV_ID_OWNED: 2 } as const;

/** `devid` of `pciDependentDevice` when there is no id to give. Source: include/uapi/linux/vfio.h VFIO_PCI_DEVID_* */
export const PciDevid = { OWNED: 0, NOT_OWNED: 0xffff_ffff } as const;

/** `struct vfio_pci_dependent_device`, 8 bytes. Source: include/uapi/linux/vfio.h */
export const pciDependentDevice = struct('vfio_pci_dependent_device', 8, {
  groupId: u32(0),
  devid: alias(u32(0)), // instead of the group, with PciHotResetFlag.DEV_ID
  segment: u16(4), //      PCI domain
  bus: u8(6),
  devfn: u8(7),
});
/** The value of `pciDependentDevice`. */
export type PciDependentDevice = ValueOf<typeof pciDependentDevice.fields>;

/** `struct vfio_pci_hot_reset_info`, 12 bytes and `count` of `pciDependentDevice`. Source: include/uapi/linux/vfio.h */
export const pciHotResetInfo = struct('vfio_pci_hot_reset_info', 12, {
  argsz: u32(0),
  flags: u32(4), // PciHotResetFlag bits
  count: u32(8),
  devices: tail(12),
});
/** The value of `pciHotResetInfo`. */
export type PciHotResetInfo = ValueOf<typeof pciHotResetInfo.fields>;

/** `struct vfio_pci_hot_reset`, 12 bytes and `count` descriptors, s32 each. Source: include/uapi/linux/vfio.h */
export const pciHotReset = struct('vfio_pci_hot_reset', 12, {
  argsz: u32(0),
  flags: u32(4), // 0
  count: u32(8),
  groupFds: tail(12),
});
/** The value of `pciHotReset`. */
export type PciHotReset = ValueOf<typeof pciHotReset.fields>;

/** `flags` of `deviceGfxPlaneInfo`. Source: include/uapi/linux/vfio.h VFIO_GFX_PLANE_TYPE_* */
export const GfxPlaneType = { PROBE: 1, DMABUF: 2, REGION: 4 } as const;

/** `struct vfio_device_gfx_plane_info`, 64 bytes. Source: include/uapi/linux/vfio.h */
export const deviceGfxPlaneInfo = struct('vfio_device_gfx_plane_info', 64, {
  argsz: u32(0),
  flags: u32(4), //          GfxPlaneType bits
  drmPlaneType: u32(8), //   as in DRM_PLANE_TYPE_*
  drmFormat: u32(12), //     four characters
  drmFormatMod: u64(16),
  width: u32(24), //         pixels
  height: u32(28), //        pixels
  stride: u32(32), //        bytes
  size: u32(36), //          bytes
  xPos: u32(40), //          pixels, of a cursor
  yPos: u32(44),
  xHot: u32(48), //          pixels, 0xffffffff for none
  yHot: u32(52),
  regionIndex: u32(56), //   with REGION
  dmabufId: alias(u32(56)), // with DMABUF
  reserved: u32(60),
});
/** The value of `deviceGfxPlaneInfo`. */
export type DeviceGfxPlaneInfo = ValueOf<typeof deviceGfxPlaneInfo.fields>;

/** `flags` of `deviceIoeventfd`: the width of the write. Source: include/uapi/linux/vfio.h VFIO_DEVICE_IOEVENTFD_* */
export const IoeventfdFlag = { WIDTH_8: 1, WIDTH_16: 2, WIDTH_32: 4, WIDTH_64: 8, SIZE_MASK: 0xf } as const;

/** `struct vfio_device_ioeventfd`, 32 bytes. Source: include/uapi/linux/vfio.h */
export const deviceIoeventfd = struct('vfio_device_ioeventfd', 32, {
  argsz: u32(0),
  flags: u32(4), //  IoeventfdFlag bits
  offset: u64(8), // bytes from the start of the device file
  data: u64(16), //  value to write when the eventfd is signalled
  fd: s32(24), //    -1 to remove
  reserved: u32(28),
});
/** The value of `deviceIoeventfd`. */
export type DeviceIoeventfd = ValueOf<typeof deviceIoeventfd.fields>;

/** `flags` of `deviceBindIommufd`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_BIND_FLAG_TOKEN */
export const DeviceBindFlag = { TOKEN: 1 } as const;

/** `struct vfio_device_bind_iommufd`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const deviceBindIommufd = struct('vfio_device_bind_iommufd', 24, {
  argsz: u32(0),
  flags: u32(4), //         DeviceBindFlag bits
  iommufd: s32(8),
  outDevid: u32(12), //     the device's id in that iommufd, on return
  tokenUuidPtr: u64(16), // address of 16 bytes, with TOKEN
});
/** The value of `deviceBindIommufd`. */
export type DeviceBindIommufd = ValueOf<typeof deviceBindIommufd.fields>;

/** `flags` of `deviceAttachIommufdPt`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_ATTACH_PASID */
export const DeviceAttachFlag = { PASID: 1 } as const;

/** `struct vfio_device_attach_iommufd_pt`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const deviceAttachIommufdPt = struct('vfio_device_attach_iommufd_pt', 16, {
  argsz: u32(0),
  flags: u32(4), //  DeviceAttachFlag bits
  ptId: u32(8), //   an IOAS or a page table; the page table in use, on return
  pasid: u32(12), // with PASID
});
/** The value of `deviceAttachIommufdPt`. */
export type DeviceAttachIommufdPt = ValueOf<typeof deviceAttachIommufdPt.fields>;

/** `flags` of `deviceDetachIommufdPt`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_DETACH_PASID */
export const DeviceDetachFlag = { PASID: 1 } as const;

/** `struct vfio_device_detach_iommufd_pt`, 12 bytes. Source: include/uapi/linux/vfio.h */
export const deviceDetachIommufdPt = struct('vfio_device_detach_iommufd_pt', 12, {
  argsz: u32(0),
  flags: u32(4), // DeviceDetachFlag bits
  pasid: u32(8), // with PASID
});
/** The value of `deviceDetachIommufdPt`. */
export type DeviceDetachIommufdPt = ValueOf<typeof deviceDetachIommufdPt.fields>;
