// The base class of every driver's device: what `struct vfio_device` and `struct vfio_device_ops` are in the kernel, in
// one object with one life time. The core fills in what it owns; a driver overrides the operations that it has.

import type { Device, File, InodeMapping, IoctlCall, KvmVm, Mapping, MmapRequest, UserBuffer } from '@vfio/host';
import type { DeviceRecord } from './device-record.js';
import type { DeviceSet } from './device-set.js';
import type { FeatureCall } from './feature.js';
import type { Group } from './group.js';
import type { InfoCap } from './info-cap.js';
import type { IommufdContext } from './iommufd/context.js';
import type { IovaBitmap } from './iova-bitmap.js';
import type { MigState, RegionInfo } from './uapi/vfio.js';
import type { Vfio } from './vfio.js';

/**
 * Where a device stands in its life. `released` is the state of a pre-allocated device after its `release`, until its
 * owner frees it; everything else goes on to `freed` at once.
 */
export type DeviceState = 'new' | 'allocated' | 'registered' | 'unregistered' | 'released' | 'freed';

/** A range of I/O virtual addresses, `length` bytes from `iova`. */
export interface IovaRange {
  readonly iova: bigint;
  readonly length: bigint;
}

/** Migration callbacks of a device; all three or none. Source: include/linux/vfio.h `struct vfio_migration_ops` */
export interface MigrationOps {
  /** The present state. */
  getState(): MigState | Promise<MigState>;
  /**
   * Moves to a state; answers with the new data file when the move made one, which then belongs to the core.
   *
   * @param state - as the user gave it: any number
   * @throws EINVAL - no state of this device, or not reachable from the present one
   */
  setState(state: number): File | undefined | Promise<File | undefined>;
  /** Bytes that a stop-copy would transfer now, as an estimate. */
  getDataSize(): bigint | Promise<bigint>;
}

/** DMA logging callbacks of a device; all three or none. Source: include/linux/vfio.h `struct vfio_log_ops` */
export interface LogOps {
  /**
   * Starts to log writes to the ranges (sorted, disjoint).
   *
   * @param pageSize - bytes; the granularity asked for
   * @returns the granularity chosen, in bytes
   */
  start(ranges: readonly IovaRange[], pageSize: bigint): bigint | Promise<bigint>;
  stop(): void | Promise<void>;
  /** Reports what was written since the last report and forgets it. */
  readAndClear(iova: bigint, length: bigint, bitmap: IovaBitmap): void | Promise<void>;
}

/** What a driver does around each request of a device that can sleep. Source: drivers/vfio/vfio_main.c `vfio_device_pm_runtime_get` */
export interface RuntimePm {
  resume(): void | Promise<void>;
  suspend(): void | Promise<void>;
}

/**
 * A device as VFIO sees it. Subclass it, implement the operations that the device has, and make it with
 * {@link allocDevice}; an operation that is left out is answered by the core as the kernel does.
 *
 * @source include/linux/vfio.h `struct vfio_device`, `struct vfio_device_ops`
 */
export abstract class VfioDevice {
  /** Name of the operations (`vfio-pci`), for messages and for checks by name. */
  readonly driverName?: string;
  /** MigrationFlag bits; fixed while the device is registered. */
  migrationFlags = 0;
  /** Set before registration by a device that can migrate. */
  migOps?: MigrationOps;
  /** Set before registration by a device that can log its writes. */
  logOps?: LogOps;
  /** Set before registration by a device that suspends when it is idle. */
  runtimePm?: RuntimePm;

  /** @internal what the core keeps about the device; set by init */
  record?: DeviceRecord | undefined;
  /** The set it belongs to, from registration at the latest until release. */
  deviceSet?: DeviceSet | undefined;
  /** The group it is registered in. */
  group?: Group | undefined;
  /** Open and granted files. Changes only under the lock of the device's set. */
  openCount = 0;
  /** The virtual machine that it is given to, from first open to last close. */
  kvm: KvmVm | undefined;
  /** True once a user asked for the second version of the pre-copy information; lost at the last close. */
  precopyInfoV2 = false;
  /** Where the device stands in its life. */
  state: DeviceState = 'new';

  /** The VFIO it lives in. */
  get vfio(): Vfio {
    return this.#bound().vfio;
  }

  /** The parent: the device that a driver was probed for. */
  get dev(): Device {
    return this.#bound().dev;
  }

  /** The N of vfioN: the lowest number that was free at init. */
  get index(): number {
    return this.#bound().index;
  }

  /** `vfioN`. */
  get name(): string {
    return `vfio${this.index}`;
  }

  /** Its own `struct device`, of class vfio-dev below the parent; its references are the object's. */
  get device(): Device {
    return this.#bound().device;
  }

  /** The mapping space that all descriptors of the device share: zapping it reaches every user's mmap. */
  get mapping(): InodeMapping {
    return this.#bound().inode.mapping;
  }

  #bound(): DeviceRecord {
    if (!this.record) throw new TypeError('the device has not been through allocDevice or initDevice');
    return this.record;
  }

  /** Last step of allocation, before anybody can see the object. When it throws, `release` is not called. */
  init?(): void | Promise<void>;
  /** The last reference went: private clean-up. The core frees the object afterwards. */
  release?(): void;
  /** First open, under the lock of the set, with `openCount` 1. */
  openDevice?(): void | Promise<void>;
  /** Last close, under the lock of the set, with `openCount` still 1. */
  closeDevice?(): void | Promise<void>;

  /**
   * Reads `buffer.length` bytes at a position of the device file into `buffer.bytes`.
   *
   * @returns bytes read; at once where the hardware lets it
   * @throws EFAULT - `buffer.bytes` ended early (the user's memory does)
   */
  read?(buffer: UserBuffer, position: number): number | Promise<number>;
  /** Writes; as `read`. */
  write?(buffer: UserBuffer, position: number): number | Promise<number>;
  /** Maps a part of the device file. */
  mmap?(request: MmapRequest): Mapping | Promise<Mapping>;
  /** Any request that the core does not take; throws ENOTTY for unknown ones. */
  ioctl?(call: IoctlCall): number | Promise<number>;
  /** Fills in flags, size and offset for `info.index` and adds capabilities. */
  getRegionInfoCaps?(info: RegionInfo, caps: InfoCap): void | Promise<void>;
  /** Features whose numbers the core does not own; throws ENOTTY for unknown ones. */
  deviceFeature?(call: FeatureCall): number | Promise<number>;
  /** The driver goes away while users remain: ask them to leave. Called with 0, 1, 2, ... every ten seconds. */
  request?(count: number): void;
  /** Whether a name given to GET_DEVICE_FD means this device; throwing ends the search with that errno. */
  match?(name: string): boolean | Promise<boolean>;
  /** Checks the token that a user presented, or none. */
  matchTokenUuid?(uuid: Uint8Array | undefined): void | Promise<void>;
  /** Mapped memory goes away: unpin what lies in the range (bytes). May come before `openDevice` and after `closeDevice`. */
  dmaUnmap?(iova: bigint, length: bigint): void | Promise<void>;

  /**
   * A user gives the device to an iommufd. A driver has all four of these, and forwards them to the functions for
   * physical devices or for emulated ones; as with all that follow, the lock of the set is held.
   *
   * @returns the device's id there
   */
  bindIommufd?(context: IommufdContext): number | Promise<number>;
  /** Undoes `bindIommufd`, and every attachment. */
  unbindIommufd?(): void | Promise<void>;
  /**
   * Attaches the device to an address space, or moves it to another one.
   *
   * @param ptId - an IOAS or, of physical devices, a page table
   * @returns the page table in use, which of an emulated device is the IOAS itself
   */
  attachIoas?(ptId: number): number | Promise<number>;
  detachIoas?(): void | Promise<void>;
  /** As `attachIoas`, for one PASID. Both of these or none. */
  pasidAttachIoas?(pasid: number, ptId: number): number | Promise<number>;
  pasidDetachIoas?(pasid: number): void | Promise<void>;
}
