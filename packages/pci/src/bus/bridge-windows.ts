/*
 * The windows of a bridge: which ports and memory it passes on to the bus below. Read as firmware has set them, and written
 * when the kernel decides.
 */
import { resourceAt } from './bar-sizing.js';
import {
  readConfigByte,
  readConfigDword,
  readConfigWord,
  writeConfigByte,
  writeConfigDword,
  writeConfigWord,
} from './config.js';
import type { PciDev } from './pci-dev.js';
import { BridgeReg, ResourceIndex } from './regs.js';
import { type Resource, ResourceFlag } from './resource-tree.js';

/** Index of each window among the resources of a bridge. */
export const BridgeWindow = {
  IO: ResourceIndex.BRIDGE,
  MEM: ResourceIndex.BRIDGE + 1,
  PREF: ResourceIndex.BRIDGE + 2,
} as const;

/** Granularity of windows, and of the addresses of a bus. */
export const IO_WINDOW_ALIGN = 0x1000;
export const MEM_WINDOW_ALIGN = 0x10_0000;

/** The low bits of the registers say how wide their addresses are. */
const TYPE_MASK = 0x0f;
const TYPE_WIDE = 0x01;
const IO_ADDRESS = 0xf0;
const MEM_ADDRESS = 0xfff0;

/**
 * Which windows a bridge has at all: a register that stays zero is not there.
 *
 * @source drivers/pci/probe.c pci_bridge_check_ranges()
 */
export function bridgeWindowsPresent(pdev: PciDev): { readonly io: boolean; readonly pref: boolean } {
  return {
    io: sticks(pdev, BridgeReg.IO_BASE, 0xe0f0),
    pref: sticks(pdev, BridgeReg.PREF_MEMORY_BASE, 0xffe0),
  };
}

/** Whether a register has something in it, or takes it. */
function sticks(pdev: PciDev, register: number, value: number): boolean {
  if (readConfigWord(pdev, register) !== 0) return true;
  writeConfigWord(pdev, register, value);
  const seen = readConfigWord(pdev, register);
  writeConfigWord(pdev, register, 0);
  return seen !== 0;
}

/** Reads the windows that are open. Source: drivers/pci/probe.c pci_read_bridge_bases() */
export function readBridgeWindows(pdev: PciDev): void {
  const present = bridgeWindowsPresent(pdev);
  if (present.io) readIoWindow(pdev);
  readMemoryWindow(pdev);
  if (present.pref) readPrefWindow(pdev);
}

function readIoWindow(pdev: PciDev): void {
  const base = readConfigByte(pdev, BridgeReg.IO_BASE);
  const limit = readConfigByte(pdev, BridgeReg.IO_LIMIT);
  const wide = (base & TYPE_MASK) === TYPE_WIDE;
  const high = (register: number) => (wide ? readConfigWord(pdev, register) * 0x1_0000 : 0);
  const start = ((base & IO_ADDRESS) << 8) + high(BridgeReg.IO_BASE_UPPER16);
  const end = ((limit & IO_ADDRESS) << 8) + high(BridgeReg.IO_LIMIT_UPPER16) + IO_WINDOW_ALIGN - 1;
  open(resourceAt(pdev, BridgeWindow.IO), start, end, (base & TYPE_MASK) | ResourceFlag.IO);
}

function readMemoryWindow(pdev: PciDev): void {
  const base = readConfigWord(pdev, BridgeReg.MEMORY_BASE);
  const limit = readConfigWord(pdev, BridgeReg.MEMORY_LIMIT);
  const start = (base & MEM_ADDRESS) * 0x1_0000;
  const end = (limit & MEM_ADDRESS) * 0x1_0000 + MEM_WINDOW_ALIGN - 1;
  open(resourceAt(pdev, BridgeWindow.MEM), start, end, (base & TYPE_MASK) | ResourceFlag.MEM);
}

function readPrefWindow(pdev: PciDev): void {
  const base = readConfigWord(pdev, BridgeReg.PREF_MEMORY_BASE);
  const limit = readConfigWord(pdev, BridgeReg.PREF_MEMORY_LIMIT);
  const wide = (base & TYPE_MASK) === TYPE_WIDE;
  const high = (register: number) => (wide ? (readConfigDword(pdev, register) >>> 0) * 2 ** 32 : 0);
  const start = (base & MEM_ADDRESS) * 0x1_0000 + high(BridgeReg.PREF_BASE_UPPER32);
  const end = (limit & MEM_ADDRESS) * 0x1_0000 + high(BridgeReg.PREF_LIMIT_UPPER32) + MEM_WINDOW_ALIGN - 1;
  const flags = (base & TYPE_MASK) | ResourceFlag.MEM | ResourceFlag.PREFETCH | (wide ? ResourceFlag.MEM_64 : 0);
  open(resourceAt(pdev, BridgeWindow.PREF), start, end, flags);
}

/** A window whose limit is below its base, or that starts at 0, is closed. */
function open(resource: Resource, start: number, end: number, flags: number): void {
  if (start === 0 || start > end) return;
  resource.start = start;
  resource.end = end;
  resource.flags = flags;
}

/** Whether the prefetchable window of a bridge reaches beyond 4 GiB. */
export function prefWindowWide(pdev: PciDev): boolean {
  return (readConfigWord(pdev, BridgeReg.PREF_MEMORY_BASE) & TYPE_MASK) === TYPE_WIDE;
}

/** Writes the windows that a bridge has to its registers; the others are closed. Source: drivers/pci/setup-bus.c pci_setup_bridge() */
export function writeBridgeWindows(pdev: PciDev): void {
  const io = resourceAt(pdev, BridgeWindow.IO);
  const ioOpen = io.size > 0;
  writeConfigByte(pdev, BridgeReg.IO_BASE, ioOpen ? (io.start >> 8) & IO_ADDRESS : IO_ADDRESS);
  writeConfigByte(pdev, BridgeReg.IO_LIMIT, ioOpen ? (io.end >> 8) & IO_ADDRESS : 0);
  writeConfigWord(pdev, BridgeReg.IO_BASE_UPPER16, ioOpen ? io.start >>> 16 : 0);
  writeConfigWord(pdev, BridgeReg.IO_LIMIT_UPPER16, ioOpen ? io.end >>> 16 : 0);
  const mem = resourceAt(pdev, BridgeWindow.MEM);
  writeConfigWord(pdev, BridgeReg.MEMORY_BASE, upper16(mem, mem.start, MEM_ADDRESS));
  writeConfigWord(pdev, BridgeReg.MEMORY_LIMIT, upper16(mem, mem.end, 0));
  const pref = resourceAt(pdev, BridgeWindow.PREF);
  const high = (address: number) => (pref.size > 0 ? Math.floor(address / 2 ** 32) : 0);
  writeConfigWord(pdev, BridgeReg.PREF_MEMORY_BASE, upper16(pref, pref.start, MEM_ADDRESS));
  writeConfigWord(pdev, BridgeReg.PREF_MEMORY_LIMIT, upper16(pref, pref.end, 0));
  writeConfigDword(pdev, BridgeReg.PREF_BASE_UPPER32, high(pref.start));
  writeConfigDword(pdev, BridgeReg.PREF_LIMIT_UPPER32, high(pref.end));
}

function upper16(window: Resource, address: number, closed: number): number {
  return window.size > 0 ? Math.floor(address / 0x1_0000) & MEM_ADDRESS : closed;
}
