/*
 * Telling devices of PCI drivers from others. What makes one is on it, so that those of another copy of this package count too.
 */
import type { PciCoreDevice } from './core-device.js';

/** Whether an object is the device of a VFIO driver for PCI functions. */
export function isPciCoreDevice(object: object | undefined): object is PciCoreDevice {
  return object !== undefined && 'isPciCore' in object && object.isPciCore === true;
}
