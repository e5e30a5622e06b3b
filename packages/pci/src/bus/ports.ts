/*
 * What a PCI Express function is in the tree of links.
 */
import { findCapability } from './caps.js';
import { readConfigDword, readConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { CapId, Exp, ExpType } from './regs.js';

/** Finds the PCI Express capability, which the size of config space depends on. Source: drivers/pci/probe.c set_pcie_port_type() */
export function setPciePortType(pdev: PciDev): void {
  pdev.pcieCap = findCapability(pdev, CapId.EXP);
  pdev.pcieFlags = pdev.pcieCap === 0 ? 0 : readConfigWord(pdev, pdev.pcieCap + Exp.FLAGS);
}

/** Whether a function is above a link: what is below it is one device. Source: include/linux/pci.h pcie_downstream_port() */
export function isDownstreamPort(pdev: PciDev): boolean {
  if (!pdev.isPcie) return false;
  return (
    pdev.pcieType === ExpType.ROOT_PORT || pdev.pcieType === ExpType.DOWNSTREAM || pdev.pcieType === ExpType.PCIE_BRIDGE
  );
}

/** Whether a bridge has a slot that devices come to and go from. Source: drivers/pci/probe.c set_pcie_hotplug_bridge() */
export function isHotplugBridge(pdev: PciDev): boolean {
  if (!isDownstreamPort(pdev) || (pdev.pcieFlags & Exp.FLAGS_SLOT) === 0) return false;
  return (readConfigDword(pdev, pdev.pcieCap + Exp.SLTCAP) & Exp.SLTCAP_HPC) !== 0;
}
