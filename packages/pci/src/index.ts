/* Public names of @vfio/pci: the driver vfio-pci. Its bus, hardware and core have subpaths of their own. */

export { VfioPciDevice, type VfioPciParts } from './device.js';
export { defineVfioPci, type VfioPciOptions } from './driver.js';
export { defineStubDrivers } from './stub-drivers.js';
