/**
 * A request of iommufd on its way: its struct as the kernel knows it, of which the caller may know less or more. The first
 * field says how many bytes the caller has.
 */
import { type IoctlCall, isSystemError } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { Fields, InitOf, Struct, ValueOf } from '../uapi/struct.js';
import type { IommufdContext } from './context.js';

/** Bytes that are looked at in one go when the caller's struct is longer than the kernel's. */
const CHUNK = 4096;

/** A request with its arguments. Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_ucmd */
export interface Command<F extends Fields> {
  readonly context: IommufdContext;
  readonly call: IoctlCall;
  readonly args: ValueOf<F>;
  /**
   * Writes the struct back, as much of it as the caller has.
   *
   * @throws EFAULT - not writable
   */
  respond(value: InitOf<F>): void;
}

/** A request of the table. */
export interface CommandOp {
  /** Runs the request of a caller who has `userSize` bytes. */
  run(context: IommufdContext, call: IoctlCall, userSize: number): Promise<void>;
}

/**
 * Copies a struct in.
 *
 * @param size - bytes that the kernel knows
 * @returns as many bytes as both know
 * @throws EFAULT - not readable
 * @throws E2BIG - the caller's struct is longer, and not zero there
 * @source include/linux/uaccess.h copy_struct_from_user()
 */
function copyStruct(call: IoctlCall, size: number, userSize: number): Uint8Array {
  for (let at = size; at < userSize; at += CHUNK) {
    const tail = call.copyIn(Math.min(CHUNK, userSize - at), at);
    if (tail.some((byte) => byte !== 0)) {
      throw new VfioError('E2BIG', `bytes after ${size} are not 0`, { syscall: 'ioctl' });
    }
  }
  return call.copyIn(Math.min(size, userSize));
}

/**
 * Makes a request of the table.
 *
 * @param layout - its struct
 * @param last - the last field that a caller has to know
 * @source drivers/iommu/iommufd/main.c IOCTL_OP()
 */
export function commandOp<F extends Fields>(
  layout: Struct<F>,
  last: Extract<keyof F, string>,
  execute: (command: Command<F>) => void | Promise<void>,
): CommandOp {
  const minimum = layout.endOf(last);
  return {
    async run(context, call, userSize) {
      if (userSize < minimum) {
        throw new VfioError('EINVAL', `${layout.name}: size ${userSize}, at least ${minimum}`, { syscall: 'ioctl' });
      }
      const args = layout.decode(copyStruct(call, layout.size, userSize), call.order);
      const respond = (value: InitOf<F>) => {
        call.copyOut(layout.encode(value, call.order).subarray(0, userSize));
      };
      await execute({ context, call, args, respond });
    },
  };
}

/** Rethrows what is no failure of the kernel. */
export function assertSystemError(error: unknown): void {
  if (!isSystemError(error)) throw error;
}
