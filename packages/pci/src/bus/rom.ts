/*
 * The ROM of a function: its own, or the copy that the platform keeps.
 */
import type { PciWidth } from './function.js';
import type { PciDev } from './pci-dev.js';

/** A ROM that is mapped. */
export interface RomMapping extends Disposable {
  /** Bytes of the image, at most those of the BAR. */
  readonly size: number;
  read(offset: number, width: PciWidth): number;
}

/**
 * Maps the ROM, switched on.
 *
 * @returns undefined when there is none, or it can not be mapped
 * @source drivers/pci/rom.c pci_map_rom()
 */
export function mapRom(_pdev: PciDev): RomMapping | undefined {
  throw new TypeError('to come');
}
