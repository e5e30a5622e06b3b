/*
 * Addresses for everything that has none. What firmware has assigned is claimed first, bridges before what is behind them;
 * the rest is sized from the leaves up and placed from the root down, large before small.
 */
import { isSystemError } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import {
  BridgeWindow,
  bridgeWindowsPresent,
  IO_WINDOW_ALIGN,
  MEM_WINDOW_ALIGN,
  prefWindowWide,
  writeBridgeWindows,
} from './bridge-windows.js';
import { readConfigDword, writeConfigDword } from './config.js';
import type { PciBus } from './pci-bus.js';
import type { PciDev } from './pci-dev.js';
import { isHotplugBridge } from './ports.js';
import { BridgeReg, Reg, ResourceIndex, RomAddress, Sriov } from './regs.js';
import { alignUp, type Resource, ResourceFlag } from './resource-tree.js';

/** Ports and memory below are left to what is not on the bus. */
const MIN_IO = 0x1000;
const BELOW_4G = 0xffff_ffff;

/** What a bridge with a hotplug slot passes on at least. Source: drivers/pci/setup-bus.c DEFAULT_HOTPLUG_MMIO_SIZE */
const HOTPLUG_MEMORY = 0x20_0000;
const HOTPLUG_IO = 0x100;

/** What a window of a bridge has to hold. */
interface Need {
  size: number;
  align: number;
}

/** Something without an address. */
interface Unassigned {
  readonly pdev: PciDev;
  readonly index: number;
  readonly resource: Resource;
  readonly size: number;
  readonly align: number;
}

/**
 * Claims and assigns the resources of all functions on a bus and below.
 *
 * @source arch/x86/pci/i386.c pcibios_resource_survey_bus(), drivers/pci/setup-bus.c pci_bus_assign_resources()
 */
export function assignResources(bus: PciBus): void {
  claimBridges(bus);
  claimDevices(bus);
  assignBus(bus);
}

/** Source: arch/x86/pci/i386.c pcibios_allocate_bus_resources() */
function claimBridges(bus: PciBus): void {
  for (const child of bus.children) {
    const { self } = child;
    if (!self) continue;
    for (const index of Object.values(BridgeWindow)) claim(self, index);
    claimBridges(child);
  }
}

/** Source: arch/x86/pci/i386.c pcibios_allocate_resources() */
function claimDevices(bus: PciBus): void {
  for (const pdev of bus.devices) {
    for (let index = 0; index < ResourceIndex.BRIDGE; index++) claim(pdev, index);
  }
  for (const child of bus.children) claimDevices(child);
}

/** Takes the addresses that firmware gave; a resource whose addresses are not free has none. */
function claim(pdev: PciDev, index: number): void {
  const resource = resourceAt(pdev, index);
  if (resource.size === 0 || resource.parent || resource.start === 0 || pdev.isVirtfn) return;
  if ((resource.flags & ResourceFlag.PCI_FIXED) !== 0) return;
  const { domain } = pdev.pciBus;
  resource.name = pdev.name;
  const parent = windowsFor(pdev.pciBus, resource).find(
    (window) => window.start <= resource.start && window.end >= resource.end,
  );
  try {
    if (parent) {
      domain.claim(parent, pdev, index, resource);
      return;
    }
  } catch (error) {
    if (!isSystemError(error, 'EBUSY')) throw error;
  }
  domain.host.log.info(`${text(resource)}: can't claim; no compatible bridge window`, `pci ${pdev.name}`);
  unassign(resource);
}

function unassign(resource: Resource): void {
  resource.end = resource.size - 1;
  resource.start = 0;
}

/** What a bus passes on, narrowest fit first. Source: drivers/pci/setup-res.c pci_find_parent_resource() */
function windowsFor(bus: PciBus, resource: Resource): Resource[] {
  const { self } = bus;
  const all = self
    ? Object.values(BridgeWindow).map((index) => resourceAt(self, index))
    : bus.domain.windows.filter((window) => window.size > 0);
  const kind = ResourceFlag.IO | ResourceFlag.MEM;
  const fitting = all.filter((window) => window.size > 0 && (window.flags & kind) === (resource.flags & kind));
  const isPref = (flags: number) => (flags & ResourceFlag.PREFETCH) !== 0;
  if (!isPref(resource.flags)) return fitting.filter((window) => !isPref(window.flags));
  return fitting.sort((a, b) => Number(isPref(b.flags)) - Number(isPref(a.flags)));
}

/** Source: drivers/pci/setup-bus.c __pci_bus_assign_resources() */
function assignBus(bus: PciBus): void {
  const wanting = [...deviceNeeds(bus), ...bridgeNeeds(bus)];
  const optional = (entry: Unassigned) => entry.index === ResourceIndex.ROM;
  wanting.sort((a, b) => Number(optional(a)) - Number(optional(b)) || b.align - a.align);
  for (const entry of wanting) place(bus, entry);
  for (const child of bus.children) {
    if (child.self && wanting.some(({ pdev, index }) => pdev === child.self && index >= ResourceIndex.BRIDGE)) {
      writeBridgeWindows(child.self);
    }
    assignBus(child);
  }
}

function deviceNeeds(bus: PciBus): Unassigned[] {
  const needs: Unassigned[] = [];
  for (const pdev of bus.devices) {
    if (pdev.isVirtfn) continue;
    for (let index = 0; index < ResourceIndex.BRIDGE; index++) {
      const resource = resourceAt(pdev, index);
      const fixed = (resource.flags & ResourceFlag.PCI_FIXED) !== 0;
      if (resource.size > 0 && !resource.parent && !fixed) {
        needs.push({ pdev, index, resource, size: resource.size, align: resourceAlignment(pdev, index) });
      }
    }
  }
  return needs;
}

/** Windows that have to be opened for what is behind a bridge. Source: drivers/pci/setup-bus.c __pci_bus_size_bridges() */
function bridgeNeeds(bus: PciBus): Unassigned[] {
  const needs: Unassigned[] = [];
  for (const child of bus.children) {
    const { self } = child;
    if (!self) continue;
    const present = bridgeWindowsPresent(self);
    const below = busNeeds(child, present.pref);
    if (isHotplugBridge(self)) {
      // Something may come later.
      below.mem.size = Math.max(below.mem.size, HOTPLUG_MEMORY);
      below.pref.size = Math.max(below.pref.size, HOTPLUG_MEMORY);
      below.io.size = Math.max(below.io.size, HOTPLUG_IO);
    }
    const open = (index: number, need: Need, least: number, flags: number) => {
      const resource = resourceAt(self, index);
      if (need.size === 0 || resource.parent) return;
      const align = Math.max(least, need.align);
      const size = alignUp(need.size, least);
      resource.start = 0;
      resource.end = size - 1;
      resource.flags = flags;
      needs.push({ pdev: self, index, resource, size, align });
    };
    if (present.io) open(BridgeWindow.IO, below.io, IO_WINDOW_ALIGN, ResourceFlag.IO);
    open(BridgeWindow.MEM, below.mem, MEM_WINDOW_ALIGN, ResourceFlag.MEM);
    const wide = below.wide && prefWindowWide(self) ? ResourceFlag.MEM_64 : 0;
    open(BridgeWindow.PREF, below.pref, MEM_WINDOW_ALIGN, ResourceFlag.MEM | ResourceFlag.PREFETCH | wide);
  }
  return needs;
}

/** What everything on a bus and below needs that has no address; `wide` when all prefetchable memory may be above 4 GiB. */
function busNeeds(bus: PciBus, hasPref: boolean): { io: Need; mem: Need; pref: Need; wide: boolean } {
  const needs = { io: { size: 0, align: 1 }, mem: { size: 0, align: 1 }, pref: { size: 0, align: 1 }, wide: true };
  const entries = [...deviceNeeds(bus), ...bridgeNeeds(bus)].sort((a, b) => b.align - a.align);
  for (const { resource, size, align } of entries) {
    const isPref = (resource.flags & ResourceFlag.PREFETCH) !== 0 && hasPref;
    const need = (resource.flags & ResourceFlag.IO) !== 0 ? needs.io : isPref ? needs.pref : needs.mem;
    need.size = alignUp(need.size, align) + size;
    need.align = Math.max(need.align, align);
    if (isPref && (resource.flags & ResourceFlag.MEM_64) === 0) needs.wide = false;
  }
  return needs;
}

/** Finds room in a window and writes the address. Source: drivers/pci/setup-res.c pci_assign_resource() */
function place(bus: PciBus, { pdev, index, resource, size, align }: Unassigned): void {
  const { domain } = bus;
  const tree = domain.tree(resource);
  const limit = (resource.flags & ResourceFlag.MEM_64) === 0 ? BELOW_4G : Number.MAX_SAFE_INTEGER;
  resource.name = index >= ResourceIndex.BRIDGE ? `PCI Bus ${busName(pdev.subordinate)}` : pdev.name;
  for (const window of windowsFor(bus, resource)) {
    const start = tree.findFree(window, size, align, limit);
    if (start === undefined || (window.start === 0 && start < MIN_IO)) continue;
    resource.start = start;
    resource.end = start + size - 1;
    domain.claim(window, pdev, index, resource);
    if (index < ResourceIndex.BRIDGE) updateResource(pdev, index);
    return;
  }
  domain.host.log.err(`${text(resource)}: can't assign; no space`, `pci ${pdev.name}`);
  if (index >= ResourceIndex.BRIDGE) resource.flags = 0;
}

function busName(bus: PciBus | undefined): string {
  return bus?.dev?.name ?? '';
}

/**
 * What the start of a resource is a multiple of. Those for virtual functions need only be aligned for one of them.
 *
 * @source drivers/pci/pci.h pci_resource_alignment()
 */
export function resourceAlignment(pdev: PciDev, index: number): number {
  const { size } = resourceAt(pdev, index);
  const vfs = index >= ResourceIndex.IOV && index < ResourceIndex.BRIDGE ? (pdev.sriov?.totalVfs ?? 1) : 1;
  return size / vfs;
}

/** Offset of the register that holds the address of a resource. */
export function resourceRegister(pdev: PciDev, index: number): number {
  if (index < ResourceIndex.ROM) return Reg.BASE_ADDRESS_0 + 4 * index;
  if (index === ResourceIndex.ROM) return romRegister(pdev);
  return (pdev.sriov?.cap ?? 0) + Sriov.BAR + 4 * (index - ResourceIndex.IOV);
}

/** Where the ROM BAR of a function is; bridges have it elsewhere. */
export function romRegister(pdev: PciDev): number {
  return pdev.isBridge ? BridgeReg.ROM_ADDRESS : Reg.ROM_ADDRESS;
}

/**
 * Writes the address of a resource to its register.
 *
 * @source drivers/pci/setup-res.c pci_update_resource()
 */
export function updateResource(pdev: PciDev, index: number): void {
  const resource = resourceAt(pdev, index);
  const register = resourceRegister(pdev, index);
  const low = resource.start % 2 ** 32;
  if (index === ResourceIndex.ROM) {
    const enabled = readConfigDword(pdev, register) & RomAddress.ENABLE;
    writeConfigDword(pdev, register, (low | enabled) >>> 0);
    return;
  }
  writeConfigDword(pdev, register, (low | (resource.flags & 0xf)) >>> 0);
  if ((resource.flags & ResourceFlag.MEM_64) === 0) return;
  writeConfigDword(pdev, register + 4, Math.floor(resource.start / 2 ** 32));
}

/** As messages name a resource. */
function text({ start, end, flags }: Resource): string {
  const hex = (value: number) => `0x${value.toString(16).padStart(8, '0')}`;
  return `${(flags & ResourceFlag.IO) !== 0 ? '[io ' : '[mem'} ${hex(start)}-${hex(end)}]`;
}
