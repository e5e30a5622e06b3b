/*
 * Registers of the PCI Express capability.
 */
import type { PciDev } from './pci-dev.js';

/** A 16-bit register of the capability, 0 where the function has none. Source: drivers/pci/access.c pcie_capability_read_word() */
export function pcieReadWord(_pdev: PciDev, _register: number): number {
  throw new TypeError('to come');
}

/** As `pcieReadWord`, of 32 bits. */
export function pcieReadDword(_pdev: PciDev, _register: number): number {
  throw new TypeError('to come');
}

export function pcieWriteWord(_pdev: PciDev, _register: number, _value: number): void {
  throw new TypeError('to come');
}

/** Largest read request, in bytes. Source: drivers/pci/pci.c pcie_get_readrq() */
export function pcieGetReadrq(_pdev: PciDev): number {
  throw new TypeError('to come');
}

/**
 * @param bytes - 128 to 4096, a power of two
 * @throws EINVAL
 * @source drivers/pci/pci.c pcie_set_readrq()
 */
export function pcieSetReadrq(_pdev: PciDev, _bytes: number): void {
  throw new TypeError('to come');
}

/** Largest payload, in bytes. Source: drivers/pci/pci.c pcie_get_mps() */
export function pcieGetMps(_pdev: PciDev): number {
  throw new TypeError('to come');
}

/**
 * Lets a function send atomic operations to the root, when everything on the way can do those of `capMask` (DEVCAP2 bits).
 *
 * @throws EINVAL - something on the way can not
 * @source drivers/pci/pci.c pci_enable_atomic_ops_to_root()
 */
export function enableAtomicOpsToRoot(_pdev: PciDev, _capMask: number): void {
  throw new TypeError('to come');
}
