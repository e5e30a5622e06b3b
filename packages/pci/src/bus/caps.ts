/*
 * Finding capabilities.
 */
import { readConfigByte, readConfigDword, readConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { CFG_SPACE_EXP_SIZE, CFG_SPACE_SIZE, Reg, STD_HEADER_SIZE, Status } from './regs.js';

/** A list with more entries than fit the space is a loop. */
const STD_STEPS = (CFG_SPACE_SIZE - STD_HEADER_SIZE) / 4;
const EXT_STEPS = (CFG_SPACE_EXP_SIZE - CFG_SPACE_SIZE) / 8;
/** What a function that is gone reads as. */
const GONE = 0xff;

/** Offset of a capability, or 0. Source: drivers/pci/pci.c pci_find_capability() */
export function findCapability(pdev: PciDev, id: number): number {
  const status = readConfigWord(pdev, Reg.STATUS);
  return (status & Status.CAP_LIST) === 0 ? 0 : search(pdev, Reg.CAPABILITY_LIST, id);
}

/** Offset of the next capability of that kind behind one, or 0. Source: drivers/pci/pci.c pci_find_next_capability() */
export function findNextCapability(pdev: PciDev, after: number, id: number): number {
  return search(pdev, after + 1, id);
}

/** Offset of an extended capability, or 0. Source: drivers/pci/pci.c pci_find_ext_capability() */
export function findExtCapability(pdev: PciDev, id: number): number {
  if (pdev.cfgSize <= CFG_SPACE_SIZE) return 0;
  let at = CFG_SPACE_SIZE;
  for (let step = 0; step < EXT_STEPS && at >= CFG_SPACE_SIZE; step++) {
    const header = readConfigDword(pdev, at);
    if (header === 0 || header === 0xffff_ffff) return 0;
    if ((header & 0xffff) === id) return at;
    at = (header >>> 20) & ~3;
  }
  return 0;
}

/** Follows the list from the byte that points to its next entry. */
function search(pdev: PciDev, pointer: number, id: number): number {
  let at = readConfigByte(pdev, pointer) & ~3;
  for (let step = 0; step < STD_STEPS && at >= STD_HEADER_SIZE; step++) {
    const entry = readConfigWord(pdev, at);
    if ((entry & 0xff) === GONE) return 0;
    if ((entry & 0xff) === id) return at;
    at = (entry >> 8) & ~3;
  }
  return 0;
}
