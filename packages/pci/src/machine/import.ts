/*
 * What `lspci -xxxx` printed, as a section that has all of it in the file.
 */
import type { ImportedMachine } from '@vfio/core';
import { HeaderType, Reg } from '../bus/regs.js';
import { isLspci, parseLspci } from '../hardware/lspci.js';
import type { FunctionRecord, RecordedBar } from '../hardware/record.js';
import { isVirtual } from '../hardware/recorded-function.js';
import { textOfConfig } from './config-text.js';
import { enabledVfs } from './hardware.js';
import { nameOf } from './known.js';
import type { FunctionSection, PciSection } from './section.js';
import { type ByteSize, sizeText } from './sizes.js';

const DRIVER = 'vfio-pci';

/**
 * Makes a section of a dump. All functions that are no bridges are vfio-pci's there.
 *
 * @returns undefined for what is no dump
 * @throws SyntaxError - the dump is broken; the message begins with the line
 */
export function importLspci(text: string): ImportedMachine<PciSection> | undefined {
  if (!isLspci(text)) return undefined;
  const records = parseLspci(text);
  const functions = Object.fromEntries(records.map((record) => [nameOf(record), functionSection(record)]));
  return { section: { functions, bind: { [DRIVER]: 'all' } }, modules: [DRIVER] };
}

function functionSection(record: FunctionRecord): FunctionSection {
  const { config, description, bars, romSize, vfBars } = record;
  const numVfs = enabledVfs(record);
  const hasBars = !isVirtual(record) && bars.length > 0;
  return {
    ...(description === undefined ? {} : { description }),
    ...(numVfs > 0 ? { numVfs } : {}),
    ...(hasBars ? { bars: sizesOf(bars) } : {}),
    ...(romSize > 0 && headerOf(config) !== HeaderType.CARDBUS ? { rom: sizeText(romSize) } : {}),
    ...(vfBars.length > 0 ? { vfBars: sizesOf(vfBars) } : {}),
    config: textOfConfig(config),
  };
}

function sizesOf(bars: readonly RecordedBar[]): Record<string, ByteSize> {
  return Object.fromEntries(bars.map(({ index, size }) => [index, sizeText(size)]));
}

function headerOf(config: Uint8Array): number {
  return (config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
}
