// System calls as a script sees them: a result, or an errno by the name that transcripts have for it.

import { Errno, type ErrnoCode, isSystemError } from '@vfio/host';
import type { StepResult } from './transcript.js';

/** How a call ended. */
export type Outcome<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly errno: string };

/** Errors that the recordings call by name. */
// biome-ignore format: a table reads in columns
const recordedNames: readonly ErrnoCode[] = [
  'EPERM', 'ENOENT', 'ESRCH', 'EINTR', 'EIO', 'ENXIO', 'E2BIG', 'ENOEXEC', 'EBADF', 'ECHILD', 'EAGAIN', 'ENOMEM', 'EACCES',
  'EFAULT', 'ENOTBLK', 'EBUSY', 'EEXIST', 'EXDEV', 'ENODEV', 'ENOTDIR', 'EISDIR', 'EINVAL', 'ENFILE', 'EMFILE', 'ENOTTY',
  'ETXTBSY', 'EFBIG', 'ENOSPC', 'ESPIPE', 'EROFS', 'EMLINK', 'EPIPE', 'EDOM', 'ERANGE', 'EDEADLK', 'ENAMETOOLONG', 'ENOLCK',
  'ENOSYS', 'ENOTEMPTY', 'ELOOP', 'ENOMSG', 'EIDRM', 'ENODATA', 'ETIME', 'ENOLINK', 'EPROTO', 'EBADMSG', 'EOVERFLOW',
  'ENOTUNIQ', 'EBADFD', 'EILSEQ', 'EUSERS', 'ENOTSOCK', 'EOPNOTSUPP', 'EADDRINUSE', 'EADDRNOTAVAIL', 'ETIMEDOUT',
  'ECONNREFUSED', 'EALREADY', 'EINPROGRESS', 'EMSGSIZE', 'ESTALE', 'EREMOTEIO', 'EDQUOT', 'ECANCELED', 'ENOTSUPP',
];

const nameByNumber: ReadonlyMap<number, string> = new Map(recordedNames.map((name) => [Errno[name], name]));

/** The name that transcripts have for an error number of either sign: `E` and the number if the recordings had no name for it. */
export function transcriptErrno(errno: number): string {
  const number = Math.abs(errno);
  return nameByNumber.get(number) ?? `E${number}`;
}

/**
 * Makes a call and turns an answer with an errno into a value. Anything else that is thrown is a bug of whoever threw
 * it, and goes on.
 */
export async function attempt<T>(call: () => T | Promise<T>): Promise<Outcome<T>> {
  try {
    return { ok: true, value: await call() };
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return { ok: false, errno: transcriptErrno(error.errno) };
  }
}

/**
 * Writes the end of a call to a step: `ret` and, after an error, `errno`.
 *
 * @param as - what stands for the value of a call that succeeded; the value itself, or 0, if it is not given
 */
export function showOutcome(result: StepResult, outcome: Outcome<unknown>, as?: string | number): void {
  if (!outcome.ok) {
    result.ret = -1;
    result.errno = outcome.errno;
  } else if (as !== undefined) {
    result.ret = as;
  } else {
    const { value } = outcome;
    result.ret = typeof value === 'number' || typeof value === 'bigint' ? value : 0;
  }
}
