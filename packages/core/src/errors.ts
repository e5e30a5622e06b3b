/**
 * The error that VFIO fails with: the shape of Node's own system errors, with the kernel's errno. Callers look at `code`.
 */
import { type ErrnoCode, isSystemError, SystemError } from '@vfio/host';

const vfioErrorMark = Symbol.for('vfio.VfioError');

/**
 * A failure that the kernel's VFIO reports as `-errno`.
 *
 * ```ts
 * throw new VfioError('EBUSY', 'group has 2 open devices', { syscall: 'VFIO_GROUP_UNSET_CONTAINER', subject: 'group 26' });
 * // EBUSY: group has 2 open devices, VFIO_GROUP_UNSET_CONTAINER 'group 26'
 * ```
 */
export class VfioError extends SystemError {
  override readonly name: string = 'VfioError';

  /** The mark that `isVfioError` looks for. */
  get [vfioErrorMark](): true {
    return true;
  }
}

/**
 * Tells whether something caught is a `VfioError`, from whichever copy of this package.
 *
 * @param code - when given, the error must also carry this code
 */
export function isVfioError(error: unknown, code?: ErrnoCode): error is VfioError {
  return isSystemError(error, code) && vfioErrorMark in error;
}
