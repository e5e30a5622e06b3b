/*
 * Reading config space that is only bytes: its lists of capabilities, and the windows of bridges.
 */
import type { PciWindow } from '../bus/function.js';
import { BridgeReg, CFG_SPACE_SIZE, HeaderType, Reg, STD_HEADER_SIZE, Status } from '../bus/regs.js';

const CARDBUS_CAPABILITIES = 0x14;
const FOUR_GB = 2 ** 32;

/** Where a capability of the first 256 bytes is; 0: nowhere. */
export function findCapabilityIn(config: Uint8Array, id: number): number {
  if (((config[Reg.STATUS] ?? 0) & Status.CAP_LIST) === 0) return 0;
  const cardbus = headerOf(config) === HeaderType.CARDBUS;
  let offset = (config[cardbus ? CARDBUS_CAPABILITIES : Reg.CAPABILITY_LIST] ?? 0) & ~3;
  for (let left = 48; left > 0 && offset >= STD_HEADER_SIZE && offset < config.length; left--) {
    if (config[offset] === id) return offset;
    offset = (config[offset + 1] ?? 0) & ~3;
  }
  return 0;
}

/** Where an extended capability is; 0: nowhere. */
export function findExtendedIn(config: Uint8Array, id: number): number {
  const seen = new Set<number>();
  let offset = CFG_SPACE_SIZE;
  while (offset >= CFG_SPACE_SIZE && offset + 4 <= config.length && !seen.has(offset)) {
    seen.add(offset);
    const found = (config[offset] ?? 0) | ((config[offset + 1] ?? 0) << 8);
    if (found === id) return offset;
    if (found === 0 || found === 0xffff) return 0;
    offset = (((config[offset + 2] ?? 0) >> 4) | ((config[offset + 3] ?? 0) << 4)) & ~3;
  }
  return 0;
}

/** Memory that a bridge passes on; nothing for what is no bridge. Windows that are closed end before they begin. */
export function bridgeWindows(config: Uint8Array): PciWindow[] {
  if (headerOf(config) !== HeaderType.BRIDGE) return [];
  const memory = dword(config, BridgeReg.MEMORY_BASE);
  const prefetch = dword(config, BridgeReg.PREF_MEMORY_BASE);
  const wide = (prefetch & 0xf) === 1;
  const upper = (register: number) => (wide ? dword(config, register) * FOUR_GB : 0);
  const windows = [
    { start: ((memory & 0xfff0) << 16) >>> 0, end: ((memory & 0xfff0_0000) | 0xf_ffff) >>> 0 },
    {
      start: upper(BridgeReg.PREF_BASE_UPPER32) + (((prefetch & 0xfff0) << 16) >>> 0),
      end: upper(BridgeReg.PREF_LIMIT_UPPER32) + (((prefetch & 0xfff0_0000) | 0xf_ffff) >>> 0),
    },
  ];
  return windows.filter(({ start, end }) => end > start);
}

/** Two bytes; zero behind the end. */
export function word(bytes: Uint8Array, offset: number): number {
  return (bytes[offset] ?? 0) | ((bytes[offset + 1] ?? 0) << 8);
}

/** Four bytes; zero behind the end. */
export function dword(bytes: Uint8Array, offset: number): number {
  const at = (index: number) => bytes[offset + index] ?? 0;
  return (at(0) | (at(1) << 8) | (at(2) << 16) | (at(3) << 24)) >>> 0;
}

function headerOf(config: Uint8Array): number {
  return (config[Reg.HEADER_TYPE] ?? 0) & HeaderType.MASK;
}
