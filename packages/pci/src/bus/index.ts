/* Public names of @vfio/pci/bus, by room. */

export { type AerState, doRecovery } from './aer.js';
export { PciBusType, pciInit } from './bus-type.js';
export { findCapability, findExtCapability, findNextCapability } from './caps.js';
export * from './config.js';
export { getDrvdata, setDrvdata } from './drvdata.js';
export { clearMaster, disableDevice, enableDevice, setMaster } from './enable.js';
export type { PciFunction, PciPort, PciRoot, PciSegment, PciWidth, PciWindow } from './function.js';
export { rescanBus, stopAndRemoveBusDevice, surpriseRemove } from './hotplug.js';
export { checkAndMaskIntx, checkAndUnmaskIntx, intx, intxMaskSupported } from './intx.js';
export * from './msi.js';
export { type HotplugSlot, PciBus, PciSlot } from './pci-bus.js';
export { isPciDev, PciDev } from './pci-dev.js';
export type { PciDomain } from './pci-domain.js';
export * from './pci-driver.js';
export * from './pcie.js';
export { PowerState, setPowerState } from './power.js';
export * from './regs.js';
export * from './reset.js';
export { Resource, ResourceTree } from './resource-tree.js';
export * from './resources.js';
export { mapRom, type RomMapping } from './rom.js';
export * from './sriov.js';
export { loadSavedState, restoreState, type StoredState, saveState, storeSavedState } from './state.js';
export * from './vga.js';
export { readVpd, writeVpd } from './vpd.js';
