/*
 * Permissions of registers, bit by bit. A virtual bit is read from and written to the user's copy, any other is the hardware's; a
 * bit that is not writable stays as it is.
 */
import type { PciWidth } from '../../bus/function.js';
import { ConfigBytes, ONES } from './config-bytes.js';

/** All bits of a register, or none. */
export const ALL = 'all';
export const NONE = 0;

/** Bits of one register: those given, `ALL`, or `NONE`. */
export type Bits = number | typeof ALL;

/** Offset in the capability, bytes, virtual bits, writable bits. */
export type PermRow = readonly [offset: number, width: PciWidth, virt: Bits, write: Bits];

/**
 * The permissions of one capability, by byte.
 *
 * @source drivers/vfio/pci/vfio_pci_config.c struct perm_bits
 */
export interface PermBits {
  readonly virt: Uint8Array;
  readonly write: Uint8Array;
}

/** What no capability has listed: the hardware's, and read-only. Source: vfio_pci_config.c alloc_perm_bits() */
export function permBits(size: number, rows: readonly PermRow[]): PermBits {
  const virt = new ConfigBytes(size);
  const write = new ConfigBytes(size);
  for (const [offset, width, virtBits, writeBits] of rows) {
    virt.set(offset, width, virtBits === ALL ? ONES[width] : virtBits);
    write.set(offset, width, writeBits === ALL ? ONES[width] : writeBits);
  }
  return { virt: virt.bytes, write: write.bytes };
}
