/*
 * Virtual functions: made and removed at runtime by the driver of the physical one.
 */
import type { PciDev } from './pci-dev.js';

/** What the bus keeps of a physical function. Source: drivers/pci/pci.h struct pci_sriov */
export interface SriovState {
  /** Offset of the capability. */
  readonly cap: number;
  readonly totalVfs: number;
  readonly offset: number;
  readonly stride: number;
  /** Device id of the virtual functions. */
  readonly vfDevice: number;
  numVfs: number;
  driversAutoprobe: boolean;
  readonly virtfns: PciDev[];
}

/**
 * Makes virtual functions appear, groups and drivers included.
 *
 * @throws ENOSYS - not a physical function
 * @throws EINVAL, ERANGE, EBUSY, ENOMEM, EIO
 * @source drivers/pci/iov.c pci_enable_sriov()
 */
export async function enableSriov(_pdev: PciDev, _count: number): Promise<void> {
  throw new TypeError('to come');
}

/** Source: drivers/pci/iov.c pci_disable_sriov() */
export async function disableSriov(_pdev: PciDev): Promise<void> {
  throw new TypeError('to come');
}

/** Virtual functions that are enabled. Source: drivers/pci/iov.c pci_num_vf() */
export function numVf(pdev: PciDev): number {
  return pdev.sriov?.numVfs ?? 0;
}

/** The physical function of a virtual one, else itself. Source: include/linux/pci.h pci_physfn() */
export function physfn(pdev: PciDev): PciDev {
  return pdev.physfn ?? pdev;
}
