// Errors
export { isVfioError, VfioError } from './errors.js';
// VFIO on a host
export { Vfio, type VfioOptions } from './vfio.js';
// Devices and their life
export {
  type DeviceState,
  type IovaRange,
  type LogOps,
  type MigrationOps,
  type RuntimePm,
  VfioDevice,
} from './device.js';
export {
  allocDevice,
  freeDevice,
  getDevice,
  initDevice,
  initGroupDev,
  putDevice,
  uninitGroupDev,
} from './lifecycle.js';
export {
  devicePut,
  deviceTryGet,
  putRegistration,
  registerEmulatedIommuDev,
  registerGroupDev,
  tryGetRegistration,
  unregisterGroupDev,
} from './registration.js';
export { assignDeviceSet, DeviceSet, type SetId } from './device-set.js';
// Groups, containers and their files
export { Container } from './container.js';
export { ContainerFile } from './container-file.js';
export { DeviceFile } from './device-file.js';
export { Group } from './group.js';
export { GroupFile } from './group-file.js';
// Requests
export { FeatureCall, type FeatureOps } from './feature.js';
export { InfoCap, type InfoFields, writeInfo } from './info-cap.js';
export { setIrqsValidateAndPrepare } from './irqs.js';
export { copyArgsz, userString } from './user-args.js';
// Migration and DMA logging
export {
  checkPrecopyIoctl,
  type MigratableDevice,
  migGetNextState,
  type MigStateName,
  migStateName,
} from './migration.js';
export { IovaBitmap, type IovaBitmapOptions } from './iova-bitmap.js';
export { combineIovaRanges } from './iova-ranges.js';
// Memory of the user
export { dmaRw, maxPinnedPages, pinPages, unpinPages } from './pages.js';
export type { DmaUnmapListener, GroupType, IommuBackend, IommuDriver, PinnedPage } from './iommu-driver.js';
// Driver packages
export type {
  DriverPackage,
  ExerciseDevice,
  ExerciseStep,
  ExerciseTarget,
  JsonSchema,
  MachineContext,
} from './plugin.js';
