/*
 * A machine out of functions: every one in its slot, behind the bridge that its bus belongs to.
 */
import type { PciWindow } from '../bus/function.js';
import { BridgeReg, HeaderType, pciName, Reg } from '../bus/regs.js';
import { EmulatedBridge } from './bridge.js';
import { assignAddresses } from './firmware.js';
import { lastVfBus } from './firmware-vfs.js';
import type { EmulatedFunction } from './function.js';
import { memoryOf, overlap, partOf } from './machine-windows.js';
import type { FunctionRecord } from './record.js';
import { EmulatedRoot, type RootOptions } from './root.js';

/** A function and its place. */
export interface MachinePart {
  readonly domain: number;
  readonly bus: number;
  readonly devfn: number;
  readonly fn: EmulatedFunction;
  /** What its registers were made of, addresses included. Without, it has none yet. */
  readonly record?: FunctionRecord;
  /** The bus behind a bridge that has no record. */
  readonly secondary?: number;
}

/** A machine: its host bridges, and all functions by name. */
export interface AssembledMachine {
  readonly roots: readonly EmulatedRoot[];
  readonly functions: ReadonlyMap<string, EmulatedFunction>;
}

/** A bridge, and the number of the bus that it leads to. */
interface Way {
  readonly bridge: EmulatedBridge;
  readonly part: MachinePart;
  readonly secondary: number;
}

interface Root {
  readonly root: EmulatedRoot;
  /** Whether functions keep the addresses that they were recorded with. */
  readonly placed: boolean;
}

const LAST_BUS = 0xff;
/** Ports that a host bridge of a PC passes on. */
const IO: readonly PciWindow[] = [
  { start: 0x0000, end: 0x0cf7 },
  { start: 0x0d00, end: 0xffff },
];

/**
 * Builds a machine. Functions of a bus that no bridge leads to are on a host bridge of their own. With functions that have no
 * addresses yet, all are given new ones, as firmware does when a card was put in.
 *
 * @param options - windows and wiring of its host bridges
 * @throws SyntaxError - two functions are in the same place, or two bridges lead to the same bus
 */
export function assembleMachine(
  parts: readonly MachinePart[],
  options: Omit<RootOptions, 'domain' | 'bus'> = {},
): AssembledMachine {
  const functions = new Map<string, EmulatedFunction>();
  const ways = new Map<string, Way>();
  for (const part of parts) {
    const name = nameOf(part);
    if (functions.has(name)) throw wrong(part, `${name} is there twice`);
    functions.set(name, part.fn);
    addWay(ways, part);
  }
  const roots = rootsOf(parts, ways, options);
  for (const { domain, bus, devfn, fn } of parts) {
    const key = busKey(domain, bus);
    const segment = ways.get(key)?.bridge.secondary ?? roots.get(key)?.root.segment;
    segment?.plug(devfn, fn);
  }
  for (const way of ways.values()) numberBuses(way, parts, ways);
  for (const { root, placed } of roots.values()) if (!placed) assignAddresses(root);
  return { roots: [...roots.values()].map((each) => each.root), functions };
}

/** A bridge that has a bus behind it leads to that. */
function addWay(ways: Map<string, Way>, part: MachinePart): void {
  const { fn, domain, bus, record } = part;
  if (!(fn instanceof EmulatedBridge)) return;
  const secondary = record ? secondaryOf(record) : (part.secondary ?? 0);
  // Buses behind a bridge have higher numbers; a bridge that was not set up leads nowhere.
  if (secondary <= bus) return;
  const key = busKey(domain, secondary);
  if (ways.has(key)) throw wrong(part, `two bridges lead to bus ${key}`);
  ways.set(key, { bridge: fn, part, secondary });
}

function secondaryOf({ config }: FunctionRecord): number {
  const header = (config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
  return header === HeaderType.BRIDGE ? (config[BridgeReg.SECONDARY_BUS] ?? 0) : 0;
}

/** The host bridges, by their first bus. */
function rootsOf(
  parts: readonly MachinePart[],
  ways: ReadonlyMap<string, Way>,
  options: Omit<RootOptions, 'domain' | 'bus'>,
): Map<string, Root> {
  const first = new Map<string, MachinePart[]>();
  for (const part of parts) {
    const key = busKey(part.domain, part.bus);
    if (!ways.has(key)) first.set(key, [...(first.get(key) ?? []), part]);
  }
  const records = (of: readonly MachinePart[]) => of.flatMap(({ record }) => (record ? [record] : []));
  const windows = [...first.values()].map((own) => memoryOf(records(own)));
  const complete = parts.every(({ record }) => record !== undefined);
  const placed = complete && (options.memory !== undefined || !overlap(windows));
  const roots = new Map<string, Root>();
  for (const [index, [key, own]] of [...first].entries()) {
    const [{ domain, bus } = { domain: 0, bus: 0 }] = own;
    const where = placed ? { memory: windows[index] ?? [], io: IO } : partOf(index, first.size);
    const lastBus = lastBusBefore(domain, bus, [...first.values()].flat());
    roots.set(key, { root: new EmulatedRoot({ ...where, lastBus, ...options, domain, bus }), placed });
  }
  return roots;
}

/** Numbers up to the next host bridge's are what bridges may be given that have none yet. */
function lastBusBefore(domain: number, bus: number, first: readonly MachinePart[]): number {
  const later = first.filter((part) => part.domain === domain && part.bus > bus).map((part) => part.bus);
  return Math.min(LAST_BUS + 1, ...later) - 1;
}

/** A bridge knows its own bus, the next one, and the last one behind it. What was recorded is only made to reach further. */
function numberBuses(
  { bridge, part, secondary }: Way,
  parts: readonly MachinePart[],
  ways: ReadonlyMap<string, Way>,
): void {
  const { config } = bridge;
  const last = lastBus(part, secondary, parts, ways);
  if (part.record) {
    if (config.get(BridgeReg.SUBORDINATE_BUS, 1) < last) config.put(BridgeReg.SUBORDINATE_BUS, 1, last);
    return;
  }
  config.put(BridgeReg.PRIMARY_BUS, 1, part.bus);
  config.put(BridgeReg.SECONDARY_BUS, 1, secondary);
  config.put(BridgeReg.SUBORDINATE_BUS, 1, last);
}

/**
 * The highest number of a bus and of those behind it. Each has a higher number than the one that it is behind.
 *
 * @param bridge - the one that asks: how many virtual functions are to fit in was decided when it was recorded
 */
function lastBus(
  bridge: MachinePart,
  bus: number,
  parts: readonly MachinePart[],
  ways: ReadonlyMap<string, Way>,
): number {
  const isHere = (part: MachinePart) => part.domain === bridge.domain && part.bus === bus;
  const vfs = bridge.record ? [] : parts.filter(isHere).map(({ fn, devfn }) => lastVfBus(fn, bus, devfn));
  const behind = [...ways.values()]
    .filter(({ part }) => isHere(part))
    .map(({ secondary }) => lastBus(bridge, secondary, parts, ways));
  return Math.max(bus, ...vfs, ...behind);
}

/** Names the line of a dump, if the function came from one. */
function wrong({ record }: MachinePart, why: string): SyntaxError {
  return new SyntaxError(record?.line === undefined ? why : `line ${record.line}: ${why}`);
}

function nameOf({ domain, bus, devfn }: MachinePart): string {
  return pciName(domain, bus, devfn);
}

function busKey(domain: number, bus: number): string {
  return pciName(domain, bus, 0).slice(0, -':00.0'.length);
}
