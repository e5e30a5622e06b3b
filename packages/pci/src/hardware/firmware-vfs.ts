/*
 * What firmware has to know of virtual functions: which bus numbers they will want.
 */
import type { PciFunction } from '../bus/function.js';
import { CFG_SPACE_SIZE, ExtCapId, Sriov } from '../bus/regs.js';

const MAX_CAPS = 960;

/** The bus that the last virtual function of a function will be on. */
export function lastVfBus(fn: PciFunction, bus: number, devfn: number): number {
  const at = findExtended(fn, ExtCapId.SRIOV);
  const total = at === 0 ? 0 : fn.readConfig(at + Sriov.TOTAL_VF, 2);
  if (total === 0) return bus;
  const offset = fn.readConfig(at + Sriov.VF_OFFSET, 2);
  const stride = fn.readConfig(at + Sriov.VF_STRIDE, 2);
  return ((bus << 8) + devfn + offset + stride * (total - 1)) >> 8;
}

/** Where an extended capability is; 0: nowhere. */
export function findExtended(fn: PciFunction, id: number): number {
  if (fn.configSize <= CFG_SPACE_SIZE) return 0;
  let offset = CFG_SPACE_SIZE;
  for (let left = MAX_CAPS; left > 0 && offset >= CFG_SPACE_SIZE; left--) {
    const header = fn.readConfig(offset, 4);
    if (header === 0 || header === 0xffff_ffff) return 0;
    if ((header & 0xffff) === id) return offset;
    offset = (header >>> 20) & ~3;
  }
  return 0;
}
