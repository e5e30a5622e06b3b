// Looks into the memory of a process without disturbing it, as strace does: what can not be read is left out.

import { type AddressSpace, isSystemError } from '@vfio/host';

/** Bytes of an argument that are looked at, at most. */
export const longestArgument = 1 << 16;

const pageSize = 4096n;

/**
 * Reads memory up to the first byte that can not be read.
 *
 * @returns at most `length` bytes, none if not even the first is there
 */
export function peek(memory: AddressSpace, address: bigint, length: number): Uint8Array {
  let fitting = 0;
  let tooLong = Math.min(length, longestArgument) + 1;
  let bytes: Uint8Array = new Uint8Array(0);
  for (let tried = tooLong - 1; tried > fitting; tried = Math.floor((fitting + tooLong) / 2)) {
    const found = attempt(memory, address, tried);
    if (found) {
      fitting = tried;
      bytes = found;
    } else tooLong = tried;
    if (tooLong - fitting <= 1) break;
  }
  return bytes;
}

/** A text that ends with a zero, or undefined where there is none. */
export function peekText(memory: AddressSpace, address: bigint): string | undefined {
  const chunks: number[] = [];
  for (let at = address; chunks.length < Number(pageSize); ) {
    const toPageEnd = Number(pageSize - (at % pageSize));
    const bytes = peek(memory, at, toPageEnd);
    const end = bytes.indexOf(0);
    if (end >= 0) return new TextDecoder().decode(Uint8Array.from([...chunks, ...bytes.subarray(0, end)]));
    if (bytes.length < toPageEnd) return undefined;
    chunks.push(...bytes);
    at += BigInt(toPageEnd);
  }
  return undefined;
}

function attempt(memory: AddressSpace, address: bigint, length: number): Uint8Array | undefined {
  if (length === 0) return new Uint8Array(0);
  try {
    return memory.copyFrom(address, length);
  } catch (error) {
    if (isSystemError(error, 'EFAULT')) return undefined;
    throw error;
  }
}
