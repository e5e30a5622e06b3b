/*
 * Configuration accesses of drivers and of users.
 */
import type { PciWidth } from './function.js';
import type { PciDev } from './pci-dev.js';

/** One read; all ones from a function that is gone. Source: drivers/pci/access.c pci_read_config_byte() and its like */
export function readConfig(pdev: PciDev, offset: number, width: PciWidth): number {
  if (pdev.disconnected) return width === 4 ? 0xffff_ffff : width === 2 ? 0xffff : 0xff;
  return pdev.hw.readConfig(offset, width);
}

/** One write; lost by a function that is gone. Source: drivers/pci/access.c pci_write_config_byte() and its like */
export function writeConfig(pdev: PciDev, offset: number, width: PciWidth, value: number): void {
  if (!pdev.disconnected) pdev.hw.writeConfig(offset, width, value);
}

export const readConfigByte = (pdev: PciDev, offset: number): number => readConfig(pdev, offset, 1);
export const readConfigWord = (pdev: PciDev, offset: number): number => readConfig(pdev, offset, 2);
export const readConfigDword = (pdev: PciDev, offset: number): number => readConfig(pdev, offset, 4);
export const writeConfigByte = (pdev: PciDev, offset: number, value: number): void =>
  writeConfig(pdev, offset, 1, value);
export const writeConfigWord = (pdev: PciDev, offset: number, value: number): void =>
  writeConfig(pdev, offset, 2, value);
export const writeConfigDword = (pdev: PciDev, offset: number, value: number): void =>
  writeConfig(pdev, offset, 4, value);

/**
 * A read of somebody in user space, which waits while the function is being reset.
 *
 * @source drivers/pci/access.c pci_user_read_config_byte() and its like
 */
export async function userReadConfig(pdev: PciDev, offset: number, width: PciWidth): Promise<number> {
  while (pdev.cfgBlocked !== undefined) await pdev.cfgBlocked;
  return readConfig(pdev, offset, width);
}

/** As `userReadConfig`. */
export async function userWriteConfig(pdev: PciDev, offset: number, width: PciWidth, value: number): Promise<void> {
  while (pdev.cfgBlocked !== undefined) await pdev.cfgBlocked;
  writeConfig(pdev, offset, width, value);
}
