/**
 * VFIO_DEVICE_FEATURE and what travels in it: migration states and sizes, DMA logging, low power, dma-bufs. The structs of
 * the first migration protocol (a region, withdrawn in 5.18) are here because the header still has them.
 */
import { s32, struct, tail, u32, u64, type ValueOf } from './struct.js';

/** `flags` of `deviceFeature`: a `Feature` in the low half, what to do in the high half. Source: include/uapi/linux/vfio.h */
export const FeatureFlag = { MASK: 0xffff, GET: 0x1_0000, SET: 0x2_0000, PROBE: 0x4_0000 } as const;

/** Feature numbers. Source: include/uapi/linux/vfio.h VFIO_DEVICE_FEATURE_* */
export const Feature = {
  PCI_VF_TOKEN: 0,
  MIGRATION: 1,
  MIG_DEVICE_STATE: 2,
  LOW_POWER_ENTRY: 3,
  LOW_POWER_ENTRY_WITH_WAKEUP: 4,
  LOW_POWER_EXIT: 5,
  DMA_LOGGING_START: 6,
  DMA_LOGGING_STOP: 7,
  DMA_LOGGING_REPORT: 8,
  MIG_DATA_SIZE: 9,
  BUS_MASTER: 10,
  DMA_BUF: 11,
  MIG_PRECOPY_INFOv2: 12,
} as const;
/** A feature number. */
export type Feature = (typeof Feature)[keyof typeof Feature];

/** `struct vfio_device_feature`, 8 bytes and the feature's data. Source: include/uapi/linux/vfio.h */
export const deviceFeature = struct('vfio_device_feature', 8, {
  argsz: u32(0), // bytes, data included
  flags: u32(4), // FeatureFlag bits and a Feature
  data: tail(8),
});
/** The value of `deviceFeature`. */
export type DeviceFeature = ValueOf<typeof deviceFeature.fields>;

/** What a migratable device can do beside stop. Source: include/uapi/linux/vfio.h VFIO_MIGRATION_* */
export const MigrationFlag = { STOP_COPY: 1, P2P: 2, PRE_COPY: 4 } as const;

/** `struct vfio_device_feature_migration`, 8 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureMigration = struct('vfio_device_feature_migration', 8, {
  flags: u64(0), // MigrationFlag bits
});

/** States of a migratable device. Source: include/uapi/linux/vfio.h enum vfio_device_mig_state */
export const MigState = {
  ERROR: 0,
  STOP: 1,
  RUNNING: 2,
  STOP_COPY: 3,
  RESUMING: 4,
  RUNNING_P2P: 5,
  PRE_COPY: 6,
  PRE_COPY_P2P: 7,
} as const;
/** A state of a migratable device. */
export type MigState = (typeof MigState)[keyof typeof MigState];

/** How many states there are. Source: include/uapi/linux/vfio.h VFIO_DEVICE_STATE_NR */
export const MIG_STATE_NR = 8;

/** `struct vfio_device_feature_mig_state`, 8 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureMigState = struct('vfio_device_feature_mig_state', 8, {
  deviceState: u32(0), // a MigState
  dataFd: s32(4), //      of the stream that the new state needs, -1 for none
});
/** The value of `deviceFeatureMigState`. */
export type DeviceFeatureMigState = ValueOf<typeof deviceFeatureMigState.fields>;

/** `flags` of `precopyInfo`. Source: include/uapi/linux/vfio.h VFIO_PRECOPY_INFO_REINIT */
export const PrecopyInfoFlag = { REINIT: 1 } as const;

/** `struct vfio_precopy_info`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const precopyInfo = struct('vfio_precopy_info', 24, {
  argsz: u32(0),
  flags: u32(4), //        PrecopyInfoFlag bits
  initialBytes: u64(8), // that must still be read before the device can resume quickly elsewhere
  dirtyBytes: u64(16), //  changed since they were read
});
/** The value of `precopyInfo`. */
export type PrecopyInfo = ValueOf<typeof precopyInfo.fields>;

/** `struct vfio_device_low_power_entry_with_wakeup`, 8 bytes. Source: include/uapi/linux/vfio.h */
export const deviceLowPowerEntryWithWakeup = struct('vfio_device_low_power_entry_with_wakeup', 8, {
  wakeupEventfd: s32(0), // signalled when the host wakes the device
  reserved: u32(4),
});

/** `struct vfio_device_feature_dma_logging_control`, 24 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureDmaLoggingControl = struct('vfio_device_feature_dma_logging_control', 24, {
  pageSize: u64(0), //   bytes, a hint; the size chosen, on return
  numRanges: u32(8),
  reserved: u32(12),
  ranges: u64(16), //    address of `numRanges` of deviceFeatureDmaLoggingRange
});

/** `struct vfio_device_feature_dma_logging_range`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureDmaLoggingRange = struct('vfio_device_feature_dma_logging_range', 16, {
  iova: u64(0),
  length: u64(8), // bytes
});

/** `struct vfio_device_feature_dma_logging_report`, 32 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureDmaLoggingReport = struct('vfio_device_feature_dma_logging_report', 32, {
  iova: u64(0),
  length: u64(8), //    bytes
  pageSize: u64(16), // bytes that a bit stands for
  bitmap: u64(24), //   address of the bitmap
});

/** `struct vfio_device_feature_mig_data_size`, 8 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureMigDataSize = struct('vfio_device_feature_mig_data_size', 8, {
  stopCopyLength: u64(0), // bytes
});

/** `op` of `deviceFeatureBusMaster`. Source: include/uapi/linux/vfio.h VFIO_DEVICE_FEATURE_*_MASTER */
export const BusMasterOp = { CLEAR_MASTER: 0, SET_MASTER: 1 } as const;

/** `struct vfio_device_feature_bus_master`, 4 bytes. Source: include/uapi/linux/vfio.h */
export const deviceFeatureBusMaster = struct('vfio_device_feature_bus_master', 4, {
  op: u32(0), // a BusMasterOp
});

/** `struct vfio_region_dma_range`, 16 bytes. Source: include/uapi/linux/vfio.h */
export const regionDmaRange = struct('vfio_region_dma_range', 16, {
  offset: u64(0), // bytes from the start of the region
  length: u64(8), // bytes
});

/** `struct vfio_device_feature_dma_buf`, 16 bytes and `nrRanges` of `regionDmaRange`. Source: include/uapi/linux/vfio.h */
export const deviceFeatureDmaBuf = struct('vfio_device_feature_dma_buf', 16, {
  regionIndex: u32(0),
  openFlags: u32(4), // of the descriptor to make, as in open()
  flags: u32(8), //     0
  nrRanges: u32(12),
  dmaRanges: tail(16),
});

/**
 * `deviceState` of the first migration protocol, bits.
 *
 * @deprecated Withdrawn in Linux 5.18 in favour of `Feature.MIG_DEVICE_STATE`.
 * @source include/uapi/linux/vfio.h VFIO_DEVICE_STATE_V1_*
 */
export const MigStateV1 = { STOP: 0, RUNNING: 1, SAVING: 2, RESUMING: 4, MASK: 7 } as const;

/**
 * `struct vfio_device_migration_info`, 32 bytes: the start of a migration region.
 *
 * @deprecated Withdrawn in Linux 5.18 in favour of `Feature.MIG_DEVICE_STATE`.
 * @source include/uapi/linux/vfio.h
 */
export const deviceMigrationInfo = struct('vfio_device_migration_info', 32, {
  deviceState: u32(0), //   MigStateV1 bits
  reserved: u32(4),
  pendingBytes: u64(8),
  dataOffset: u64(16), //   bytes from the start of the region
  dataSize: u64(24), //     bytes
});
