/* Public names of @vfio/user/testdev: a device for tests of clients, and what they are written against. */
export type { Doorbell, SocketClient, SocketDevice } from '../server/socket-device.js';
export { TestDevice } from './device.js';
export { defineTestDevice } from './driver.js';
export {
  BELL_MATCH,
  CLASS_CODE,
  DEVICE_ID,
  irqCounts,
  Msix,
  mappableAreas,
  Reg,
  regionSizes,
  TestCommand,
  VENDOR_ID,
} from './layout.js';
export { driverPackage, type TestDeviceSection } from './machine.js';
