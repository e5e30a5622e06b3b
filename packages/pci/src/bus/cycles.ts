/*
 * How bytes are cut into cycles. One cycle has 1, 2 or 4 naturally aligned bytes; what is longer is several of them, low half first,
 * unless the function tells eight bytes from two times four.
 */
import type { PciFunction, PciWidth } from './function.js';

const HALF = 0xffff_ffffn;

/** The widest cycle at `offset` that `left` bytes have room for. */
export function widthAt(offset: number, left: number): PciWidth {
  if (left >= 4 && offset % 4 === 0) return 4;
  return left >= 2 && offset % 2 === 0 ? 2 : 1;
}

/** Eight bytes of a BAR. */
export function readBar64(hw: PciFunction, bar: number, offset: number): bigint {
  if (hw.readBar64) return hw.readBar64(bar, offset);
  const low = BigInt(hw.readBar(bar, offset, 4) >>> 0);
  return (BigInt(hw.readBar(bar, offset + 4, 4) >>> 0) << 32n) | low;
}

/** As `readBar64`; what does not fit eight bytes is cut off. */
export function writeBar64(hw: PciFunction, bar: number, offset: number, value: bigint): void {
  if (hw.writeBar64) {
    hw.writeBar64(bar, offset, value);
    return;
  }
  hw.writeBar(bar, offset, 4, Number(value & HALF));
  hw.writeBar(bar, offset + 4, 4, Number((value >> 32n) & HALF));
}
