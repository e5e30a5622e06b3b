/*
 * What firmware has done before a kernel runs: buses have numbers, BARs and windows have addresses, and everything is switched on.
 * It sees no more of functions than their config space.
 */
import type { PciFunction, PciRoot, PciSegment, PciWindow } from '../bus/function.js';
import { BridgeReg, Command, HeaderType, Reg, slotOf } from '../bus/regs.js';
import { type AddressKind, barNeeds, type Need } from './firmware-bars.js';
import { lastVfBus } from './firmware-vfs.js';

const MB = 0x10_0000;
const IO_GRANULE = 0x1000;
const PINS = 4;
const FOUR_GB = 2 ** 32;
const KINDS: readonly AddressKind[] = ['io', 'memory', 'prefetch'];

/** Numbers, places and switches on everything below a host bridge. What finds no room is left to the kernel. */
export function assignFirmware(root: PciRoot): void {
  numberBuses(root.segment, root.bus);
  assignAddresses(root);
}

/** Places and switches on what has its bus numbers already. */
export function assignAddresses(root: PciRoot): void {
  const needs = collect(root.segment);
  const io = root.io.map(arenaOf);
  const memory = root.memory.map(arenaOf);
  for (const need of largestFirst(needs)) {
    const arenas = need.kind === 'io' ? io : memory.filter(({ end }) => need.wide || end < FOUR_GB);
    const at = allocate(arenas, need);
    if (at !== undefined) need.place(at);
  }
  switchOn(root, root.segment, (slot, pin) => root.routeIntx(slot, pin));
}

/** @returns the highest number below */
function numberBuses(segment: PciSegment, bus: number): number {
  const functions = [...segment.devfns()].flatMap((devfn) => {
    const fn = segment.at(devfn);
    return fn ? [{ devfn, fn }] : [];
  });
  let last = Math.max(bus, ...functions.map(({ devfn, fn }) => lastVfBus(fn, bus, devfn)));
  for (const { fn } of functions) {
    if (!isBridge(fn) || !fn.secondary) continue;
    const secondary = last + 1;
    fn.writeConfig(BridgeReg.PRIMARY_BUS, 1, bus);
    fn.writeConfig(BridgeReg.SECONDARY_BUS, 1, secondary);
    last = numberBuses(fn.secondary, secondary);
    fn.writeConfig(BridgeReg.SUBORDINATE_BUS, 1, last);
  }
  return last;
}

/** What everything on a bus needs; what is behind a bridge needs its windows. */
function collect(segment: PciSegment): Need[] {
  const needs: Need[] = [];
  for (const devfn of segment.devfns()) {
    const fn = segment.at(devfn);
    if (!fn) continue;
    needs.push(...barNeeds(fn));
    if (isBridge(fn) && fn.secondary) needs.push(...windowNeeds(fn, collect(fn.secondary)));
  }
  return needs;
}

function windowNeeds(bridge: PciFunction, below: readonly Need[]): Need[] {
  const needs: Need[] = [];
  for (const kind of KINDS) {
    const inside = largestFirst(below.filter((need) => need.kind === kind));
    closeWindow(bridge, kind);
    if (inside.length === 0) continue;
    const granule = kind === 'io' ? IO_GRANULE : MB;
    const offsets = new Map<Need, number>();
    let used = 0;
    for (const need of inside) {
      const offset = roundUp(used, need.align);
      offsets.set(need, offset);
      used = offset + need.size;
    }
    const size = roundUp(used, granule);
    needs.push({
      kind,
      size,
      align: Math.max(granule, ...inside.map(({ align }) => align)),
      wide: kind === 'prefetch' && inside.every(({ wide }) => wide),
      place: (at) => {
        openWindow(bridge, kind, at, at + size - 1);
        for (const [need, offset] of offsets) need.place(at + offset);
      },
    });
  }
  return needs;
}

/** A window that ends before it begins passes nothing on. */
function closeWindow(bridge: PciFunction, kind: AddressKind): void {
  if (kind === 'io') bridge.writeConfig(BridgeReg.IO_BASE, 2, 0x00f0);
  else bridge.writeConfig(kind === 'memory' ? BridgeReg.MEMORY_BASE : BridgeReg.PREF_MEMORY_BASE, 4, 0x0000_fff0);
}

function openWindow(bridge: PciFunction, kind: AddressKind, start: number, end: number): void {
  if (kind === 'io') {
    bridge.writeConfig(BridgeReg.IO_BASE, 2, ((start >> 8) & 0xf0) | (end & 0xf000));
    bridge.writeConfig(BridgeReg.IO_BASE_UPPER16, 4, ((end & 0xffff_0000) | (start >>> 16)) >>> 0);
    return;
  }
  const register = kind === 'memory' ? BridgeReg.MEMORY_BASE : BridgeReg.PREF_MEMORY_BASE;
  const [low, high] = [start % FOUR_GB, end % FOUR_GB];
  bridge.writeConfig(register, 4, (((low >>> 16) & 0xfff0) | (high & 0xfff0_0000)) >>> 0);
  if (kind === 'memory') return;
  bridge.writeConfig(BridgeReg.PREF_BASE_UPPER32, 4, Math.floor(start / FOUR_GB));
  bridge.writeConfig(BridgeReg.PREF_LIMIT_UPPER32, 4, Math.floor(end / FOUR_GB));
}

/** Functions decode and bridges pass on; interrupt lines have their numbers. */
function switchOn(root: PciRoot, segment: PciSegment, route: (slot: number, pin: number) => number | undefined): void {
  for (const devfn of segment.devfns()) {
    const fn = segment.at(devfn);
    if (!fn) continue;
    const pin = fn.readConfig(Reg.INTERRUPT_PIN, 1);
    if (pin !== 0) fn.writeConfig(Reg.INTERRUPT_LINE, 1, route(slotOf(devfn), pin) ?? 0xff);
    const master = isBridge(fn) ? Command.MASTER : 0;
    fn.writeConfig(Reg.COMMAND, 2, Command.IO | Command.MEMORY | Command.SERR | master);
    if (!fn.secondary) continue;
    // Pins of what is behind a bridge come out at its own, each slot turned by one.
    switchOn(root, fn.secondary, (slot, below) => route(slotOf(devfn), ((slot + below - 1) % PINS) + 1));
  }
}

function isBridge(fn: PciFunction): boolean {
  return (fn.readConfig(Reg.HEADER_TYPE, 1) & HeaderType.MASK) === HeaderType.BRIDGE;
}

/** Addresses not given out yet, from the top down as firmware does. */
interface Arena {
  readonly start: number;
  end: number;
}

function arenaOf({ start, end }: PciWindow): Arena {
  return { start, end };
}

function allocate(arenas: readonly Arena[], { size, align }: Need): number | undefined {
  for (const arena of arenas) {
    const at = Math.floor((arena.end + 1 - size) / align) * align;
    if (at < arena.start) continue;
    arena.end = at - 1;
    return at;
  }
  return undefined;
}

function largestFirst(needs: readonly Need[]): Need[] {
  return [...needs].sort((a, b) => b.align - a.align || b.size - a.size);
}

function roundUp(value: number, granule: number): number {
  return Math.ceil(value / granule) * granule;
}
