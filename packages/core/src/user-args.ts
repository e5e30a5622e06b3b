// How requests take their arguments from a caller's memory.

import type { IoctlCall } from '@vfio/host';
import { VfioError } from './errors.js';

/**
 * Copies the first `length` bytes of a structure whose first field is its size as the caller knows it.
 *
 * @param length - bytes that the request needs at least
 * @throws EFAULT - not readable
 * @throws EINVAL - the caller's `argsz` is smaller
 */
export function copyArgsz(call: IoctlCall, length: number): Uint8Array {
  const bytes = call.copyIn(length);
  const argsz = new DataView(bytes.buffer, bytes.byteOffset).getUint32(0, call.order === 'little');
  if (argsz < length) throw new VfioError('EINVAL', `argsz is ${argsz}, ${length} are needed`, { syscall: 'ioctl' });
  return bytes;
}

const pageSize = 4096;

/** Bytes from an address to the end of its page: memory is looked at no further, as the next page may not be there. */
function leftInPage(address: bigint): number {
  return pageSize - Number(address % BigInt(pageSize));
}

/**
 * Copies a structure of which the caller may know more or less than the kernel does.
 *
 * @param size - bytes that the kernel knows
 * @param userSize - bytes that the caller says it has
 * @returns as many bytes as both know
 * @throws EFAULT - not readable
 * @throws E2BIG - the caller's is longer, and not zero there
 * @source include/linux/uaccess.h copy_struct_from_user()
 */
export function copyStruct(call: IoctlCall, size: number, userSize: number): Uint8Array {
  for (let at = size; at < userSize; ) {
    const tail = call.copyIn(Math.min(leftInPage(call.arg + BigInt(at)), userSize - at), at);
    if (tail.some((byte) => byte !== 0)) {
      throw new VfioError('E2BIG', `bytes after ${size} are not 0`, { syscall: 'ioctl' });
    }
    at += tail.length;
  }
  return call.copyIn(Math.min(size, userSize));
}

/**
 * Copies a string with its end from the address that the request gave.
 *
 * @param limit - bytes that it may have, with its end
 * @throws EFAULT - not readable up to its end
 * @throws EINVAL - longer than the limit
 * @source mm/util.c strndup_user()
 */
export function userString(call: IoctlCall, limit: number): string {
  const pieces: Uint8Array[] = [];
  for (let taken = 0; taken < limit; ) {
    const room = leftInPage(call.arg + BigInt(taken));
    const { bytes } = call.process.mm.userBuffer(call.arg + BigInt(taken), Math.min(room, limit - taken), 'read');
    const end = bytes.indexOf(0);
    if (end >= 0) {
      pieces.push(bytes.subarray(0, end));
      return Buffer.concat(pieces).toString('latin1');
    }
    if (bytes.length < Math.min(room, limit - taken))
      throw new VfioError('EFAULT', 'the string is not readable', { syscall: 'ioctl' });
    pieces.push(bytes);
    taken += bytes.length;
  }
  throw new VfioError('EINVAL', `the string is longer than ${limit} bytes`, { syscall: 'ioctl' });
}
