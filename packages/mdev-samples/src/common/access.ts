/**
 * How the three samples serve read() and write() of a device file: the range is cut into accesses of four, two and one
 * byte, each at a position that is a multiple of its width, and the device sees one access after the other.
 */
import { VfioError } from '@vfio/core';
import type { UserBuffer } from '@vfio/host';

/** Width of one access, in bytes. */
export type AccessWidth = 1 | 2 | 4;

/** One access to whatever lies at a position of the device file. Values are little-endian and unsigned. */
export interface AccessTarget {
  /**
   * Reads what is at a position.
   *
   * @param position - byte of the device file, a multiple of `width`
   * @returns the value, or undefined where there is nothing to access
   */
  readAccess(position: number, width: AccessWidth): number | undefined;
  /**
   * Writes to a position.
   *
   * @param position - byte of the device file, a multiple of `width`
   * @param value - the bytes written, the first one lowest
   * @returns false where there is nothing to access
   */
  writeAccess(position: number, width: AccessWidth, value: number): boolean;
}

/**
 * Reads `buffer.length` bytes.
 *
 * @returns the bytes read: always all of them
 * @throws EFAULT - an access found nothing, or the caller's memory ended; the accesses before it have happened
 * @source samples/vfio-mdev/mtty.c mtty_read(), mdpy.c mdpy_read(), mbochs.c mbochs_read()
 */
export function readInSteps(target: AccessTarget, buffer: UserBuffer, position: number): number {
  const { bytes, length } = buffer;
  let done = 0;
  while (done < length) {
    const width = widthAt(position + done, length - done);
    const value = target.readAccess(position + done, width);
    if (value === undefined) throw nothingAt(position + done);
    for (let i = 0; i < width; i++) {
      // the access happened, so its effect stays even when the value can not be handed over
      if (done + i >= bytes.length) throw outOfMemory(done + i);
      bytes[done + i] = value >>> (8 * i);
    }
    done += width;
  }
  return done;
}

/**
 * Writes `buffer.length` bytes.
 *
 * @returns the bytes written: always all of them
 * @throws EFAULT - an access found nothing, or the caller's memory ended; the accesses before it have happened
 * @source samples/vfio-mdev/mtty.c mtty_write(), mdpy.c mdpy_write(), mbochs.c mbochs_write()
 */
export function writeInSteps(target: AccessTarget, buffer: UserBuffer, position: number): number {
  const { bytes, length } = buffer;
  let done = 0;
  while (done < length) {
    const width = widthAt(position + done, length - done);
    if (done + width > bytes.length) throw outOfMemory(bytes.length);
    let value = 0;
    for (let i = width - 1; i >= 0; i--) value = ((value << 8) | (bytes[done + i] ?? 0)) >>> 0;
    if (!target.writeAccess(position + done, width, value)) throw nothingAt(position + done);
    done += width;
  }
  return done;
}

function widthAt(position: number, left: number): AccessWidth {
  if (left >= 4 && position % 4 === 0) return 4;
  if (left >= 2 && position % 2 === 0) return 2;
  return 1;
}

function nothingAt(position: number): VfioError {
  return new VfioError('EFAULT', `nothing can be accessed at 0x${position.toString(16)}`);
}

function outOfMemory(accessible: number): VfioError {
  return new VfioError('EFAULT', `only ${accessible} bytes of the buffer are accessible`);
}
