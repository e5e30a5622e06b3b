/*
 * The interrupt pin, masked by the command register.
 */
import { readConfigDword, readConfigWord, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { Command, Reg, Status } from './regs.js';

/** Clears or sets the disable bit. Source: drivers/pci/pci.c pci_intx() */
export function intx(pdev: PciDev, enable: boolean): void {
  setDisable(pdev, readConfigWord(pdev, Reg.COMMAND), !enable);
}

/** Whether the pin can be masked by the disable bit. Source: include/linux/pci.h pci_intx_mask_supported() */
export function intxMaskSupported(pdev: PciDev): boolean {
  return !pdev.brokenIntxMasking && pdev.pin !== 0;
}

/**
 * Masks the pin if the function asserts it.
 *
 * @returns whether it does
 * @source drivers/pci/irq.c pci_check_and_mask_intx()
 */
export function checkAndMaskIntx(pdev: PciDev): boolean {
  return checkAndSetMask(pdev, true);
}

/**
 * Unmasks the pin unless the function asserts it.
 *
 * @returns whether it is unmasked
 * @source drivers/pci/irq.c pci_check_and_unmask_intx()
 */
export function checkAndUnmaskIntx(pdev: PciDev): boolean {
  return checkAndSetMask(pdev, false);
}

/** Command and status are read in one cycle: what is pending is known as of the mask. Source: pci_check_and_set_intx_mask() */
function checkAndSetMask(pdev: PciDev, mask: boolean): boolean {
  const both = readConfigDword(pdev, Reg.COMMAND);
  const pending = ((both >>> 16) & Status.INTERRUPT) !== 0;
  if (pending !== mask) return false;
  setDisable(pdev, both & 0xffff, mask);
  return true;
}

function setDisable(pdev: PciDev, command: number, disable: boolean): void {
  const wanted = disable ? command | Command.INTX_DISABLE : command & ~Command.INTX_DISABLE;
  if (wanted !== command) writeConfigWord(pdev, Reg.COMMAND, wanted);
}
