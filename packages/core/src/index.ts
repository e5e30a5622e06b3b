/* Public names of @vfio/core, by room. A room begins with a comment and an empty line, which keeps the rooms apart. */

// Errors

export { isVfioError, VfioError } from './errors.js';

// VFIO on a host

export { type OptionConflict, optionConflict, type VfioOptions } from './build-options.js';
export { Vfio } from './vfio.js';

// Devices and their life

export {
  type DeviceState,
  type IovaRange,
  type LogOps,
  type MigrationOps,
  type RuntimePm,
  VfioDevice,
} from './device.js';
export { assignDeviceSet, DeviceSet, type SetId } from './device-set.js';
export {
  allocDevice,
  freeDevice,
  getDevice,
  initDevice,
  initGroupDev,
  putDevice,
  uninitGroupDev,
} from './lifecycle.js';
export { devicePut, deviceTryGet, putRegistration, tryGetRegistration } from './references.js';
export {
  registerEmulatedIommuDev,
  registerGroupDev,
  type UnregisterOptions,
  unregisterGroupDev,
} from './registration.js';

// Groups, containers and their files

export { Container } from './container.js';
export { ContainerFile } from './container-file.js';
export { DeviceFile } from './device-file.js';
export { fileEnforcedCoherent, fileHasDev, fileIsGroup, fileIsValid, fileSetKvm } from './files.js';
export { Group } from './group.js';
export { GroupFile } from './group-file.js';
export { KVM_DEV_TYPE_VFIO } from './kvm-vfio.js';

// Requests

export { FeatureCall, type FeatureOps } from './feature.js';
export { InfoCap, type InfoFields, writeInfo } from './info-cap.js';
export { setIrqsValidateAndPrepare } from './irqs.js';
export { REGION_STRIDE, regionIndexAt, regionOffsetAt, regionStart } from './region-layout.js';
export { copyArgsz, copyStruct, userString } from './user-args.js';
export { type VirqfdCallbacks, type VirqfdSlot, Virqfds } from './virqfd.js';

// Migration and DMA logging

export { IovaBitmap, type IovaBitmapOptions } from './iova-bitmap.js';
export { combineIovaRanges } from './iova-ranges.js';
export {
  checkPrecopyIoctl,
  type MigratableDevice,
  type MigStateName,
  migGetNextState,
  migStateName,
} from './migration.js';

// Memory of the user

export { maxPinnedPages } from './container-backend.js';
export type { DmaUnmapListener, GroupType, IommuBackend, IommuDriver, PinnedPage } from './iommu-driver.js';
export { dmaRw, pinPages, unpinPages } from './pages.js';

// Driver packages

export {
  type DriverPackage,
  type ExerciseDevice,
  type ExerciseMapping,
  type ExerciseMemory,
  type ExerciseStep,
  type ExerciseTarget,
  exerciseStep,
  type ImportedMachine,
  isSectionError,
  type JsonSchema,
  type MachineContext,
  type SampleMachine,
  SectionError,
} from './plugin.js';

// Layouts of the uAPI: how to declare one

export {
  alias,
  bytes,
  type Field,
  type FieldKind,
  type Fields,
  type InitOf,
  type NestedField,
  type NumberKind,
  nested,
  pad,
  Struct,
  s32,
  struct,
  tail,
  u8,
  u16,
  u32,
  u64,
  type ValueOf,
} from './uapi/struct.js';

// linux/vfio.h and linux/vfio_zdev.h

export {
  AP_NUM_IRQS,
  ApIrqIndex,
  type Bitmap,
  BusMasterOp,
  bitmap,
  CCW_NUM_IRQS,
  CCW_NUM_REGIONS,
  CcwIrqIndex,
  CcwRegionIndex,
  DeviceApi,
  DeviceAttachFlag,
  type DeviceAttachIommufdPt,
  DeviceBindFlag,
  type DeviceBindIommufd,
  DeviceDetachFlag,
  type DeviceDetachIommufdPt,
  type DeviceFeature,
  type DeviceFeatureMigState,
  type DeviceGfxPlaneInfo,
  type DeviceInfo,
  DeviceInfoCap,
  DeviceInfoFlag,
  type DeviceIoeventfd,
  DirtyPagesFlag,
  DmaMapFlag,
  DmaUnmapFlag,
  deviceAttachIommufdPt,
  deviceBindIommufd,
  deviceDetachIommufdPt,
  deviceFeature,
  deviceFeatureBusMaster,
  deviceFeatureDmaBuf,
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingRange,
  deviceFeatureDmaLoggingReport,
  deviceFeatureMigDataSize,
  deviceFeatureMigration,
  deviceFeatureMigState,
  deviceGfxPlaneInfo,
  deviceInfo,
  deviceInfoCapPciAtomicComp,
  deviceIoeventfd,
  deviceLowPowerEntryWithWakeup,
  deviceMigrationInfo,
  EehPeOp,
  EehPeState,
  Extension,
  eehPeErr,
  eehPeOp,
  Feature,
  FeatureFlag,
  GfxLinkState,
  GfxPlaneType,
  type GroupStatus,
  GroupStatusFlag,
  groupStatus,
  type InfoCapHeader,
  IOMMUFD_CMD_BASE,
  IoeventfdFlag,
  IommufdRequest,
  IommuInfoCap,
  IommuInfoFlag,
  type IommuType1DirtyBitmap,
  type IommuType1DirtyBitmapGet,
  type IommuType1DmaMap,
  type IommuType1DmaUnmap,
  type IommuType1Info,
  type IrqInfo,
  IrqInfoFlag,
  type IrqSet,
  IrqSetFlag,
  infoCapHeader,
  iommuSpaprRegisterMemory,
  iommuSpaprTceCreate,
  iommuSpaprTceDdwInfo,
  iommuSpaprTceInfo,
  iommuSpaprTceRemove,
  iommuType1DirtyBitmap,
  iommuType1DirtyBitmapGet,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  iommuType1Info,
  iommuType1InfoCapIovaRange,
  iommuType1InfoCapMigration,
  iommuType1InfoDmaAvail,
  iovaRange,
  irqInfo,
  irqSet,
  MIG_STATE_NR,
  MigrationFlag,
  MigState,
  MigStateV1,
  PCI_NUM_IRQS,
  PCI_NUM_REGIONS,
  PciAtomicComp,
  type PciDependentDevice,
  PciDevid,
  type PciHotReset,
  PciHotResetFlag,
  type PciHotResetInfo,
  PciIrqIndex,
  PciRegionIndex,
  type PrecopyInfo,
  PrecopyInfoFlag,
  pciDependentDevice,
  pciHotReset,
  pciHotResetInfo,
  precopyInfo,
  type RegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  type RegionSparseMmapArea,
  RegionSubtype,
  RegionType,
  Request,
  regionDmaRange,
  regionGfxEdid,
  regionInfo,
  regionInfoCapNvlink2Lnkspd,
  regionInfoCapNvlink2Ssatgt,
  regionInfoCapSparseMmap,
  regionInfoCapType,
  regionSparseMmapArea,
  SpaprInfoFlag,
  VFIO_API_VERSION,
  VFIO_BASE,
  VFIO_TYPE,
} from './uapi/vfio.js';
export {
  DeviceInfoZpciFlag,
  deviceInfoCapZpciBase,
  deviceInfoCapZpciGroup,
  deviceInfoCapZpciPfip,
  deviceInfoCapZpciUtil,
} from './uapi/zdev.js';

// linux/iommufd.h

export {
  IommuHwCap,
  type IommuHwInfo,
  IommuHwInfoFlag,
  IommuHwInfoType,
  type IommuHwptAlloc,
  IommuHwptAllocFlag,
  IommuHwptDataType,
  IommuHwptDirtyTrackingFlag,
  IommuHwptGetDirtyBitmapFlag,
  type IommuIoasAlloc,
  type IommuIoasAllowIovas,
  type IommuIoasCopy,
  type IommuIoasIovaRanges,
  type IommuIoasMap,
  IommuIoasMapFlag,
  type IommuIoasUnmap,
  type IommuIovaRange,
  type IommuOption,
  IommuOptionId,
  IommuOptionOp,
  type IommuVfioIoas,
  IommuVfioIoasOp,
  iommuDestroy,
  iommuHwInfo,
  iommuHwptAlloc,
  iommuHwptGetDirtyBitmap,
  iommuHwptSetDirtyTracking,
  iommuIoasAlloc,
  iommuIoasAllowIovas,
  iommuIoasChangeProcess,
  iommuIoasCopy,
  iommuIoasIovaRanges,
  iommuIoasMap,
  iommuIoasMapFile,
  iommuIoasUnmap,
  iommuIovaRange,
  iommuOption,
  iommuVfioIoas,
} from './uapi/iommufd.js';
export {
  IommufdPageResponse,
  IommuHwInfoVtdFlag,
  IommuHwptInvalidateDataType,
  IommuHwQueueType,
  IommuPgfaultFlag,
  IommuPgfaultPerm,
  IommuVeventqFlag,
  IommuVeventqType,
  IommuViommuType,
  IommuVtdInvFlag,
  IommuVtdS1Flag,
  iommuFaultAlloc,
  iommufdVeventHeader,
  iommuHwInfoAmd,
  iommuHwInfoArmSmmuv3,
  iommuHwInfoTegra241Cmdqv,
  iommuHwInfoVtd,
  iommuHwptAmdGuest,
  iommuHwptArmSmmuv3,
  iommuHwptInvalidate,
  iommuHwptPageResponse,
  iommuHwptPgfault,
  iommuHwptVtdS1,
  iommuHwptVtdS1Invalidate,
  iommuHwQueueAlloc,
  iommuVdeviceAlloc,
  iommuVeventArmSmmuv3,
  iommuVeventqAlloc,
  iommuVeventTegra241Cmdqv,
  iommuViommuAlloc,
  iommuViommuArmSmmuv3Invalidate,
  iommuViommuTegra241Cmdqv,
} from './uapi/iommufd-viommu.js';

// Requests as people read them

export {
  type FieldNames,
  type UapiArgument,
  type UapiCall,
  type UapiFile,
  type UapiLayout,
  type UapiRest,
  type UapiStruct,
  uapiCall,
  uapiFile,
} from './uapi/calls.js';

// iommufd: contexts, and what drivers and VFIO itself do with them

export {
  accessAttach,
  accessCreate,
  accessDestroy,
  accessDetach,
  accessReplace,
} from './iommufd/access.js';
export { type AccessOps, IommufdAccess } from './iommufd/access-object.js';
export { accessPinPages, accessRw, accessUnpinPages } from './iommufd/access-pages.js';
export { deviceAttach, deviceDetach, deviceReplace } from './iommufd/attach.js';
export { IommufdContext } from './iommufd/context.js';
export { contextFromFd, contextFromFile, IommufdFile } from './iommufd/context-file.js';
export { ctxHasGroup, deviceBind, deviceUnbind, IommufdDevice } from './iommufd/device.js';
export { type HwInfo, Iommufd, type IommufdHardware, type IommufdOptions } from './iommufd/iommufd.js';
export { iommufdModule } from './iommufd/module.js';
export type { PinnableFile } from './iommufd/page-sources.js';
export { vfioCompatIoasCreate, vfioCompatIoasGetId, vfioCompatSetNoIommu } from './iommufd/vfio-ioas.js';

// iommufd: what drivers implement bindIommufd and its like with

export { deviceCdevOpened, iommufdDeviceIctx, iommufdGetDevId } from './iommufd-dev-id.js';
export {
  iommufdEmulatedAttachIoas,
  iommufdEmulatedBind,
  iommufdEmulatedDetachIoas,
  iommufdEmulatedUnbind,
} from './iommufd-emulated.js';
export {
  iommufdPhysicalAttachIoas,
  iommufdPhysicalBind,
  iommufdPhysicalDetachIoas,
  iommufdPhysicalPasidAttachIoas,
  iommufdPhysicalPasidDetachIoas,
  iommufdPhysicalUnbind,
} from './iommufd-physical.js';
