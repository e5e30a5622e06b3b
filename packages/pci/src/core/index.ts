/* Public names of @vfio/pci/core, by room: what the drivers of vendors are made with. */

// The device, and its life

export { coreCloseDevice, coreDisable } from './close.js';
export { type BarMap, defaultPciCoreOptions, PciCoreDevice, type PciCoreOptions } from './core-device.js';
export { enable, finishEnable, openDevice } from './enable.js';
export { isPciCoreDevice } from './is-core-device.js';
export { defineVfioPciCore } from './module.js';
export { registerDevice, unregisterDevice } from './register.js';

// Requests

export { aerErrDetected, coreErrHandlers, coreRequest } from './events.js';
export { coreIoctlFeature } from './feature.js';
export { ioctlGetPciHotResetInfo, ioctlPciHotReset } from './hot-reset.js';
export { ioctlGetInfo } from './info.js';
export { coreIoctl } from './ioctl.js';
export { ioctlReset, resetUnderMemoryLock } from './reset.js';
export { coreMatch, coreMatchTokenUuid } from './token-match.js';

// Regions

export type { ConfigView } from './config/view.js';
export { type RangeIntersection, rangeIntersectRange } from './range.js';
export { doIoRw, type IoRange } from './regions/bar-access.js';
export { type DeviceRegion, type DeviceRegionOps, registerDevRegion } from './regions/device-region.js';
export { getRegionInfo } from './regions/info.js';
export { coreMmap } from './regions/mmap.js';
export { coreRead, coreWrite } from './regions/rw.js';

// Memory, power, virtual functions

export { downWriteMemory, memoryEnabled, memoryLockAndEnable, zapAndDownWrite, zapBars } from './memory.js';
export { lockAndSetPowerState, setPowerState } from './power.js';
export { sriovConfigure } from './sriov.js';
