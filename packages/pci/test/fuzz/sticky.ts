/*
 * What of config space a reset leaves as it is, by name: the registers that PCI Express calls sticky, and what belongs to no
 * capability, of which the recorded functions have kept everything.
 */
import type { PciDev } from '../../src/bus/pci-dev.js';
import { CapId, Err, ExtCapId, Pm, STD_HEADER_SIZE } from '../../src/bus/regs.js';
import { capabilityBytes } from '../../src/hardware/capabilities/extent.js';
import { EmulatedFunction } from '../../src/hardware/function.js';

/** Registers of AER: status, mask and severity of errors, and what the first one was. Bytes. */
const aer = [
  [Err.UNCOR_STATUS, 4],
  [Err.UNCOR_MASK, 4],
  [Err.UNCOR_SEVER, 4],
  [Err.COR_STATUS, 4],
  [Err.COR_MASK, 4],
  [Err.CAP, 4],
  [Err.HEADER_LOG, 16],
] as const;

/** Bits that survive, by byte. */
export function stickyBits({ hw, cfgSize }: PciDev): Uint8Array {
  if (!(hw instanceof EmulatedFunction)) throw new TypeError('only of recorded functions this is known');
  const bits = new Uint8Array(cfgSize);
  const { capabilities } = hw;
  const known = capabilityBytes(hw);
  for (let at = STD_HEADER_SIZE; at < cfgSize; at++) if (!known.has(at)) bits[at] = 0xff;
  // With power from elsewhere a function still knows whether it shall wake the machine.
  const pm = capabilities.find(CapId.PM);
  if (pm !== 0) bits[pm + Pm.CTRL + 1] = (Pm.CTRL_PME_ENABLE | Pm.CTRL_PME_STATUS) >> 8;
  const err = capabilities.findExtended(ExtCapId.ERR);
  if (err !== 0) for (const [register, size] of aer) bits.fill(0xff, err + register, err + register + size);
  return bits;
}
