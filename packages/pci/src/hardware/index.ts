/* Public names of @vfio/pci/hardware, by room. */

export { type AssembledMachine, assembleMachine, type MachinePart } from './assemble.js';
export { Bar, type BarDevice, type BarOptions, MemoryBar, reservedBar } from './bar.js';
export { downstreamPort, EmulatedBridge, type PortOptions, pciBridge, rootPort, upstreamPort } from './bridge.js';
export { addAdvancedFeatures, attachAdvancedFeatures } from './capabilities/advanced-features.js';
export { type AttachOptions, attachCapabilities } from './capabilities/attach.js';
export { addExpress, attachExpress, type ExpressOptions } from './capabilities/express.js';
export { addMsi, Msi, type MsiOptions } from './capabilities/msi.js';
export { addMsix, Msix, type MsixOptions } from './capabilities/msix.js';
export {
  addPowerManagement,
  attachPowerManagement,
  type PowerManagementOptions,
} from './capabilities/power-management.js';
export {
  addAcs,
  addAer,
  addAri,
  addPcix,
  addSerialNumber,
  addVendorSpecific,
  attachAcs,
  attachAer,
  attachPcix,
} from './capabilities/simple.js';
export { addSriov, type MakeVf, SriovCapability, type SriovOptions, type VfBar } from './capabilities/sriov.js';
export { addVpd, attachVpd } from './capabilities/vital-product-data.js';
export { type CapabilityAt, CapabilityList } from './capability-list.js';
export { type ConfigHook, ConfigSpace } from './config-space.js';
export { EDU_BUFFER, Edu, EduDevice, EduDma, type EduOptions, EduReg, EduStatus } from './edu.js';
export { assignAddresses, assignFirmware } from './firmware.js';
export { EmulatedFunction, type FunctionOptions, type LegacyDevice, type ResetKind } from './function.js';
export type { FunctionDma } from './function-dma.js';
export { Ioat, type IoatOptions } from './ioat.js';
export { type ChannelPort, IoatChannel } from './ioat-channel.js';
export {
  ChannelCommand,
  ChannelControl,
  ChannelError,
  ChannelReg,
  ChannelState,
  Descriptor,
  IoatCap,
  IoatConfig,
  IoatIrq,
  IoatReg,
  Operation,
} from './ioat-registers.js';
export { Later } from './later.js';
export { isLspci, type LspciOptions, parseLspci } from './lspci.js';
export type { BarText, SizeOverrides } from './lspci-bars.js';
export { modelFor } from './models/index.js';
export { type DeviceModel, type MakeModel, type ModelContext, RegisterBar } from './models/model.js';
export { placeOpRegion } from './opregion.js';
export type { FunctionRecord, RecordedBar, RecordedContents, RecordedWrites } from './record.js';
export { type RecordedMachineOptions, recordedMachine, recordedParts } from './recorded.js';
export { type RecordedOptions, recordedFunction } from './recorded-function.js';
export { parseContents, parseRecording } from './recording.js';
export { EmulatedRoot, type RootOptions } from './root.js';
export { EmulatedSegment } from './segment.js';
export { VirtualFunction } from './virtual-function.js';
