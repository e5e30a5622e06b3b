/*
 * What enumeration learns of a function's capabilities, before the function is on its bus.
 */
import { enableAcs } from './acs.js';
import { aerInit } from './aer-state.js';
import { findCapability, findExtCapability } from './caps.js';
import { readConfigDword, readConfigWord, writeConfigWord } from './config.js';
import { iovInit } from './iov.js';
import type { PciDev } from './pci-dev.js';
import { updateCurrentState, wakeupInit } from './power.js';
import { CapId, Exp, ExtCapId } from './regs.js';
import { initResetMethods } from './reset-methods.js';

/**
 * Finds the capabilities that the bus itself works with.
 *
 * @source drivers/pci/probe.c pci_init_capabilities()
 */
export function initCapabilities(pdev: PciDev): void {
  pdev.msiCap = findCapability(pdev, CapId.MSI);
  pdev.msixCap = findCapability(pdev, CapId.MSIX);
  pdev.pmCap = findCapability(pdev, CapId.PM);
  wakeupInit(pdev);
  pdev.afCap = findCapability(pdev, CapId.AF);
  updateCurrentState(pdev);
  configureAri(pdev);
  iovInit(pdev);
  enableAcs(pdev);
  aerInit(pdev);
  initResetMethods(pdev);
}

/**
 * Has the port above a link route by function number alone when the first function below says that it understands that.
 *
 * @source drivers/pci/pci.c pci_configure_ari()
 */
function configureAri(pdev: PciDev): void {
  const { pciBus } = pdev;
  const bridge = pciBus.self;
  if (!pdev.isPcie || pdev.devfn !== 0 || !bridge?.isPcie) return;
  if ((readConfigDword(bridge, bridge.pcieCap + Exp.DEVCAP2) & Exp.DEVCAP2_ARI) === 0) return;
  const register = bridge.pcieCap + Exp.DEVCTL2;
  const control = readConfigWord(bridge, register);
  pciBus.ariEnabled = findExtCapability(pdev, ExtCapId.ARI) !== 0;
  writeConfigWord(bridge, register, pciBus.ariEnabled ? control | Exp.DEVCTL2_ARI : control & ~Exp.DEVCTL2_ARI);
}
