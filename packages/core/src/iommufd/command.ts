/**
 * A request of iommufd on its way: its struct as the kernel knows it, of which the caller may know less or more. The first
 * field says how many bytes the caller has.
 */
import type { IoctlCall } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { Fields, InitOf, Struct, ValueOf } from '../uapi/struct.js';
import { copyStruct } from '../user-args.js';
import type { IommufdContext } from './context.js';

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
