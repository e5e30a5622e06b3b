/*
 * Vital product data.
 */
import type { PciDev } from './pci-dev.js';

/**
 * Reads bytes of the vital product data.
 *
 * @throws ENODEV - it has none
 * @throws EIO, ETIMEDOUT - the function does not answer
 * @source drivers/pci/vpd.c pci_read_vpd()
 */
export async function readVpd(_pdev: PciDev, _position: number, _into: Uint8Array): Promise<number> {
  throw new TypeError('to come');
}

/** As `readVpd`. Source: drivers/pci/vpd.c pci_write_vpd() */
export async function writeVpd(_pdev: PciDev, _position: number, _from: Uint8Array): Promise<number> {
  throw new TypeError('to come');
}
