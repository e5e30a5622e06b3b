/** Errors that the kernel loses on their way up. */
import { isSystemError, SystemError } from '@vfio/host';

/**
 * Runs a step whose kernel counterpart answers with a pointer: where there is none, the caller takes any failure for a
 * lack of memory.
 *
 * @throws ENOMEM - the step failed; why is in `cause`
 */
export function noMemory<T>(step: () => T): T {
  try {
    return step();
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw new SystemError('ENOMEM', cause.reason, { cause });
  }
}
