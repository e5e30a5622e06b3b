/*
 * What firmware leaves in memory for a display of Intel: a table, the OpRegion, whose address is in the display's config space. Of a
 * display that was dumped only the address is known; the table is an empty one.
 */
import { type Host, isSystemError, PAGE_SIZE } from '@vfio/host';
import { Reg } from '../bus/regs.js';
import type { EmulatedFunction } from './function.js';

const INTEL = 0x8086;
/** Base class of display controllers. */
const DISPLAY = 0x03;
/** Where config space has the address. */
const ADDRESS = 0xfc;
const NOTHING = 0xffff_ffff;
const SIZE = 8 * 1024;
const SIGNATURE = 'IntelGraphicsMem';
/** Fields of the header: kilobytes, and the version of the table. */
const At = { SIZE: 16, VERSION: 0x16 } as const;
const KILOBYTE = 1024;
const VERSION_2_0 = 0x0200;

/**
 * Puts a table where a function says that there is one, until the host shuts down. Nothing happens for other functions, and where
 * something else is.
 */
export function placeOpRegion(host: Host, fn: EmulatedFunction): void {
  const address = fn.config.get(ADDRESS, 4);
  const isDisplay = fn.config.get(Reg.VENDOR_ID, 2) === INTEL && fn.config.get(Reg.REVISION_ID, 4) >>> 24 === DISPLAY;
  if (!isDisplay || address === 0 || address === NOTHING) return;
  const start = Math.floor(address / PAGE_SIZE);
  const pages = Math.ceil((address + SIZE) / PAGE_SIZE) - start;
  const memory = new Uint8Array(pages * PAGE_SIZE);
  memory.set(emptyTable(), address - start * PAGE_SIZE);
  try {
    const window = host.memory.addMmio(start, pages, {
      read: (offset, into) => into.set(memory.subarray(offset, offset + into.length)),
      write: (offset, from) => memory.set(from, offset),
    });
    host.atShutdown(async () => window[Symbol.dispose]());
  } catch (error) {
    if (!isSystemError(error, 'EBUSY')) throw error;
  }
}

function emptyTable(): Uint8Array {
  const table = new DataView(new ArrayBuffer(SIZE));
  for (const [at, letter] of [...SIGNATURE].entries()) table.setUint8(at, letter.charCodeAt(0));
  table.setUint32(At.SIZE, SIZE / KILOBYTE, true);
  table.setUint16(At.VERSION, VERSION_2_0, true);
  return new Uint8Array(table.buffer);
}
