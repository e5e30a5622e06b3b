/*
 * IOMMU groups, as the topology makes them: functions whose requests look alike to the IOMMU, or that can reach each other
 * without passing it, are in one.
 */
import type { IommuGroup, PasidSupport, ProbeOptions } from '@vfio/host';
import { findExtCapability } from './caps.js';
import { readConfigWord, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Acs, ExpType, ExtCapId, slotOf } from './regs.js';

/** What keeps the functions below a port, or of a device, from each other. Source: drivers/iommu/iommu.c REQ_ACS_FLAGS */
const ISOLATION = Acs.SV | Acs.RR | Acs.CR | Acs.UF;
/** PASID capability. Source: include/uapi/linux/pci_regs.h PCI_PASID_CAP */
const PASID_CAP = 4;
const PASID_WIDTH = 0x1f00;

/** How a function sits behind the IOMMU; undefined in a machine without. */
export function iommuPlace(pdev: PciDev): ProbeOptions | undefined {
  if (!pdev.pciHost.iommu.present) return undefined;
  const group = pciDeviceGroup(pdev);
  const pasids = pasidSupport(pdev);
  return { ...(group ? { group } : {}), ...(pasids ? { pasids } : {}) };
}

/**
 * The group that a function has to join; undefined when it can have one of its own.
 *
 * @source drivers/iommu/iommu.c pci_device_group()
 */
export function pciDeviceGroup(pdev: PciDev): IommuGroup | undefined {
  let at = pdev;
  // Where requests get another name, everything behind is one to the IOMMU.
  for (const alias of dmaAliases(pdev)) {
    at = alias;
    if (alias.iommuGroup) return alias.iommuGroup;
  }
  for (let bridge = at.pciBus.self; bridge && !acsPathEnabled(bridge); bridge = at.pciBus.self) {
    at = bridge;
    if (at.iommuGroup) return at.iommuGroup;
  }
  return functionGroup(at);
}

/** The bridges that put their own name on a function's requests. Source: drivers/pci/search.c pci_for_each_dma_alias() */
function dmaAliases(pdev: PciDev): PciDev[] {
  const aliases: PciDev[] = [];
  for (let bridge = pdev.pciBus.self; bridge; bridge = bridge.pciBus.self) {
    const { ROOT_PORT, UPSTREAM, DOWNSTREAM } = ExpType;
    const passes = [ROOT_PORT, UPSTREAM, DOWNSTREAM].some((type) => bridge?.pcieType === type);
    if (!bridge.isPcie || !passes) aliases.push(bridge);
  }
  return aliases;
}

/** The group of another function in the same slot that nothing isolates. Source: get_pci_function_alias_group() */
function functionGroup(pdev: PciDev): IommuGroup | undefined {
  if (!pdev.multifunction || acsEnabled(pdev)) return undefined;
  const slot = slotOf(pdev.devfn);
  const other = pdev.pciBus.devices.find(
    (dev) => dev !== pdev && slotOf(dev.devfn) === slot && dev.iommuGroup && !acsEnabled(dev),
  );
  return other?.iommuGroup;
}

/** Whether everything from a port up to the root isolates. Source: drivers/pci/pci.c pci_acs_path_enabled() */
function acsPathEnabled(port: PciDev): boolean {
  for (let at: PciDev | undefined = port; at; at = at.pciBus.self) if (!acsEnabled(at)) return false;
  return true;
}

/**
 * Whether a function keeps requests from those beside it. Single functions have nobody beside them.
 *
 * @source drivers/pci/pci.c pci_acs_enabled()
 */
export function acsEnabled(pdev: PciDev): boolean {
  if (!pdev.isPcie) return false;
  switch (pdev.pcieType) {
    case ExpType.PCIE_BRIDGE:
    case ExpType.PCI_BRIDGE:
    case ExpType.RC_EC:
      return false;
    case ExpType.ROOT_PORT:
    case ExpType.DOWNSTREAM:
      return acsFlagsEnabled(pdev);
    default:
      return !pdev.multifunction || acsFlagsEnabled(pdev);
  }
}

/** What hardware can not do at all need not be switched on. Source: drivers/pci/pci.c pci_acs_flags_enabled() */
function acsFlagsEnabled(pdev: PciDev): boolean {
  const cap = findExtCapability(pdev, ExtCapId.ACS);
  if (cap === 0) return false;
  const wanted = ISOLATION & readConfigWord(pdev, cap + Acs.CAP);
  return (readConfigWord(pdev, cap + Acs.CTRL) & wanted) === wanted;
}

/** Switches isolation on, in a machine with an IOMMU that makes use of it. Source: drivers/pci/pci.c pci_enable_acs() */
export function enableAcs(pdev: PciDev): void {
  if (!pdev.pciHost.iommu.present) return;
  const cap = findExtCapability(pdev, ExtCapId.ACS);
  if (cap === 0) return;
  const control = readConfigWord(pdev, cap + Acs.CTRL);
  writeConfigWord(pdev, cap + Acs.CTRL, control | (readConfigWord(pdev, cap + Acs.CAP) & ISOLATION));
}

function pasidSupport(pdev: PciDev): Partial<PasidSupport> | undefined {
  const cap = findExtCapability(pdev, ExtCapId.PASID);
  if (cap === 0) return undefined;
  return { max: 2 ** ((readConfigWord(pdev, cap + PASID_CAP) & PASID_WIDTH) >> 8) };
}
