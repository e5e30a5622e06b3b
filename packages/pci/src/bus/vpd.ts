/*
 * Vital product data: a memory behind two registers of a capability, four bytes at a time.
 *
 * Differs: hardware is done with an access at once; what is not done then never will be.
 */
import { SystemError } from '@vfio/host';
import { findCapability } from './caps.js';
import { readConfigDword, readConfigWord, writeConfigDword, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { CapId, Vpd } from './regs.js';

/** As much as the address register can reach. */
export const VPD_MAX_SIZE = Vpd.ADDR_MASK + 1;
/** The tag of a resource: small ones have their length in it, large ones in the two bytes behind. */
const Tag = { LARGE: 0x80, SMALL_MASK: 0x78, SMALL_LENGTH: 0x07, END: 0x78 } as const;

/**
 * Reads bytes of the vital product data.
 *
 * @returns how many there are, 0 at its end
 * @throws ENODEV - it has none
 * @throws EINVAL - a position below 0
 * @throws EIO - what is there is no vital product data
 * @throws ETIMEDOUT - the function does not answer
 * @source drivers/pci/vpd.c pci_read_vpd()
 */
export async function readVpd(pdev: PciDev, position: number, into: Uint8Array): Promise<number> {
  const cap = capability(pdev, position);
  const size = usedSize(pdev, cap);
  if (size === 0) throw failure('EIO', pdev, 'no vital product data');
  return readBytes(pdev, cap, position, into, size);
}

/**
 * As `readVpd`, in words of four bytes.
 *
 * @throws EINVAL - position or length is no multiple of 4, or beyond the end
 * @source drivers/pci/vpd.c pci_write_vpd()
 */
export async function writeVpd(pdev: PciDev, position: number, from: Uint8Array): Promise<number> {
  const cap = capability(pdev, position);
  if (position % 4 !== 0 || from.length % 4 !== 0) throw failure('EINVAL', pdev, 'not in words');
  const size = usedSize(pdev, cap);
  if (size === 0) throw failure('EIO', pdev, 'no vital product data');
  if (position + from.length > size) throw failure('EINVAL', pdev, `beyond its ${size} bytes`);
  for (let done = 0; done < from.length; done += 4)
    writeWord(pdev, cap, position + done, from.subarray(done, done + 4));
  return from.length;
}

/** Whether a function has the capability. */
export function hasVpd(pdev: PciDev): boolean {
  return findCapability(pdev, CapId.VPD) !== 0;
}

/**
 * Follows the resources up to the tag that ends them, or to what makes no sense.
 *
 * @returns 0 - nothing does
 * @source drivers/pci/vpd.c pci_vpd_size()
 */
function usedSize(pdev: PciDev, cap: number): number {
  const header = new Uint8Array(3);
  let at = 0;
  while (at < VPD_MAX_SIZE) {
    readBytes(pdev, cap, at, header, VPD_MAX_SIZE);
    const [tag = 0, low = 0, high = 0] = header;
    // What was never written to, or does not answer.
    if (at === 0 && (tag === 0 || tag === 0xff)) return 0;
    const large = (tag & Tag.LARGE) !== 0;
    const length = large ? 3 + (low | (high << 8)) : 1 + (tag & Tag.SMALL_LENGTH);
    if (at + length > VPD_MAX_SIZE) return at;
    at += length;
    if (!large && (tag & Tag.SMALL_MASK) === Tag.END) return at;
  }
  return at;
}

function readBytes(pdev: PciDev, cap: number, position: number, into: Uint8Array, size: number): number {
  const count = Math.max(0, Math.min(into.length, size - position));
  for (let done = 0; done < count; ) {
    const at = position + done;
    const value = readWord(pdev, cap, at & ~3);
    for (let byte = at & 3; byte < 4 && done < count; byte++) into[done++] = value >>> (8 * byte);
  }
  return count;
}

/** The flag that software clears is set by the function when the data are there. */
function readWord(pdev: PciDev, cap: number, address: number): number {
  writeConfigWord(pdev, cap + Vpd.ADDR, address);
  wait(pdev, cap, Vpd.ADDR_F);
  return readConfigDword(pdev, cap + Vpd.DATA);
}

/** The flag that software sets is cleared by the function when the data are stored. */
function writeWord(pdev: PciDev, cap: number, address: number, bytes: Uint8Array): void {
  const [a = 0, b = 0, c = 0, d = 0] = bytes;
  writeConfigDword(pdev, cap + Vpd.DATA, (a | (b << 8) | (c << 16) | (d << 24)) >>> 0);
  writeConfigWord(pdev, cap + Vpd.ADDR, address | Vpd.ADDR_F);
  wait(pdev, cap, 0);
}

/** Source: drivers/pci/vpd.c pci_vpd_wait() */
function wait(pdev: PciDev, cap: number, flag: number): void {
  if ((readConfigWord(pdev, cap + Vpd.ADDR) & Vpd.ADDR_F) === flag) return;
  pdev.pciHost.log.warn('VPD access failed.  This is likely a firmware bug on this device.', `pci ${pdev.name}`);
  throw failure('ETIMEDOUT', pdev, 'it does not answer');
}

function capability(pdev: PciDev, position: number): number {
  const cap = findCapability(pdev, CapId.VPD);
  if (cap === 0) throw failure('ENODEV', pdev, 'no vital product data');
  if (position < 0) throw failure('EINVAL', pdev, `position ${position}`);
  return cap;
}

function failure(code: 'ENODEV' | 'EINVAL' | 'EIO' | 'ETIMEDOUT', pdev: PciDev, reason: string): SystemError {
  return new SystemError(code, reason, { syscall: 'pci_read_vpd', subject: pdev.name });
}
