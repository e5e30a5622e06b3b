/* Public names of @vfio/pci/bus, by room. */

export { acsEnabled } from './acs.js';
export { reportError } from './aer.js';
export { doRecovery } from './aer-recovery.js';
export type { AerSeverity, AerState } from './aer-state.js';
export { busAddDevice, busAddDevices } from './bus-add.js';
export { PciBusType, pciInit } from './bus-type.js';
export { findCapability, findExtCapability, findNextCapability } from './caps.js';
export {
  readConfig,
  readConfigByte,
  readConfigDword,
  readConfigWord,
  userReadConfig,
  userWriteConfig,
  writeConfig,
  writeConfigByte,
  writeConfigDword,
  writeConfigWord,
} from './config.js';
export { getDrvdata, setDrvdata } from './drvdata.js';
export { clearMaster, disableDevice, enableDevice, setMaster } from './enable.js';
export type { PciFunction, PciPort, PciRoot, PciSegment, PciWidth, PciWindow } from './function.js';
export { removeBusDevice, rescanBus, stopAndRemoveBusDevice, surpriseRemove } from './hotplug.js';
export { addIdsParam } from './ids-param.js';
export { checkAndMaskIntx, checkAndUnmaskIntx, intx, intxMaskSupported } from './intx.js';
export { numVf, physfn, type SriovState } from './iov.js';
export {
  allocIrqVectors,
  freeIrqVectors,
  type IrqType,
  irqVector,
  type MsiState,
  msixAllocIrqAt,
  msixCanAllocDyn,
  restoreMsiMessage,
  vectorCount,
} from './msi.js';
export { type HotplugSlot, PciBus, PciSlot } from './pci-bus.js';
export { isPciDev, PciDev } from './pci-dev.js';
export { PciDomain } from './pci-domain.js';
export {
  addDynid,
  type ChannelState,
  type ErsResult,
  matchDevice,
  PCI_ANY_ID,
  type PciDeviceId,
  PciDriver,
  type PciDriverOptions,
  type PciErrorHandlers,
  pciDriverOf,
  registerDriver,
  removeDynid,
  unregisterDriver,
} from './pci-driver.js';
export {
  enableAtomicOpsToRoot,
  pcieGetMps,
  pcieGetReadrq,
  pcieReadDword,
  pcieReadWord,
  pcieSetReadrq,
  pcieWriteWord,
} from './pcie.js';
export { setPowerState } from './power.js';
export { PowerState, powerName } from './power-state.js';
export {
  Acs,
  Af,
  Ari,
  BaseAddress,
  BridgeControl,
  BridgeReg,
  CapId,
  CFG_SPACE_EXP_SIZE,
  CFG_SPACE_SIZE,
  Command,
  devfnOf,
  Err,
  Exp,
  ExpType,
  ExtCapId,
  funcOf,
  HeaderType,
  Msi,
  Msix,
  PciClass,
  Pcix,
  Pm,
  pciName,
  Reg,
  ResourceIndex,
  RomAddress,
  Sriov,
  STD_HEADER_SIZE,
  Status,
  slotOf,
  Vpd,
} from './regs.js';
export {
  devLock,
  devTrylock,
  probeResetBus,
  probeResetSlot,
  resetBus,
  resetFunction,
  tryResetFunction,
  upstreamBridge,
} from './reset.js';
export {
  bridgeSecondaryBusReset,
  initResetMethods,
  type ResetMethod,
  resetFunctionLocked,
  resetMethodNames,
  type SpecificReset,
} from './reset-methods.js';
export { Resource, ResourceFlag, ResourceTree } from './resource-tree.js';
export {
  type BarMapping,
  iomap,
  releaseSelectedRegions,
  requestSelectedRegions,
  resourceFlags,
  resourceLen,
  resourceStart,
} from './resources.js';
export { mapRom, type RomMapping } from './rom.js';
export { disableSriov, enableSriov, sriovConfigureSimple } from './sriov.js';
export { loadSavedState, restoreState, type StoredState, saveState, storeSavedState } from './state.js';
export { VgaRsrc, vgaClientRegister, vgaClientUnregister, vgaDecodes, vgaGet, vgaSetLegacyDecoding } from './vga.js';
export { readVpd, writeVpd } from './vpd.js';
