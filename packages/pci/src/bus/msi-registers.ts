/*
 * The registers of MSI and MSI-X: messages, masks and the bits that switch them on. Nothing here decides who has which vector.
 */
import type { MsiMessage } from '@vfio/host';
import { readConfigDword, readConfigWord, writeConfigDword, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Msi, Msix } from './regs.js';

const LOW = 0xffff_ffffn;
const QSIZE_SHIFT = 4;
const QMASK_SHIFT = 1;

/** How many vectors a function could have, as its capability says. Source: drivers/pci/msi/api.c pci_msi_vec_count() */
export function msiCount(pdev: PciDev): number {
  return 1 << ((readConfigWord(pdev, pdev.msiCap + Msi.FLAGS) & Msi.FLAGS_QMASK) >> QMASK_SHIFT);
}

/** Entries of a function's table. Source: drivers/pci/msi/msi.c pci_msix_vec_count() */
export function msixCount(pdev: PciDev): number {
  return (readConfigWord(pdev, pdev.msixCap + Msix.FLAGS) & Msix.FLAGS_QSIZE) + 1;
}

/** Changes bits of the control register of MSI. Source: drivers/pci/msi/msi.h pci_msi_set_enable() */
export function msiSetEnable(pdev: PciDev, enable: boolean): void {
  const register = pdev.msiCap + Msi.FLAGS;
  const flags = readConfigWord(pdev, register) & ~Msi.FLAGS_ENABLE;
  writeConfigWord(pdev, register, enable ? flags | Msi.FLAGS_ENABLE : flags);
}

/** Changes bits of the control register of MSI-X. Source: drivers/pci/msi/msi.h pci_msix_clear_and_set_ctrl() */
export function msixClearAndSet(pdev: PciDev, clear: number, set: number): void {
  const register = pdev.msixCap + Msix.FLAGS;
  writeConfigWord(pdev, register, (readConfigWord(pdev, register) & ~clear) | set);
}

/**
 * Writes the message of a function's block of vectors, and how large the block is.
 *
 * @param queueSize - log2 of the number of vectors
 * @source drivers/pci/msi/msi.c pci_write_msg_msi()
 */
export function writeMsiMessage(pdev: PciDev, message: MsiMessage, queueSize: number): void {
  const { msiCap } = pdev;
  const flags = readConfigWord(pdev, msiCap + Msi.FLAGS);
  writeConfigWord(pdev, msiCap + Msi.FLAGS, (flags & ~Msi.FLAGS_QSIZE) | (queueSize << QSIZE_SHIFT));
  writeConfigDword(pdev, msiCap + Msi.ADDRESS_LO, Number(message.address & LOW));
  if ((flags & Msi.FLAGS_64BIT) !== 0) {
    writeConfigDword(pdev, msiCap + Msi.ADDRESS_HI, Number(message.address >> 32n));
    writeConfigWord(pdev, msiCap + Msi.DATA_64, message.data & 0xffff);
  } else {
    writeConfigWord(pdev, msiCap + Msi.DATA_32, message.data & 0xffff);
  }
}

/** Writes the mask register, where there is one: a bit for each vector. Source: drivers/pci/msi/msi.c pci_msi_update_mask() */
export function writeMsiMask(pdev: PciDev, mask: number): void {
  const flags = readConfigWord(pdev, pdev.msiCap + Msi.FLAGS);
  if ((flags & Msi.FLAGS_MASKBIT) === 0) return;
  const register = (flags & Msi.FLAGS_64BIT) === 0 ? Msi.MASK_32 : Msi.MASK_64;
  writeConfigDword(pdev, pdev.msiCap + register, mask >>> 0);
}

/** The BAR that the table is in. */
export function msixBar(pdev: PciDev): number {
  return readConfigDword(pdev, pdev.msixCap + Msix.TABLE) & Msix.BIR_MASK;
}

/**
 * Writes the message of an entry, which is masked meanwhile: half of a message would go astray.
 *
 * @param masked - how the entry is left
 * @source drivers/pci/msi/msi.c pci_write_msg_msix()
 */
export function writeMsixMessage(pdev: PciDev, index: number, message: MsiMessage, masked: boolean): void {
  if (!masked) writeMsixMask(pdev, index, true);
  writeEntry(pdev, index, Msix.ENTRY_LOWER_ADDR, Number(message.address & LOW));
  writeEntry(pdev, index, Msix.ENTRY_UPPER_ADDR, Number(message.address >> 32n));
  writeEntry(pdev, index, Msix.ENTRY_DATA, message.data);
  if (!masked) writeMsixMask(pdev, index, false);
}

/** Writes the mask bit of an entry. Source: drivers/pci/msi/msi.h pci_msix_write_vector_ctrl() */
export function writeMsixMask(pdev: PciDev, index: number, masked: boolean): void {
  writeEntry(pdev, index, Msix.ENTRY_VECTOR_CTRL, masked ? Msix.ENTRY_CTRL_MASKBIT : 0);
}

/** Through the BAR, which must be decoded; else the write is lost as it is on hardware. */
function writeEntry(pdev: PciDev, index: number, field: number, value: number): void {
  const table = readConfigDword(pdev, pdev.msixCap + Msix.TABLE);
  const offset = (table & ~Msix.BIR_MASK) >>> 0;
  pdev.hw.writeBar(table & Msix.BIR_MASK, offset + index * Msix.ENTRY_SIZE + field, 4, value >>> 0);
}
