// Files that are memory, and what can be done to a descriptor of any file.

import { fstatSync } from 'node:fs';
import { isErrnoCode, SystemError } from '@vfio/host';
import { Fcntl, Mfd, OpenFlag, Seal } from './constants.js';
import { Fd } from './fd.js';
import type { Linux } from './linux.js';

/**
 * Memory with a descriptor, of zeros.
 *
 * @param length - bytes
 * @param seals - Seal bits, set at once; SHRINK for memory that another process maps
 * @throws SystemError - EMFILE, ENFILE, ENOMEM
 */
export function memfd(linux: Linux, name: string, length: number, seals = 0): Fd {
  const { calls } = linux;
  const flags = Mfd.CLOEXEC | Mfd.ALLOW_SEALING;
  const file = new Fd(linux, linux.check(calls.memfd_create(name, flags), 'memfd_create', name), `memfd ${name}`);
  try {
    linux.check(calls.ftruncate(file.number, length), 'ftruncate', file.number);
    if (seals !== 0) linux.check(calls.fcntl(file.number, Fcntl.ADD_SEALS, seals), 'fcntl', file.number);
    return file;
  } catch (error) {
    file.close();
    throw error;
  }
}

/** A second descriptor of the same open file. */
export function dup(linux: Linux, fd: number, what = 'copy'): Fd {
  return new Fd(linux, linux.check(linux.calls.fcntl(fd, Fcntl.DUPFD_CLOEXEC, 0), 'fcntl', fd), what);
}

/** What is known of a file. */
export interface FileStat {
  /** Bytes. */
  readonly size: number;
  /** Identity: two descriptors of the same file agree in both. */
  readonly dev: bigint;
  readonly ino: bigint;
  /** Whether it is a regular file, as memfds are. */
  readonly regular: boolean;
  readonly socket: boolean;
}

/**
 * What is known of an open file.
 *
 * @throws SystemError EBADF - it is not open
 */
export function fstat(fd: number): FileStat {
  try {
    const stat = fstatSync(fd, { bigint: true });
    return {
      size: Number(stat.size),
      dev: stat.dev,
      ino: stat.ino,
      regular: stat.isFile(),
      socket: stat.isSocket(),
    };
  } catch (cause) {
    const code = cause instanceof Error && 'code' in cause && typeof cause.code === 'string' ? cause.code : 'EIO';
    throw new SystemError(isErrnoCode(code) ? code : 'EIO', 'the file can not be examined', {
      syscall: 'fstat',
      subject: String(fd),
      cause,
    });
  }
}

/** Whether nobody can make a file shorter. */
export function isShrinkSealed(linux: Linux, fd: number): boolean {
  const seals = linux.calls.fcntl(fd, Fcntl.GET_SEALS, 0);
  return seals >= 0 && (seals & Seal.SHRINK) !== 0;
}

/** For what a descriptor is open. */
export function accessOf(linux: Linux, fd: number): { read: boolean; write: boolean } {
  const mode = linux.check(linux.calls.fcntl(fd, Fcntl.GETFL, 0), 'fcntl', fd) & OpenFlag.ACCMODE;
  return { read: mode !== OpenFlag.WRONLY, write: mode !== OpenFlag.RDONLY };
}
