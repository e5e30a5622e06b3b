/** Values in memory, the lowest byte first. */
import type { AccessWidth } from './access.js';

/** The unsigned value of `width` bytes; those that `bytes` does not have are 0. */
export function loadLittle(bytes: Uint8Array, offset: number, width: AccessWidth): number {
  let value = 0;
  for (let i = width - 1; i >= 0; i--) value = ((value << 8) | (bytes[offset + i] ?? 0)) >>> 0;
  return value;
}

/** Stores the lowest `width` bytes of a value; those that `bytes` has no room for are lost. */
export function storeLittle(bytes: Uint8Array, offset: number, width: AccessWidth, value: number): void {
  for (let i = 0; i < width; i++) bytes[offset + i] = value >>> (8 * i);
}
