/*
 * What the host bridges of a recorded machine pass on: the addresses that its functions have. Machines whose host bridges show the same
 * addresses to processors and functions have them apart; on others each gets a part of them, and functions are placed anew.
 */
import type { PciWindow } from '../bus/function.js';
import { BridgeReg, HeaderType, Reg } from '../bus/regs.js';
import { bridgeWindows, dword } from './raw-config.js';
import type { FunctionRecord } from './record.js';

const MB = 0x10_0000;
const FOUR_GB = 2 ** 32;
const LIMIT = 2 ** 46;
const LOW: PciWindow = { start: 0xc000_0000, end: 0xfebf_ffff };
const HIGH_START = 0x80_0000_0000;
const HIGH_PART = 0x40_0000_0000;
const IO_END = 0xffff;
const GRANULE = 0x100_0000;

/** Memory that the functions of one root bus have, by megabytes. */
export function memoryOf(records: readonly FunctionRecord[]): PciWindow[] {
  const ranges = records.flatMap((record) => [...barRanges(record), ...bridgeWindows(record.config)]);
  const rounded = ranges
    .filter(({ start, end }) => start >= MB && end < LIMIT && end > start)
    .map(({ start, end }) => ({ start: Math.floor(start / MB) * MB, end: Math.ceil((end + 1) / MB) * MB - 1 }))
    .sort((a, b) => a.start - b.start);
  const merged: { start: number; end: number }[] = [];
  for (const range of rounded) {
    const last = merged.at(-1);
    if (last && range.start <= last.end + 1) last.end = Math.max(last.end, range.end);
    else merged.push({ ...range });
  }
  return merged;
}

/** Whether windows of several roots have something in common. */
export function overlap(windows: readonly (readonly PciWindow[])[]): boolean {
  const all = windows.flat().sort((a, b) => a.start - b.start);
  return all.some(({ start }, index) => index > 0 && start <= (all[index - 1]?.end ?? -1));
}

/** The part of all addresses that one of so many roots gets. */
export function partOf(index: number, count: number): { readonly memory: PciWindow[]; readonly io: PciWindow[] } {
  const low = Math.floor((LOW.end + 1 - LOW.start) / count / GRANULE) * GRANULE;
  const ports = Math.floor(IO_END / count / 0x1000) * 0x1000;
  return {
    memory: [
      { start: LOW.start + low * index, end: LOW.start + low * (index + 1) - 1 },
      { start: HIGH_START + HIGH_PART * index, end: HIGH_START + HIGH_PART * (index + 1) - 1 },
    ],
    io: [{ start: 0x1000 + ports * index, end: 0x1000 + ports * (index + 1) - 1 }],
  };
}

function barRanges({ config, bars, romSize }: FunctionRecord): PciWindow[] {
  const ranges = bars
    .filter(({ space }) => space === 'memory')
    .map(({ index, size, wide }) => {
      const register = Reg.BASE_ADDRESS_0 + 4 * index;
      const high = wide ? dword(config, register + 4) : 0;
      const start = high * FOUR_GB + ((dword(config, register) & ~0xf) >>> 0);
      return { start, end: start + size - 1 };
    });
  const header = (config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
  const rom = (dword(config, header === HeaderType.BRIDGE ? BridgeReg.ROM_ADDRESS : Reg.ROM_ADDRESS) & ~0x7ff) >>> 0;
  return romSize > 0 ? [...ranges, { start: rom, end: rom + romSize - 1 }] : ranges;
}
