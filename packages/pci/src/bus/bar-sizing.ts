/*
 * How large BARs are, and where firmware has put them: each is written with ones, which only its address bits keep, and
 * gets back what it had. Nothing is decoded meanwhile, as the function would answer at odd addresses.
 */
import { readConfigDword, readConfigWord, writeConfigDword, writeConfigWord } from './config.js';
import type { PciDev } from './pci-dev.js';
import { BaseAddress, Command, Reg, ResourceIndex, RomAddress } from './regs.js';
import { type Resource, ResourceFlag } from './resource-tree.js';

const ONES = 0xffff_ffff;

/**
 * Sizes the BARs and the ROM of a function.
 *
 * @param count - BARs of its kind of header
 * @param romRegister - where its ROM BAR is, if its kind of header has one
 * @source drivers/pci/probe.c pci_read_bases()
 */
export function readBases(pdev: PciDev, count: number, romRegister?: number): void {
  const command = readConfigWord(pdev, Reg.COMMAND);
  const decoding = (command & (Command.IO | Command.MEMORY)) !== 0;
  if (decoding) writeConfigWord(pdev, Reg.COMMAND, command & ~(Command.IO | Command.MEMORY));
  for (let index = 0; index < count; index++) {
    if (readBase(pdev, index, Reg.BASE_ADDRESS_0 + 4 * index)) index++;
  }
  if (romRegister !== undefined) readRomBase(pdev, romRegister);
  if (decoding) writeConfigWord(pdev, Reg.COMMAND, command);
}

/**
 * Sizes one BAR and fills its resource.
 *
 * @param register - offset of the BAR, in the header or in a capability
 * @returns whether it takes the next BAR for its upper half
 * @source drivers/pci/probe.c __pci_read_base()
 */
export function readBase(pdev: PciDev, index: number, register: number): boolean {
  const resource = resourceAt(pdev, index);
  const [value, ones] = probe(pdev, register, ONES);
  if (ones === 0 || ones === ONES) return false;
  if ((value & BaseAddress.SPACE_IO) !== 0) {
    const flags = ResourceFlag.IO | ResourceFlag.SIZEALIGN | BaseAddress.SPACE_IO;
    setRange(resource, value & ~0x3, sizeOf(BigInt((ones & ~0x3 & 0xffff) >>> 0)), flags);
    return false;
  }
  const wide = (value & BaseAddress.MEM_TYPE_MASK) === BaseAddress.MEM_TYPE_64;
  const [high, highOnes] = wide ? probe(pdev, register + 4, ONES) : [0, 0];
  const bits = (value & ~BaseAddress.MEM_MASK) >>> 0;
  const flags =
    ResourceFlag.MEM |
    ResourceFlag.SIZEALIGN |
    bits |
    (wide ? ResourceFlag.MEM_64 : 0) |
    ((bits & BaseAddress.MEM_PREFETCH) !== 0 ? ResourceFlag.PREFETCH : 0);
  const mask = (BigInt(highOnes >>> 0) << 32n) | BigInt((ones & BaseAddress.MEM_MASK) >>> 0);
  setRange(resource, high * 2 ** 32 + ((value & BaseAddress.MEM_MASK) >>> 0), sizeOf(mask), flags);
  return wide;
}

/** The ROM BAR, which is left as it is: off, or on as firmware had it. */
function readRomBase(pdev: PciDev, register: number): void {
  const [value, ones] = probe(pdev, register, RomAddress.MASK);
  const size = sizeOf(BigInt((ones & RomAddress.MASK) >>> 0));
  const flags = ResourceFlag.MEM | ResourceFlag.PREFETCH | ResourceFlag.READONLY | ResourceFlag.SIZEALIGN;
  const enabled = (value & RomAddress.ENABLE) !== 0 ? ResourceFlag.ROM_ENABLE : 0;
  if (ones !== ONES)
    setRange(resourceAt(pdev, ResourceIndex.ROM), (value & RomAddress.MASK) >>> 0, size, flags | enabled);
}

/** What a register has, and what it has after ones were written to it; it has the first again. */
function probe(pdev: PciDev, register: number, ones: number): readonly [number, number] {
  const value = readConfigDword(pdev, register) >>> 0;
  writeConfigDword(pdev, register, ones >>> 0);
  const seen = readConfigDword(pdev, register) >>> 0;
  writeConfigDword(pdev, register, value);
  return [value, seen];
}

/** The lowest address bit is the size. */
function sizeOf(mask: bigint): number {
  return Number(mask & -mask);
}

function setRange(resource: Resource, start: number, size: number, flags: number): void {
  if (size === 0) return;
  resource.start = start;
  resource.end = start + size - 1;
  resource.flags = flags;
}

/** The resource of a function at an index. */
export function resourceAt(pdev: PciDev, index: number): Resource {
  const resource = pdev.resource[index];
  if (!resource) throw new RangeError(`a function has no resource ${index}`);
  return resource;
}
