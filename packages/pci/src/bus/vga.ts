/*
 * Who decodes the legacy VGA addresses.
 */
import type { PciDev } from './pci-dev.js';

/** What a client decodes or locks. Source: include/linux/vgaarb.h */
export const VgaRsrc = { NONE: 0, LEGACY_IO: 1, LEGACY_MEM: 2, NORMAL_IO: 4, NORMAL_MEM: 8 } as const;

/**
 * Registers a driver that can give up legacy decoding.
 *
 * @param setDecode - says what the function decodes, alone or among several
 * @throws ENODEV - it is no VGA function
 * @source drivers/pci/vgaarb.c vga_client_register()
 */
export function vgaClientRegister(_pdev: PciDev, _setDecode: (single: boolean) => number): void {
  throw new TypeError('to come');
}

/** Source: drivers/pci/vgaarb.c vga_client_unregister() */
export function vgaClientUnregister(_pdev: PciDev): void {
  throw new TypeError('to come');
}

/** Source: drivers/pci/vgaarb.c vga_set_legacy_decoding() */
export function vgaSetLegacyDecoding(_pdev: PciDev, _decodes: number): void {
  throw new TypeError('to come');
}

/**
 * Routes legacy accesses to a function, and keeps them there until the returned lock is disposed of.
 *
 * @throws EINTR, EBUSY, ENODEV
 * @source drivers/pci/vgaarb.c vga_get_interruptible(), vga_put()
 */
export async function vgaGet(_pdev: PciDev, _rsrc: number): Promise<Disposable> {
  throw new TypeError('to come');
}

/** What a function decodes now, `VgaRsrc` bits; undefined for one that is no client. */
export function vgaDecodes(_pdev: PciDev): number | undefined {
  throw new TypeError('to come');
}
