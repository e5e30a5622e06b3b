/*
 * Capabilities that are little more than registers.
 */
import { Acs, Ari, CapId, Err, ExtCapId, Pcix } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

const UNCORRECTABLE = 0x07ff_f030;
const CORRECTABLE = 0xf1c1;
const SEVERITY_INITIAL = 0x0046_2030;
const CORRECTABLE_MASK_INITIAL = 0x6000;
const ACS_ALL = Acs.SV | Acs.TB | Acs.RR | Acs.CR | Acs.UF | Acs.EC | Acs.DT;

/** A capability of the vendor's own: bytes that can be read. */
export function addVendorSpecific(fn: EmulatedFunction, bytes: Uint8Array, at?: number): number {
  const offset = fn.capabilities.add(CapId.VNDR, 3 + bytes.length, at);
  fn.config.set(offset + 2, 1, 3 + bytes.length);
  for (const [index, byte] of bytes.entries()) fn.config.set(offset + 3 + index, 1, byte);
  return offset;
}

/** Lets a PCI-X capability keep its command. */
export function attachPcix(fn: EmulatedFunction, at: number): void {
  fn.config.allow(at + Pcix.CMD, 2, 0x007f);
}

/** Gives a function a PCI-X capability. */
export function addPcix(fn: EmulatedFunction, at?: number): number {
  const offset = fn.capabilities.add(CapId.PCIX, 8, at);
  attachPcix(fn, offset);
  return offset;
}

/** Lets an AER capability log: its status survives resets, and is cleared by ones. */
export function attachAer(fn: EmulatedFunction, at: number): void {
  const { config } = fn;
  config.clearOnOne(at + Err.UNCOR_STATUS, 4, UNCORRECTABLE);
  config.keep(at + Err.UNCOR_STATUS, 4, UNCORRECTABLE);
  config.allow(at + Err.UNCOR_MASK, 4, UNCORRECTABLE);
  config.keep(at + Err.UNCOR_MASK, 4, UNCORRECTABLE);
  config.allow(at + Err.UNCOR_SEVER, 4, UNCORRECTABLE);
  config.keep(at + Err.UNCOR_SEVER, 4, UNCORRECTABLE);
  config.clearOnOne(at + Err.COR_STATUS, 4, CORRECTABLE);
  config.keep(at + Err.COR_STATUS, 4, CORRECTABLE);
  config.allow(at + Err.COR_MASK, 4, CORRECTABLE);
  config.keep(at + Err.COR_MASK, 4, CORRECTABLE);
}

/** Gives a function AER. */
export function addAer(fn: EmulatedFunction, at?: number): number {
  const offset = fn.capabilities.addExtended(ExtCapId.ERR, 2, 0x48, at);
  fn.config.set(offset + Err.UNCOR_SEVER, 4, SEVERITY_INITIAL);
  fn.config.set(offset + Err.COR_MASK, 4, CORRECTABLE_MASK_INITIAL);
  attachAer(fn, offset);
  return offset;
}

/** Lets an ACS capability control what it offers. */
export function attachAcs(fn: EmulatedFunction, at: number): void {
  fn.config.allow(at + Acs.CTRL, 2, fn.config.get(at + Acs.CAP, 2) & ACS_ALL);
}

/** Gives a function ACS. */
export function addAcs(fn: EmulatedFunction, offers: number = Acs.SV | Acs.RR | Acs.CR | Acs.UF, at?: number): number {
  const offset = fn.capabilities.addExtended(ExtCapId.ACS, 1, 8, at);
  fn.config.set(offset + Acs.CAP, 2, offers);
  attachAcs(fn, offset);
  return offset;
}

/** Gives a function ARI. @param next - number of the next function of its device; 0: it is the last */
export function addAri(fn: EmulatedFunction, next = 0, at?: number): number {
  const offset = fn.capabilities.addExtended(ExtCapId.ARI, 1, 8, at);
  fn.config.set(offset + Ari.CAP, 2, next << 8);
  return offset;
}

/** Gives a function a serial number. */
export function addSerialNumber(fn: EmulatedFunction, serial: bigint, at?: number): number {
  const offset = fn.capabilities.addExtended(ExtCapId.DSN, 1, 12, at);
  fn.config.set(offset + 4, 4, Number(serial & 0xffff_ffffn));
  fn.config.set(offset + 8, 4, Number((serial >> 32n) & 0xffff_ffffn));
  return offset;
}
