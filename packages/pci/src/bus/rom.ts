/*
 * The ROM of a function: its own, or the copy that the platform keeps. Images follow each other in it, and only what they fill is
 * worth reading.
 */
import { isSystemError } from '@vfio/host';
import { updateResource } from './assign-resources.js';
import { resourceAt } from './bar-sizing.js';
import { readConfigDword, writeConfigDword } from './config.js';
import type { PciWidth } from './function.js';
import type { PciDev } from './pci-dev.js';
import { BridgeReg, Reg, ResourceIndex, RomAddress } from './regs.js';
import { ResourceFlag } from './resource-tree.js';

/** A ROM that is mapped. */
export interface RomMapping extends Disposable {
  /** Bytes of the images, at most those of the BAR. */
  readonly size: number;
  read(offset: number, width: PciWidth): number;
}

/** The beginning of an image: a signature, and where its data structure is. */
const Image = { SIGNATURE: 0xaa55, DATA: 0x18 } as const;
/** The data structure of an image. */
const Data = { SIGNATURE: 0x5249_4350, LENGTH: 0x10, INDICATOR: 0x15, LAST: 0x80 } as const;
const LENGTH_UNIT = 512;

/** Reads bytes of a ROM. */
type Read = (offset: number, width: PciWidth) => number;

/**
 * Maps the ROM, switched on. Its memory has to be decoded to be read.
 *
 * @returns undefined when there is none, it has no address, no image is in it, or it can not be mapped
 * @source drivers/pci/rom.c pci_map_rom(), pci_unmap_rom()
 */
export function mapRom(pdev: PciDev): RomMapping | undefined {
  const { hw, pciHost } = pdev;
  const resource = resourceAt(pdev, ResourceIndex.ROM);
  const { size } = resource;
  const shadow = (resource.flags & ResourceFlag.ROM_SHADOW) !== 0;
  const copy = hw.platformRom;
  if (size === 0 || (shadow ? !copy : !resource.parent)) return undefined;
  if (!canMap(pdev)) return undefined;
  const read: Read =
    shadow && copy
      ? (offset, width) => fromBytes(copy, offset, width)
      : (offset, width) => hw.readBar(ResourceIndex.ROM, offset, width);
  const off = shadow ? () => {} : enableRom(pdev);
  const length = romSize(read, size);
  if (length === 0) {
    off();
    return undefined;
  }
  const tracked = pciHost.tracker.track('mapping', () => `ROM of ${pdev.name}`);
  return {
    size: length,
    read,
    [Symbol.dispose]: () => {
      tracked.release();
      off();
    },
  };
}

/** Who has no address space left for it gets none, as one whose ROM is empty. */
function canMap({ pciHost }: PciDev): boolean {
  try {
    pciHost.faults.check('pci_map_rom:mapping');
    return true;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
}

/**
 * Switches the ROM on. Its address is written again, for what has been reset may have lost it.
 *
 * @returns switches it off, unless firmware had it on
 * @source drivers/pci/rom.c pci_enable_rom(), pci_disable_rom()
 */
function enableRom(pdev: PciDev): () => void {
  const register = pdev.isBridge ? BridgeReg.ROM_ADDRESS : Reg.ROM_ADDRESS;
  updateResource(pdev, ResourceIndex.ROM);
  writeConfigDword(pdev, register, (readConfigDword(pdev, register) | RomAddress.ENABLE) >>> 0);
  const stays = (resourceAt(pdev, ResourceIndex.ROM).flags & ResourceFlag.ROM_ENABLE) !== 0;
  return () => {
    if (!stays) writeConfigDword(pdev, register, (readConfigDword(pdev, register) & ~RomAddress.ENABLE) >>> 0);
  };
}

/**
 * Bytes of all images, one behind the other.
 *
 * @returns 0 - there is none
 * @source drivers/pci/rom.c pci_get_rom_size()
 */
function romSize(read: Read, size: number): number {
  let image = 0;
  for (;;) {
    if (image + Image.DATA + 2 > size || read(image, 2) !== Image.SIGNATURE) break;
    const data = image + read(image + Image.DATA, 2);
    // The structure may stand at any byte, and cycles are aligned.
    if (data + Data.INDICATOR >= size || unaligned(read, data, 4) !== Data.SIGNATURE) break;
    const last = (read(data + Data.INDICATOR, 1) & Data.LAST) !== 0;
    const length = unaligned(read, data + Data.LENGTH, 2);
    image += length * LENGTH_UNIT;
    if (length === 0 || last) break;
  }
  return Math.min(image, size);
}

function unaligned(read: Read, offset: number, bytes: number): number {
  let value = 0;
  for (let byte = 0; byte < bytes; byte++) value |= read(offset + byte, 1) << (8 * byte);
  return value >>> 0;
}

/** Behind the copy there is nothing. */
function fromBytes(bytes: Uint8Array, offset: number, width: PciWidth): number {
  let value = 0;
  for (let byte = 0; byte < width; byte++) value |= (bytes[offset + byte] ?? 0xff) << (8 * byte);
  return value >>> 0;
}
