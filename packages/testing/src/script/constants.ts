// The names that a number in a script may use. The table belongs to the language and repeats numbers that @vfio/core also has:
// a number that is wrong there must not be wrong here in the same way.

/** Numbers of the VFIO requests: `_IO(';', 100 + n)`. */
const request = (n: number): bigint => BigInt((0x3b << 8) | (100 + n));

// biome-ignore format: a table reads in columns
const table: Readonly<Record<string, bigint>> = {
  // requests
  VFIO_GET_API_VERSION: request(0),         VFIO_CHECK_EXTENSION: request(1),
  VFIO_SET_IOMMU: request(2),               VFIO_GROUP_GET_STATUS: request(3),
  VFIO_GROUP_SET_CONTAINER: request(4),     VFIO_GROUP_UNSET_CONTAINER: request(5),
  VFIO_GROUP_GET_DEVICE_FD: request(6),     VFIO_DEVICE_GET_INFO: request(7),
  VFIO_DEVICE_GET_REGION_INFO: request(8),  VFIO_DEVICE_GET_IRQ_INFO: request(9),
  VFIO_DEVICE_SET_IRQS: request(10),        VFIO_DEVICE_RESET: request(11),
  VFIO_DEVICE_GET_PCI_HOT_RESET_INFO: request(12), VFIO_IOMMU_GET_INFO: request(12),
  VFIO_DEVICE_PCI_HOT_RESET: request(13),   VFIO_IOMMU_MAP_DMA: request(13),
  VFIO_DEVICE_QUERY_GFX_PLANE: request(14), VFIO_IOMMU_UNMAP_DMA: request(14),
  VFIO_DEVICE_GET_GFX_DMABUF: request(15),  VFIO_IOMMU_ENABLE: request(15),
  VFIO_DEVICE_IOEVENTFD: request(16),       VFIO_IOMMU_DISABLE: request(16),
  VFIO_DEVICE_FEATURE: request(17),         VFIO_IOMMU_DIRTY_PAGES: request(17),
  VFIO_DEVICE_BIND_IOMMUFD: request(18),    VFIO_DEVICE_ATTACH_IOMMUFD_PT: request(19),
  VFIO_DEVICE_DETACH_IOMMUFD_PT: request(20), VFIO_MIG_GET_PRECOPY_INFO: request(21),
  VFIO_EEH_PE_OP: request(21),
  // IOMMU models and extensions
  TYPE1: 1n, SPAPR_TCE: 2n, TYPE1v2: 3n, DMA_CC: 4n, EEH: 5n, SPAPR_TCE_v2: 7n, NOIOMMU: 8n, UNMAP_ALL: 9n, UPDATE_VADDR: 10n,
  // region and interrupt indices of PCI
  BAR0: 0n, BAR1: 1n, BAR2: 2n, BAR3: 3n, BAR4: 4n, BAR5: 5n, ROM: 6n, CONFIG: 7n, VGA: 8n,
  INTX: 0n, MSI: 1n, MSIX: 2n, ERR: 3n, REQ: 4n,
  // flags of SET_IRQS
  IRQ_NONE: 1n, IRQ_BOOL: 2n, IRQ_EVENTFD: 4n, IRQ_MASK: 8n, IRQ_UNMASK: 16n, IRQ_TRIGGER: 32n,
  // flags of MAP_DMA, UNMAP_DMA and DIRTY_PAGES
  DMA_READ: 1n, DMA_WRITE: 2n, DMA_RW: 3n, DMA_VADDR: 4n,
  UNMAP_DIRTY: 1n, UNMAP_FLAG_ALL: 2n, UNMAP_VADDR: 4n,
  DIRTY_START: 1n, DIRTY_STOP: 2n, DIRTY_GET: 4n,
  // device features
  FEAT_GET: 1n << 16n, FEAT_SET: 1n << 17n, FEAT_PROBE: 1n << 18n,
  F_PCI_VF_TOKEN: 0n, F_MIGRATION: 1n, F_MIG_DEVICE_STATE: 2n, F_LOW_POWER_ENTRY: 3n, F_LOW_POWER_ENTRY_WAKEUP: 4n,
  F_LOW_POWER_EXIT: 5n, F_DMA_LOGGING_START: 6n, F_DMA_LOGGING_STOP: 7n, F_DMA_LOGGING_REPORT: 8n, F_MIG_DATA_SIZE: 9n,
  F_BUS_MASTER: 10n, F_DMA_BUF: 11n, F_MIG_PRECOPY_INFOv2: 12n,
  // migration states
  ST_ERROR: 0n, ST_STOP: 1n, ST_RUNNING: 2n, ST_STOP_COPY: 3n, ST_RESUMING: 4n, ST_RUNNING_P2P: 5n, ST_PRE_COPY: 6n,
  ST_PRE_COPY_P2P: 7n,
  // QUERY_GFX_PLANE, IOEVENTFD
  PLANE_PROBE: 1n, PLANE_DMABUF: 2n, PLANE_REGION: 4n,
  IOEVENTFD_8: 1n, IOEVENTFD_16: 2n, IOEVENTFD_32: 4n, IOEVENTFD_64: 8n,
  // iommufd
  IOMMU_DESTROY: request(28),               IOMMU_IOAS_ALLOC: request(29),
  IOMMU_IOAS_ALLOW_IOVAS: request(30),      IOMMU_IOAS_COPY: request(31),
  IOMMU_IOAS_IOVA_RANGES: request(32),      IOMMU_IOAS_MAP: request(33),
  IOMMU_IOAS_UNMAP: request(34),            IOMMU_OPTION: request(35),
  IOMMU_VFIO_IOAS: request(36),             IOMMU_HWPT_ALLOC: request(37),
  IOMMU_GET_HW_INFO: request(38),           IOMMU_HWPT_SET_DIRTY_TRACKING: request(39),
  IOMMU_HWPT_GET_DIRTY_BITMAP: request(40),
  MAP_FIXED_IOVA: 1n, MAP_WRITEABLE: 2n, MAP_READABLE: 4n,
  // the rest
  DMA_BUF_IOCTL_SYNC: 0x40086200n,
  PAGE: 4096n,
};

/**
 * The number that a name stands for in every script.
 *
 * @returns undefined for a name that is not in the table
 */
export function constant(name: string): bigint | undefined {
  return Object.hasOwn(table, name) ? table[name] : undefined;
}
