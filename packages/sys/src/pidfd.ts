// Descriptors of other processes, and of their files.

import { SyscallNumber } from './constants.js';
import { Fd } from './fd.js';
import type { Linux } from './linux.js';

/**
 * A descriptor of a process; readable when it has ended.
 *
 * @throws SystemError ESRCH - there is no such process
 * @source kernel/pid.c pidfd_open()
 */
export function pidfdOpen(linux: Linux, pid: number): Fd {
  const number = linux.check(linux.calls.syscall(SyscallNumber.PIDFD_OPEN, pid, 0, 0, 0, 0, 0), 'pidfd_open', pid);
  return new Fd(linux, number, 'pidfd');
}

/**
 * A copy of another process' descriptor.
 *
 * @throws SystemError EBADF - it has no such descriptor
 * @throws SystemError EPERM - that process may not be traced by this one
 * @throws SystemError ESRCH - it has ended
 * @source kernel/pid.c pidfd_getfd()
 */
export function pidfdGetfd(linux: Linux, pidfd: Fd, fd: number): Fd {
  const number = linux.calls.syscall(SyscallNumber.PIDFD_GETFD, pidfd.number, fd, 0, 0, 0, 0);
  return new Fd(linux, linux.check(number, 'pidfd_getfd', fd), 'copy of a descriptor');
}
