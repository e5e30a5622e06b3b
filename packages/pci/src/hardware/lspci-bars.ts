/*
 * How large BARs are in a dump: as the text beside the bytes says; else as a capability says; else as much as the address allows.
 */
import { BaseAddress, BridgeReg, CapId, ExtCapId, HeaderType, Msix, Reg, RomAddress, Sriov } from '../bus/regs.js';
import { bridgeWindows, dword, findCapabilityIn, findExtendedIn } from './raw-config.js';
import type { RecordedBar } from './record.js';

/** What a line said about a BAR. */
export interface BarText {
  readonly rom: boolean;
  readonly size: number;
  readonly index?: number;
  readonly at?: number;
}

/** Sizes that somebody knows better. */
export interface SizeOverrides {
  readonly bars?: Readonly<Record<number, number>>;
  readonly rom?: number;
  /** Of one virtual function. */
  readonly vfBars?: Readonly<Record<number, number>>;
}

const BARS_OF: Readonly<Record<number, number>> = {
  [HeaderType.NORMAL]: 6,
  [HeaderType.BRIDGE]: 2,
  [HeaderType.CARDBUS]: 1,
};
const PAGE = 0x1000;
/** Nobody is given more than this only because the address would allow it. */
const MEMORY_GUESS = 0x10_0000;
const IO_GUESS = 0x100;
const ROM_GUESS = 0x1_0000;
const VF_GUESS = 0x4000;
const IO_MINIMUM = 4;
const MEMORY_MINIMUM = 16;
const ROM_MINIMUM = 0x800;
const Rebar = { FIRST_CONTROL: 8, STEP: 8, COUNT_SHIFT: 5, SIZE_SHIFT: 8, SIZE_MASK: 0x3f, SMALLEST: 2 ** 20 } as const;

/** Where something else begins, in memory and in ports. */
export interface Neighbours {
  readonly memory: readonly number[];
  readonly io: readonly number[];
}

/** Everything that has addresses in a machine: what somebody else has, a guess does not take. */
export function neighboursOf(configs: readonly Uint8Array[]): Neighbours {
  const memory = new Set<number>();
  const io = new Set<number>();
  for (const config of configs) {
    const header = (config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
    registersAt(config, Reg.BASE_ADDRESS_0, BARS_OF[header] ?? 0, ({ space }, raw, at) => {
      if (raw !== 0) (space === 'io' ? io : memory).add(at);
      return 0;
    });
    if (header !== HeaderType.CARDBUS) memory.add(romAddress(config));
    if (header !== HeaderType.BRIDGE) continue;
    for (const window of bridgeWindows(config)) for (const edge of [window.start, window.end + 1]) memory.add(edge);
  }
  const sorted = (set: Set<number>) => [...set].sort((a, b) => a - b);
  return { memory: sorted(memory), io: sorted(io) };
}

/** The BARs of a function. */
export function barsOfDump(
  config: Uint8Array,
  texts: readonly BarText[],
  neighbours: Neighbours,
  { bars = {} }: SizeOverrides,
): RecordedBar[] {
  const count = BARS_OF[(config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK] ?? 0;
  const resizable = resizableSizes(config);
  const needed = msixNeeds(config);
  return registersAt(config, Reg.BASE_ADDRESS_0, count, (bar, raw, at) => {
    const { index } = bar;
    const text = texts.find((each) => !each.rom && (each.index ?? indexOf(config, count, each.at)) === index);
    const least = needed[index] ?? 0;
    const known = bars[index] ?? text?.size ?? resizable[index];
    if (known !== undefined) return Math.max(known, least);
    // A register that is all zero is no BAR, unless something is said to be behind it.
    if (raw === 0 && least === 0) return 0;
    const guess = bar.space === 'io' ? IO_GUESS : MEMORY_GUESS;
    const room = (neighbours[bar.space].find((start) => start > at) ?? Number.POSITIVE_INFINITY) - at;
    return Math.max(allowedBy(at, Math.min(guess, room), bar.space === 'io' ? IO_MINIMUM : MEMORY_MINIMUM), least);
  });
}

/** Bytes of the ROM; 0: there is none, as far as one can see. */
export function romSizeOfDump(config: Uint8Array, texts: readonly BarText[], { memory }: Neighbours): number {
  const text = texts.find(({ rom }) => rom);
  const at = romAddress(config);
  if (at === 0) return 0;
  const room = (memory.find((start) => start > at) ?? Number.POSITIVE_INFINITY) - at;
  return text?.size ?? allowedBy(at, Math.min(ROM_GUESS, room), ROM_MINIMUM);
}

/** 0: it has none, or no address for it. */
function romAddress(config: Uint8Array): number {
  const header = (config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
  if (header === HeaderType.CARDBUS) return 0;
  const register = header === HeaderType.BRIDGE ? BridgeReg.ROM_ADDRESS : Reg.ROM_ADDRESS;
  return (dword(config, register) & RomAddress.MASK) >>> 0;
}

/** The BARs of each virtual function. Their sizes are in no dump. */
export function vfBarsOfDump(config: Uint8Array, { vfBars = {} }: SizeOverrides): RecordedBar[] {
  const sriov = findExtendedIn(config, ExtCapId.SRIOV);
  if (sriov === 0) return [];
  return registersAt(config, sriov + Sriov.BAR, Sriov.NUM_BARS, ({ index }, raw, at) => {
    return vfBars[index] ?? (raw === 0 ? 0 : Math.max(allowedBy(at, VF_GUESS, PAGE), PAGE));
  });
}

type Sized = (bar: Omit<RecordedBar, 'size'>, raw: number, at: number) => number;

function registersAt(config: Uint8Array, first: number, count: number, sizeOf: Sized): RecordedBar[] {
  const found: RecordedBar[] = [];
  for (let index = 0; index < count; index++) {
    const raw = dword(config, first + 4 * index);
    const io = (raw & BaseAddress.SPACE_IO) !== 0;
    const wide = !io && (raw & BaseAddress.MEM_TYPE_MASK) === BaseAddress.MEM_TYPE_64 && index + 1 < count;
    const high = wide ? dword(config, first + 4 * index + 4) : 0;
    const at = high * 2 ** 32 + ((raw & (io ? BaseAddress.IO_MASK : BaseAddress.MEM_MASK)) >>> 0);
    const prefetch = !io && (raw & BaseAddress.MEM_PREFETCH) !== 0;
    const bar = { index, space: io ? 'io' : 'memory', wide, prefetch } as const;
    const size = sizeOf(bar, raw, at);
    if (size > 0) found.push({ ...bar, size });
    if (wide) index++;
  }
  return found;
}

/** A BAR is aligned to its size, so an address tells how large it can be. */
function allowedBy(at: number, most: number, least: number): number {
  if (at === 0) return Math.min(most, PAGE);
  let size = least;
  while (2 * size <= most && at % (2 * size) === 0) size *= 2;
  return size;
}

/** Which BAR has an address. */
function indexOf(config: Uint8Array, count: number, at: number | undefined): number | undefined {
  if (at === undefined) return undefined;
  let found: number | undefined;
  registersAt(config, Reg.BASE_ADDRESS_0, count, ({ index }, raw, address) => {
    if (raw !== 0 && address === at) found ??= index;
    return 0;
  });
  return found;
}

/** What the MSI-X table and the pending bits take, by BAR. */
function msixNeeds(config: Uint8Array): Readonly<Record<number, number>> {
  const at = findCapabilityIn(config, CapId.MSIX);
  if (at === 0) return {};
  const vectors = ((dword(config, at) >>> 16) & Msix.FLAGS_QSIZE) + 1;
  const needs: Record<number, number> = {};
  const need = (register: number, bytes: number) => {
    const bar = register & Msix.BIR_MASK;
    const end = ((register & ~Msix.BIR_MASK) >>> 0) + bytes;
    needs[bar] = Math.max(needs[bar] ?? 0, 2 ** Math.ceil(Math.log2(end)));
  };
  need(dword(config, at + Msix.TABLE), vectors * Msix.ENTRY_SIZE);
  need(dword(config, at + Msix.PBA), Math.ceil(vectors / 64) * 8);
  return needs;
}

/** Sizes that BARs have been given, by a capability for that. */
function resizableSizes(config: Uint8Array): Readonly<Record<number, number>> {
  const at = findExtendedIn(config, ExtCapId.REBAR);
  if (at === 0) return {};
  const sizes: Record<number, number> = {};
  const count = (dword(config, at + Rebar.FIRST_CONTROL) >>> Rebar.COUNT_SHIFT) & 0x7;
  for (let entry = 0; entry < count; entry++) {
    const control = dword(config, at + Rebar.FIRST_CONTROL + Rebar.STEP * entry);
    sizes[control & 0x7] = Rebar.SMALLEST * 2 ** ((control >>> Rebar.SIZE_SHIFT) & Rebar.SIZE_MASK);
  }
  return sizes;
}
