// Waiting for many descriptors at once.

import { Errno } from '@vfio/host';
import { EPOLL_CLOEXEC, EpollCtl, SyscallNumber } from './constants.js';
import { Fd } from './fd.js';
import type { Linux } from './linux.js';
import type { NativeMemory } from './memory.js';

/** Most descriptors that one wait tells of; the others come with the next. */
const mostEvents = 64;
/** `struct timespec`: seconds, which are 0 here, and nanoseconds. */
const timespecBytes = 16;
const nanoseconds = 8;

/** A list of descriptors with what is awaited of each. */
export class Epoll extends Fd {
  /** `struct epoll_event` is packed on x86-64 and aligned elsewhere. */
  readonly #eventBytes = process.arch === 'x64' ? 12 : 16;
  readonly #dataAt = process.arch === 'x64' ? 4 : 8;
  readonly #memory: NativeMemory;

  constructor(linux: Linux) {
    super(linux, linux.check(linux.calls.epoll_create1(EPOLL_CLOEXEC), 'epoll_create1'), 'epoll');
    // behind them the argument of changes, and a time
    this.#memory = linux.memory((mostEvents + 1) * this.#eventBytes + timespecBytes, 'events');
  }

  /**
   * Adds a descriptor.
   *
   * @param events - PollEvent bits; errors and hang-ups are always told
   * @throws SystemError EEXIST - it is there
   * @throws SystemError EPERM - a file that is never awaited, such as one on a disk
   */
  add(fd: number, events: number): void {
    this.#change(EpollCtl.ADD, fd, events);
  }

  /** Changes what is awaited. */
  modify(fd: number, events: number): void {
    this.#change(EpollCtl.MOD, fd, events);
  }

  /** Takes a descriptor out. To be done before it is closed: a copy of it elsewhere would keep it here. */
  remove(fd: number): void {
    this.#change(EpollCtl.DEL, fd, 0);
  }

  /**
   * Waits.
   *
   * @param timeoutMs - 0 does not wait, -1 has no end
   * @returns how many descriptors something happened on; a signal ends the wait with none
   */
  wait(timeoutMs: number): number {
    const { linux } = this;
    const count = linux.calls.epoll_wait(this.number, this.#memory.address, mostEvents, timeoutMs);
    if (count >= 0) return count;
    if (linux.errno() === Errno.EINTR) return 0;
    throw linux.failure('epoll_wait', this.number);
  }

  /**
   * Waits for less than a millisecond.
   *
   * @returns as {@link wait}; 0 at once on kernels before 5.11, which can not
   */
  waitBriefly(microseconds: number): number {
    const { linux } = this;
    const { view, address } = this.#memory;
    const at = (mostEvents + 1) * this.#eventBytes;
    view.setUint32(at + nanoseconds, microseconds * 1000, true);
    const call = SyscallNumber.EPOLL_PWAIT2;
    const count = linux.calls.syscall(call, this.number, address, mostEvents, address + at, 0, 0);
    if (count >= 0) return count;
    const errno = linux.errno();
    if (errno === Errno.EINTR || errno === Errno.ENOSYS) return 0;
    throw linux.failure('epoll_pwait2', this.number);
  }

  /** The descriptor of an event of the last wait. */
  fdAt(index: number): number {
    return this.#memory.view.getInt32(index * this.#eventBytes + this.#dataAt, true);
  }

  /** PollEvent bits of an event of the last wait. */
  eventsAt(index: number): number {
    return this.#memory.view.getUint32(index * this.#eventBytes, true);
  }

  override close(): void {
    super.close();
    this.#memory[Symbol.dispose]();
  }

  #change(operation: number, fd: number, events: number): void {
    const { view, address } = this.#memory;
    const at = mostEvents * this.#eventBytes;
    view.setUint32(at, events, true);
    view.setInt32(at + this.#dataAt, fd, true);
    const { linux } = this;
    linux.check(linux.calls.epoll_ctl(this.number, operation, fd, address + at), 'epoll_ctl', fd);
  }
}
