/*
 * What the driver of a function remembers about it. One slot for each function, whichever driver has it: VFIO's PCI drivers
 * find each other's devices here.
 */
import type { PciDev } from './pci-dev.js';

/** Source: include/linux/pci.h pci_set_drvdata() */
export function setDrvdata(pdev: PciDev, data: object): void {
  pdev.pciBus.domain.type.drvdata.set(pdev, data);
}

/** Source: include/linux/pci.h pci_get_drvdata() */
export function getDrvdata(pdev: PciDev): object | undefined {
  return pdev.pciBus.domain.type.drvdata.peek(pdev);
}
