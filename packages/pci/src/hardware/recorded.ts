/*
 * A machine out of records: every function in its slot, behind the bridge that its bus belongs to.
 */
import type { PciWindow } from '../bus/function.js';
import { BridgeReg, ExtCapId, HeaderType, pciName, Reg, Sriov } from '../bus/regs.js';
import { EmulatedBridge } from './bridge.js';
import { assignAddresses } from './firmware.js';
import type { EmulatedFunction } from './function.js';
import { memoryOf, overlap, partOf } from './machine-windows.js';
import { findExtendedIn } from './raw-config.js';
import type { FunctionRecord, RecordedContents } from './record.js';
import { isVirtual, recordedFunction } from './recorded-function.js';
import { EmulatedRoot, type RootOptions } from './root.js';

/** What is known beside the functions. */
export interface RecordedMachineOptions {
  /** Records of the same machine while virtual functions were enabled. */
  readonly virtual?: readonly FunctionRecord[];
  /** What was read in BARs and ROMs. */
  readonly contents?: readonly RecordedContents[];
  /** Windows and wiring of its host bridges. */
  readonly root?: Omit<RootOptions, 'domain' | 'bus'>;
}

/** A machine: its host bridges, and all functions by name. */
export interface RecordedMachine {
  readonly roots: readonly EmulatedRoot[];
  readonly functions: ReadonlyMap<string, EmulatedFunction>;
}

/** Ports that a host bridge of a PC passes on. */
const IO: readonly PciWindow[] = [
  { start: 0x0000, end: 0x0cf7 },
  { start: 0x0d00, end: 0xffff },
];

/**
 * Builds a machine. Functions of a bus that no bridge leads to are on a host bridge of their own.
 *
 * @throws SyntaxError - two functions are in the same place, or a function is behind itself
 */
export function recordedMachine(
  records: readonly FunctionRecord[],
  options: RecordedMachineOptions = {},
): RecordedMachine {
  const { contents = [], root = {} } = options;
  const enabled = [...records, ...(options.virtual ?? [])].filter(isVirtual);
  const real = records.filter((record) => !isVirtual(record));
  const functions = new Map<string, EmulatedFunction>();
  const bridges = new Map<string, EmulatedBridge>();
  for (const record of real) {
    const name = nameOf(record);
    if (functions.has(name)) throw new SyntaxError(`${name} is there twice`);
    const fn = recordedFunction(record, { contents, virtual: virtualOf(record, enabled) });
    functions.set(name, fn);
    if (fn instanceof EmulatedBridge) addBridge(bridges, record, fn);
  }
  const roots = rootsOf(real, bridges, root);
  for (const record of real) {
    const fn = functions.get(nameOf(record));
    const bus = busKey(record.domain, record.bus);
    const segment = bridges.get(bus)?.secondary ?? roots.get(bus)?.root.segment;
    if (fn) segment?.plug(record.devfn, fn);
  }
  for (const { root: host, placed } of roots.values()) if (!placed) assignAddresses(host);
  return { roots: [...roots.values()].map((each) => each.root), functions };
}

/** The host bridges, by their first bus, and whether the functions below can stay where they are. */
function rootsOf(
  records: readonly FunctionRecord[],
  bridges: ReadonlyMap<string, EmulatedBridge>,
  options: Omit<RootOptions, 'domain' | 'bus'>,
): Map<string, { readonly root: EmulatedRoot; readonly placed: boolean }> {
  const first = new Map<string, FunctionRecord[]>();
  for (const record of records) {
    const bus = busKey(record.domain, record.bus);
    if (!bridges.has(bus)) first.set(bus, [...(first.get(bus) ?? []), record]);
  }
  const windows = [...first.values()].map(memoryOf);
  const placed = options.memory !== undefined || !overlap(windows);
  const roots = new Map<string, { readonly root: EmulatedRoot; readonly placed: boolean }>();
  for (const [index, [bus, own]] of [...first].entries()) {
    const [{ domain, bus: number } = { domain: 0, bus: 0 }] = own;
    const where = placed ? { memory: windows[index] ?? [], io: IO } : partOf(index, first.size);
    roots.set(bus, { root: new EmulatedRoot({ ...where, ...options, domain, bus: number }), placed });
  }
  return roots;
}

/** A bridge that has a bus behind it leads to that. */
function addBridge(
  bridges: Map<string, EmulatedBridge>,
  { domain, bus, config }: FunctionRecord,
  fn: EmulatedBridge,
): void {
  if (((config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK) !== HeaderType.BRIDGE) return;
  const secondary = config[BridgeReg.SECONDARY_BUS] ?? 0;
  // Buses behind a bridge have higher numbers; a bridge that was not set up leads nowhere.
  if (secondary <= bus) return;
  const key = busKey(domain, secondary);
  if (bridges.has(key)) throw new SyntaxError(`two bridges lead to bus ${key}`);
  bridges.set(key, fn);
}

/** The virtual functions of a physical one, by index, as far as they were seen. */
function virtualOf(pf: FunctionRecord, enabled: readonly FunctionRecord[]): FunctionRecord[] {
  const at = findExtendedIn(pf.config, ExtCapId.SRIOV);
  if (at === 0) return [];
  const word = (register: number) => (pf.config[at + register] ?? 0) | ((pf.config[at + register + 1] ?? 0) << 8);
  const first = (pf.bus << 8) + pf.devfn + word(Sriov.VF_OFFSET);
  const found: FunctionRecord[] = [];
  for (let index = 0; index < word(Sriov.TOTAL_VF); index++) {
    const rid = first + index * word(Sriov.VF_STRIDE);
    const vf = enabled.find(({ domain, bus, devfn }) => domain === pf.domain && ((bus << 8) | devfn) === rid);
    if (vf) found.push(vf);
  }
  return found;
}

function nameOf({ domain, bus, devfn }: FunctionRecord): string {
  return pciName(domain, bus, devfn);
}

function busKey(domain: number, bus: number): string {
  return pciName(domain, bus, 0).slice(0, -':00.0'.length);
}
