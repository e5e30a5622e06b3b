/*
 * Vital product data: a small memory behind two registers. The flag tells which way the next four bytes go, and turns over when
 * they are there.
 */
import { CapId, Vpd } from '../../bus/regs.js';
import type { EmulatedFunction } from '../function.js';

const LENGTH = 8;
const ADDRESS_LANES = 0xffff_0000;
const ITEM_BYTES = 4;

/** Lets an existing capability give out a memory. */
export function attachVpd(fn: EmulatedFunction, at: number, data: Uint8Array): void {
  const { config } = fn;
  config.allow(at + Vpd.ADDR, 2, Vpd.ADDR_F | Vpd.ADDR_MASK);
  config.allow(at + Vpd.DATA, 4, 0xffff_ffff);
  config.hook(at, {
    written: (_before, lanes) => {
      if ((lanes & ADDRESS_LANES) === 0) return;
      const address = config.get(at + Vpd.ADDR, 2);
      const offset = address & Vpd.ADDR_MASK & ~(ITEM_BYTES - 1);
      const toMemory = (address & Vpd.ADDR_F) !== 0;
      for (let byte = 0; byte < ITEM_BYTES; byte++) {
        if (!toMemory) config.put(at + Vpd.DATA + byte, 1, data[offset + byte] ?? 0);
        else if (offset + byte < data.length) data[offset + byte] = config.get(at + Vpd.DATA + byte, 1);
      }
      config.put(at + Vpd.ADDR, 2, address ^ Vpd.ADDR_F);
    },
  });
}

/** Gives a function the capability. */
export function addVpd(fn: EmulatedFunction, data: Uint8Array, at?: number): void {
  attachVpd(fn, fn.capabilities.add(CapId.VPD, LENGTH, at), data);
}
