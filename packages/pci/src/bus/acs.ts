/*
 * Access control services: what keeps requests from getting to another function without passing the IOMMU.
 */
import { findExtCapability } from './caps.js';
import { readConfigWord, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Acs, ExpType, ExtCapId } from './regs.js';

/** What keeps the functions below a port, or of a device, from each other. Source: drivers/iommu/iommu.c REQ_ACS_FLAGS */
const ISOLATION = Acs.SV | Acs.RR | Acs.CR | Acs.UF;

/**
 * Whether everything from a function up to the root isolates.
 *
 * @param flags - from what, bits of `Acs`
 * @source drivers/pci/pci.c pci_acs_path_enabled()
 */
export function acsPathEnabled(pdev: PciDev, flags: number = ISOLATION): boolean {
  for (let at: PciDev | undefined = pdev; at; at = at.pciBus.self) if (!acsEnabled(at, flags)) return false;
  return true;
}

/**
 * Whether a function keeps requests from those beside it. Single functions have nobody beside them.
 *
 * @param flags - which requests, bits of `Acs`
 * @source drivers/pci/pci.c pci_acs_enabled()
 */
export function acsEnabled(pdev: PciDev, flags: number = ISOLATION): boolean {
  if (!pdev.isPcie) return false;
  switch (pdev.pcieType) {
    case ExpType.PCIE_BRIDGE:
    case ExpType.PCI_BRIDGE:
    case ExpType.RC_EC:
      return false;
    case ExpType.ROOT_PORT:
    case ExpType.DOWNSTREAM:
      return acsFlagsEnabled(pdev, flags);
    default:
      return !pdev.multifunction || acsFlagsEnabled(pdev, flags);
  }
}

/** What hardware can not do at all need not be switched on. Source: drivers/pci/pci.c pci_acs_flags_enabled() */
function acsFlagsEnabled(pdev: PciDev, flags: number): boolean {
  const cap = findExtCapability(pdev, ExtCapId.ACS);
  if (cap === 0) return false;
  const wanted = flags & readConfigWord(pdev, cap + Acs.CAP);
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
