export { MdevBus } from './bus.js';
export { MdevDevice } from './device.js';
export { MdevDriver, type MdevDriverOptions, mdevRegisterDriver, mdevUnregisterDriver } from './driver.js';
export { defineMdev, mdevBus } from './module.js';
export { MdevParent, mdevRegisterParent, mdevUnregisterParent } from './parent.js';
export { MdevType } from './type.js';
