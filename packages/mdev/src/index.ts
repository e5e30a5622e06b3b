export { MdevBus } from './bus.js';
export { MdevDevice, mdevDeviceCreate, mdevDeviceRemove } from './device.js';
export { MdevDriver, type MdevDriverOptions, mdevRegisterDriver, mdevUnregisterDriver } from './driver.js';
export { defineMdev, mdevBus } from './module.js';
export { MdevParent, mdevRegisterParent, mdevUnregisterParent } from './parent.js';
export { MdevType, type MdevTypeRecord } from './type.js';
export { guidFormat, guidParse, UUID_STRING_LEN } from './uuid.js';
