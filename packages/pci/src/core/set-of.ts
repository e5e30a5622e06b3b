/*
 * The set of a device that is registered.
 */
import type { DeviceSet } from '@vfio/core';
import { KernelBug } from '@vfio/host';
import type { PciCoreDevice } from './core-device.js';

/** The devices that are reset together with one. */
export function setOf({ deviceSet, pdev }: PciCoreDevice): DeviceSet {
  if (!deviceSet) throw new KernelBug('driver', `${pdev.name} is in no device set`);
  return deviceSet;
}
