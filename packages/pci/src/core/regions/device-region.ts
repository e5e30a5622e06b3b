/*
 * Regions that only some functions have, from index 9 on: they come when the device is opened, and go when it is closed.
 */
import type { InfoCap } from '@vfio/core';
import type { Mapping, MmapRequest, UserBuffer } from '@vfio/host';
import type { PciCoreDevice } from '../core-device.js';

/**
 * What a region can do.
 *
 * @source include/linux/vfio_pci_core.h struct vfio_pci_regops
 */
export interface DeviceRegionOps {
  /**
   * Reads into the buffer, or writes from it, all of its length or up to the end of the region.
   *
   * @param offset - bytes from the start of the region
   * @returns bytes done
   * @throws EINVAL, EFAULT - as the region has it
   */
  rw(device: PciCoreDevice, buffer: UserBuffer, offset: number, isWrite: boolean): number | Promise<number>;
  /** The device is being closed. */
  release?(device: PciCoreDevice): void;
  /**
   * Maps a part. Regions without this, or without the flag MMAP, can not be mapped.
   *
   * @param offset - bytes from the start of the region
   */
  mmap?(device: PciCoreDevice, request: MmapRequest, offset: number): Mapping;
  /** Adds capabilities behind that of its type. */
  addCapability?(device: PciCoreDevice, caps: InfoCap): void;
}

/**
 * One region.
 *
 * @source include/linux/vfio_pci_core.h struct vfio_pci_region
 */
export interface DeviceRegion {
  readonly type: number;
  readonly subtype: number;
  readonly ops: DeviceRegionOps;
  /** Bytes. */
  readonly size: number;
  /** `RegionInfoFlag` bits. */
  readonly flags: number;
}

/**
 * Adds a region to a device that is being opened; its index is 9 and the number of those before.
 *
 * @throws ENOMEM
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_register_dev_region()
 */
export function registerDevRegion(device: PciCoreDevice, region: DeviceRegion): void {
  device.pdev.pciHost.faults.check('vfio_pci_core_register_dev_region:region');
  device.regions.push(region);
}
