/**
 * The ioctl request numbers of VFIO and iommufd. They carry a type and a number only, no size or direction, and some
 * numbers mean one thing on a device and another on a container: the descriptor decides.
 */

/** Letter of every VFIO and iommufd request: `;`. Source: include/uapi/linux/vfio.h VFIO_TYPE */
export const VFIO_TYPE = 0x3b;

/** Number of the first VFIO request. Source: include/uapi/linux/vfio.h VFIO_BASE */
export const VFIO_BASE = 100;

/** What GET_API_VERSION answers. Source: include/uapi/linux/vfio.h VFIO_API_VERSION */
export const VFIO_API_VERSION = 0;

/** Number of the first iommufd request. Source: include/uapi/linux/iommufd.h IOMMUFD_CMD_BASE */
export const IOMMUFD_CMD_BASE = 0x80;

/** Requests of VFIO, by the name in C without `VFIO_`. Source: include/uapi/linux/vfio.h */
export const Request = {
  // container
  GET_API_VERSION: 0x3b64,
  CHECK_EXTENSION: 0x3b65,
  SET_IOMMU: 0x3b66,
  // group
  GROUP_GET_STATUS: 0x3b67,
  GROUP_SET_CONTAINER: 0x3b68,
  GROUP_UNSET_CONTAINER: 0x3b69,
  GROUP_GET_DEVICE_FD: 0x3b6a,
  // device
  DEVICE_GET_INFO: 0x3b6b,
  DEVICE_GET_REGION_INFO: 0x3b6c,
  DEVICE_GET_IRQ_INFO: 0x3b6d,
  DEVICE_SET_IRQS: 0x3b6e,
  DEVICE_RESET: 0x3b6f,
  DEVICE_GET_PCI_HOT_RESET_INFO: 0x3b70,
  DEVICE_PCI_HOT_RESET: 0x3b71,
  DEVICE_QUERY_GFX_PLANE: 0x3b72,
  DEVICE_GET_GFX_DMABUF: 0x3b73,
  DEVICE_IOEVENTFD: 0x3b74,
  DEVICE_FEATURE: 0x3b75,
  DEVICE_BIND_IOMMUFD: 0x3b76,
  DEVICE_ATTACH_IOMMUFD_PT: 0x3b77,
  DEVICE_DETACH_IOMMUFD_PT: 0x3b78,
  // data descriptor of a migration
  MIG_GET_PRECOPY_INFO: 0x3b79,
  // container with an IOMMU driver
  IOMMU_GET_INFO: 0x3b70,
  IOMMU_MAP_DMA: 0x3b71,
  IOMMU_UNMAP_DMA: 0x3b72,
  IOMMU_ENABLE: 0x3b73,
  IOMMU_DISABLE: 0x3b74,
  IOMMU_DIRTY_PAGES: 0x3b75,
  IOMMU_SPAPR_TCE_GET_INFO: 0x3b70,
  IOMMU_SPAPR_REGISTER_MEMORY: 0x3b75,
  IOMMU_SPAPR_UNREGISTER_MEMORY: 0x3b76,
  IOMMU_SPAPR_TCE_CREATE: 0x3b77,
  IOMMU_SPAPR_TCE_REMOVE: 0x3b78,
  EEH_PE_OP: 0x3b79,
} as const;
/** A VFIO request number. */
export type Request = (typeof Request)[keyof typeof Request];

/** Requests of iommufd, by the name in C without `IOMMU_`. Source: include/uapi/linux/iommufd.h */
export const IommufdRequest = {
  DESTROY: 0x3b80,
  IOAS_ALLOC: 0x3b81,
  IOAS_ALLOW_IOVAS: 0x3b82,
  IOAS_COPY: 0x3b83,
  IOAS_IOVA_RANGES: 0x3b84,
  IOAS_MAP: 0x3b85,
  IOAS_UNMAP: 0x3b86,
  OPTION: 0x3b87,
  VFIO_IOAS: 0x3b88,
  HWPT_ALLOC: 0x3b89,
  GET_HW_INFO: 0x3b8a,
  HWPT_SET_DIRTY_TRACKING: 0x3b8b,
  HWPT_GET_DIRTY_BITMAP: 0x3b8c,
  HWPT_INVALIDATE: 0x3b8d,
  FAULT_QUEUE_ALLOC: 0x3b8e,
  IOAS_MAP_FILE: 0x3b8f,
  VIOMMU_ALLOC: 0x3b90,
  VDEVICE_ALLOC: 0x3b91,
  IOAS_CHANGE_PROCESS: 0x3b92,
  VEVENTQ_ALLOC: 0x3b93,
  HW_QUEUE_ALLOC: 0x3b94,
} as const;
/** An iommufd request number. */
export type IommufdRequest = (typeof IommufdRequest)[keyof typeof IommufdRequest];
