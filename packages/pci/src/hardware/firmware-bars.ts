/*
 * What firmware finds out about the BARs of a function, by writing ones to them.
 */
import type { PciFunction } from '../bus/function.js';
import { BaseAddress, BridgeReg, ExtCapId, HeaderType, Reg, RomAddress, Sriov } from '../bus/regs.js';
import { findExtended } from './firmware-vfs.js';

/** What kind of addresses. */
export type AddressKind = 'io' | 'memory' | 'prefetch';

/** Somebody who needs addresses. */
export interface Need {
  readonly kind: AddressKind;
  /** Bytes. */
  readonly size: number;
  readonly align: number;
  /** Addresses above 4 GB will do. */
  readonly wide: boolean;
  place(at: number): void;
}

const ONES = 0xffff_ffff;
const FOUR_GB = 2 ** 32;
const DEVICE_BARS = 6;
const BRIDGE_BARS = 2;

/** What the BARs, the ROM and the virtual functions' BARs of a function need. */
export function barNeeds(fn: PciFunction): Need[] {
  const bridge = (fn.readConfig(Reg.HEADER_TYPE, 1) & HeaderType.MASK) === HeaderType.BRIDGE;
  const needs = registerNeeds(fn, Reg.BASE_ADDRESS_0, bridge ? BRIDGE_BARS : DEVICE_BARS, 1);
  needs.push(...romNeed(fn, bridge ? BridgeReg.ROM_ADDRESS : Reg.ROM_ADDRESS));
  const sriov = findExtended(fn, ExtCapId.SRIOV);
  if (sriov === 0) return needs;
  const total = fn.readConfig(sriov + Sriov.TOTAL_VF, 2);
  return [...needs, ...registerNeeds(fn, sriov + Sriov.BAR, Sriov.NUM_BARS, total)];
}

/** @param times - how many of each size follow each other */
function registerNeeds(fn: PciFunction, first: number, count: number, times: number): Need[] {
  const needs: Need[] = [];
  for (let index = 0; index < count; index++) {
    const register = first + 4 * index;
    const ones = sized(fn, register, ONES);
    if (ones === 0) continue;
    if ((ones & BaseAddress.SPACE_IO) !== 0) {
      const mask = ones & BaseAddress.IO_MASK & 0xffff;
      const size = mask & -mask;
      needs.push({ kind: 'io', size, align: size, wide: false, place: (at) => fn.writeConfig(register, 4, at) });
      continue;
    }
    const double = (ones & BaseAddress.MEM_TYPE_MASK) === BaseAddress.MEM_TYPE_64;
    const high = double ? sized(fn, register + 4, ONES) : ONES;
    const mask = (BigInt(high) << 32n) | BigInt((ones & BaseAddress.MEM_MASK) >>> 0);
    const size = Number(mask & -mask);
    const prefetch = (ones & BaseAddress.MEM_PREFETCH) !== 0;
    needs.push({
      kind: prefetch ? 'prefetch' : 'memory',
      size: size * times,
      align: size,
      wide: double && prefetch,
      place: (at) => {
        fn.writeConfig(register, 4, at % FOUR_GB);
        if (double) fn.writeConfig(register + 4, 4, Math.floor(at / FOUR_GB));
      },
    });
    if (double) index++;
  }
  return needs;
}

function romNeed(fn: PciFunction, register: number): Need[] {
  const mask = sized(fn, register, RomAddress.MASK) & RomAddress.MASK;
  if (mask === 0) return [];
  const size = (mask & -mask) >>> 0;
  return [{ kind: 'memory', size, align: size, wide: false, place: (at) => fn.writeConfig(register, 4, at) }];
}

/** What a register keeps of ones. It has its value again. */
function sized(fn: PciFunction, register: number, ones: number): number {
  const value = fn.readConfig(register, 4);
  fn.writeConfig(register, 4, ones >>> 0);
  const seen = fn.readConfig(register, 4);
  fn.writeConfig(register, 4, value);
  return seen;
}
