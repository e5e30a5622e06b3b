/*
 * A process of the host: who it is, its memory, its descriptors, and the system calls. A call fails with a
 * SystemError that names the call and what it was made on. Each call is a task of its own for the lock checker, and
 * a process that is killed ends when the calls it is in have returned.
 */
import { isSystemError, SystemError } from '../errors.js';
import { EventFd, EventFdFile } from '../fs/eventfd.js';
import { FileTable } from '../fs/file-table.js';
import { MAX_OFFSET, O, Seek } from '../fs/flags.js';
import { type PollRequest, pollFiles } from '../fs/poll.js';
import type { Vfs } from '../fs/vfs.js';
import type { Host } from '../host.js';
import type { AddressSpace } from '../mm/address-space.js';
import type { ByteOrder, Prot } from '../mm/layout.js';
import type { Credentials } from './credentials.js';
import { descriptorIoctl } from './descriptor-ioctl.js';
import type { LimitName, Limits } from './limits.js';
import { type FileMmapOptions, mapFile } from './map-file.js';
import {
  changeMode,
  changeOwner,
  type DirectoryEntry,
  readDirectory,
  readLink,
  readWhole,
  type Stat,
  statFile,
  statOf,
  writeOnce,
} from './path-calls.js';
import type { ProcessTable } from './process-table.js';
import type { SyscallArguments } from './syscalls.js';
import { type TransferBuffer, transfer } from './transfer.js';

/** What a process is made of. */
export interface ProcessParts {
  readonly pid: number;
  readonly comm: string;
  readonly parent: Process | undefined;
  readonly credentials: Credentials;
  readonly limits: Limits;
  readonly mm: AddressSpace;
}

/** How an eventfd is made. */
export interface EventFdFlags {
  readonly semaphore?: boolean;
  readonly nonblock?: boolean;
  readonly cloexec?: boolean;
}

/** How a process ended: with a code, or by a signal. */
export interface ExitStatus {
  readonly code: number;
  readonly signal?: 'SIGKILL';
}

/** Of a call that tells observers itself, once its argument has an address. */
const watchedInside = Symbol('watched inside');

/** A process. `host.spawn()` and `fork()` make one. */
export class Process {
  readonly host: Host;
  readonly pid: number;
  /** Name, at most 15 bytes, as in /proc/<pid>/comm. */
  comm: string;
  readonly parent: Process | undefined;
  readonly credentials: Credentials;
  readonly limits: Limits;
  readonly mm: AddressSpace;
  readonly files: FileTable;
  /** The name space that paths are looked up in. */
  readonly vfs: Vfs;
  /** Permission bits that a file it makes does not get. */
  umask = 0o022;
  readonly #table: ProcessTable;
  readonly #killed = new AbortController();
  /** Calls that have not returned. */
  #underWay = 0;
  /** Called when they all have, once somebody waits for that. */
  #allReturned: (() => void) | undefined;
  readonly #task: string;
  #exiting: Promise<void> | undefined;
  #status: ExitStatus | undefined;

  /** Called by {@link ProcessTable}. */
  constructor(table: ProcessTable, parts: ProcessParts) {
    this.#table = table;
    this.host = table.host;
    this.vfs = table.vfs;
    this.pid = parts.pid;
    this.comm = parts.comm.slice(0, 15);
    this.parent = parts.parent;
    this.credentials = parts.credentials;
    this.limits = parts.limits;
    this.mm = parts.mm;
    this.files = new FileTable(this.host, this.limits);
    this.#task = `${this.comm}/${this.pid}`;
  }

  /** Byte order of the program, and so of the structs it passes. */
  get byteOrder(): ByteOrder {
    return this.mm.byteOrder;
  }

  /** Aborted when the process is killed or exits: whoever waits on its behalf stops waiting. */
  get signal(): AbortSignal {
    return this.#killed.signal;
  }

  /** How it ended; undefined while it lives. */
  get exitStatus(): ExitStatus | undefined {
    return this.#status;
  }

  /**
   * Opens a path.
   *
   * @param flags - {@link O} bits
   * @param mode - permissions of a file that is made
   * @returns the descriptor
   */
  open(path: string, flags: number, mode = 0): Promise<number> {
    const run = async () => {
      const fd = this.files.reserve();
      try {
        const file = await this.vfs.open(this, path, flags, mode);
        this.files.install(fd, file, { cloexec: (flags & O.CLOEXEC) !== 0 });
        return fd;
      } catch (error) {
        this.files.unreserve(fd);
        throw error;
      }
    };
    return this.#call('open', path, run, { path, flags, mode });
  }

  /** Closes a descriptor; resolves when the file is released, if this was the last reference. */
  close(fd: number): Promise<void> {
    return this.#call('close', fd, async () => {
      await this.files.remove(fd).put();
    });
  }

  /** A second descriptor for the same open file description. */
  dup(fd: number, options: { cloexec?: boolean } = {}): number {
    return this.#callNow('dup', fd, () => {
      const file = this.files.getRaw(fd);
      const copy = this.files.reserve();
      this.files.install(copy, file.get(), options);
      return copy;
    });
  }

  /**
   * Performs an ioctl.
   *
   * @param arg - a number or an address of this process, or the bytes of a struct: those are changed in place, and
   *   any access past their end is EFAULT
   */
  ioctl(fd: number, request: number, arg: bigint | number | Uint8Array = 0n): Promise<number> {
    const { syscalls } = this.host;
    const run = (addr: bigint) => {
      const perform = () => descriptorIoctl(this, fd, request, addr);
      if (!syscalls.watched) return perform();
      return syscalls.call({ process: this, name: 'ioctl', args: { fd, request, arg: addr } }, perform);
    };
    const withArgument = () => (arg instanceof Uint8Array ? this.mm.withBytes(arg, run) : run(BigInt(arg)));
    return this.#call('ioctl', fd, withArgument, watchedInside);
  }

  /** Reads at an offset. Answers at once when the file does. */
  pread(fd: number, into: TransferBuffer, offset: number | bigint): number | Promise<number> {
    return this.#transfer('pread', fd, into, offset, false);
  }

  /** Writes at an offset. Answers at once when the file does. */
  pwrite(fd: number, from: TransferBuffer, offset: number | bigint): number | Promise<number> {
    return this.#transfer('pwrite', fd, from, offset, true);
  }

  /** Reads at the file's position, which moves on. */
  read(fd: number, into: TransferBuffer): number | Promise<number> {
    return this.#transfer('read', fd, into, undefined, false);
  }

  /** Writes at the file's position, which moves on. */
  write(fd: number, from: TransferBuffer): number | Promise<number> {
    return this.#transfer('write', fd, from, undefined, true);
  }

  /**
   * Moves the file's position.
   *
   * @param whence - one of {@link Seek}
   * @returns the new position
   */
  lseek(fd: number, offset: number | bigint, whence: number): number {
    return this.#callNow('lseek', fd, () => {
      const file = this.files.get(fd);
      if (whence < Seek.SET || whence > Seek.END) throw new SystemError('EINVAL', `whence ${whence}`);
      if (file.seek === 'none' || file.seek === 'stream')
        throw new SystemError('ESPIPE', `${file.label} has no position`);
      if (file.llseek !== undefined) return file.llseek(Number(offset), whence);
      if (file.seek === 'noop') return file.position;
      const base =
        whence === Seek.SET ? 0 : whence === Seek.CUR ? file.position : (file.size?.() ?? file.node?.size ?? 0);
      const position = BigInt(base) + BigInt(offset);
      if (position < 0n || position > MAX_OFFSET) throw new SystemError('EINVAL', `position ${position}`);
      file.position = Number(position);
      return file.position;
    });
  }

  /** Maps a file; the address. `mm.mmap` maps anonymous memory. */
  mmap(fd: number, options: FileMmapOptions): Promise<bigint> {
    const lowAddresses = this.credentials.capable('SYS_RAWIO');
    const { addr = 0n, length, prot, shared = true, offset = 0 } = options;
    const args = { addr, length, prot, shared: Number(shared), fd, offset };
    return this.#call('mmap', fd, () => mapFile(this, fd, { ...options, lowAddresses }), args);
  }

  /** Unmaps a range; resolves when the files that this was the last reference to are released. */
  munmap(addr: bigint, length: number | bigint): Promise<void> {
    const run = async () => {
      this.mm.munmap(addr, length);
      await this.mm.settled();
    };
    return this.#call('munmap', hex(addr), run, { addr, length });
  }

  /** Changes the protection of a range. */
  mprotect(addr: bigint, length: number | bigint, prot: Prot): void {
    this.#callNow('mprotect', hex(addr), () => this.mm.mprotect(addr, length, prot), { addr, length, prot });
  }

  /**
   * Waits until a descriptor is ready.
   *
   * @param timeoutMs - 0: does not wait; negative: waits for ever
   * @returns for each request the {@link Poll} bits that are true
   */
  poll(requests: readonly PollRequest[], timeoutMs: number): Promise<number[]> {
    return this.#call('poll', undefined, () => pollFiles(this, requests, timeoutMs));
  }

  /** Makes an event counter; its descriptor. */
  eventfd(initial = 0, flags: EventFdFlags = {}): number {
    return this.#callNow('eventfd2', undefined, () => {
      this.host.faults.check('do_eventfd:context');
      const fd = this.files.reserve();
      const event = new EventFd(this.host, initial, flags);
      const options = { nonblock: flags.nonblock === true, id: this.#table.nextEventfdId() };
      this.files.install(fd, new EventFdFile(this.host, event, options), flags);
      return fd;
    });
  }

  /** State of what a path leads to. */
  stat(path: string): Stat {
    return this.#callNow('stat', path, () => statOf(this, this.vfs.resolve(this, path).node));
  }

  /** State of a path itself, also when it is a link. */
  lstat(path: string): Stat {
    return this.#callNow('lstat', path, () => statOf(this, this.vfs.resolve(this, path, { follow: false }).node));
  }

  /** State of what a descriptor was opened on. */
  fstat(fd: number): Stat {
    return this.#callNow('fstat', fd, () => statFile(this, this.files.getRaw(fd)));
  }

  /** Names in a directory, with their kinds. */
  readdir(path: string): DirectoryEntry[] {
    return this.#callNow('getdents64', path, () => readDirectory(this, path));
  }

  /** Text of a link. */
  readlink(path: string): string {
    return this.#callNow('readlink', path, () => readLink(this, path));
  }

  chmod(path: string, mode: number): void {
    this.#callNow('chmod', path, () => changeMode(this, path, mode));
  }

  /** Changes owner and group; -1 leaves one as it is. */
  chown(path: string, uid: number, gid: number): void {
    this.#callNow('chown', path, () => changeOwner(this, path, uid, gid));
  }

  /** Text of a file, to its end. */
  readFile(path: string): Promise<string> {
    return this.#call('read', path, () => readWhole(this, path));
  }

  /** Writes text to a file that exists, in one write; the number of bytes it took. */
  writeFile(path: string, text: string): Promise<number> {
    return this.#call('write', path, () => writeOnce(this, path, text));
  }

  /**
   * Makes a child: it shares the open files and the shared memory, and has its own copy of the private memory.
   *
   * @param comm - name of the child, by default the parent's
   */
  fork(comm = this.comm): Process {
    return this.#callNow('clone', undefined, () => {
      const child = this.#table.adopt(this, comm);
      this.files.copyTo(child.files);
      return child;
    });
  }

  /** Closes the descriptors that do not outlive an exec. */
  execClose(): Promise<void> {
    return this.#call('execve', undefined, async () => {
      for (const fd of this.files.descriptors()) if (this.files.isCloexec(fd)) await this.files.remove(fd).put();
    });
  }

  /**
   * Ends the process: waits are interrupted, and when its calls have returned, memory is unmapped and descriptors
   * are closed in order. Not to be awaited within one of its own calls.
   */
  exit(code = 0): Promise<void> {
    return this.#exiting ?? this.#beginEnd({ code });
  }

  /** Ends the process from outside, as SIGKILL does. */
  kill(): Promise<void> {
    return this.#exiting ?? this.#beginEnd({ code: 0, signal: 'SIGKILL' });
  }

  /** Becomes another user; leaving user 0 drops all capabilities. */
  setuid(uid: number): void {
    this.#callNow('setuid', undefined, () => {
      this.#need('SETUID', uid === this.credentials.uid);
      this.credentials.setUid(uid);
    });
  }

  setgid(gid: number): void {
    this.#callNow('setgid', undefined, () => {
      this.#need('SETGID', gid === this.credentials.gid);
      this.credentials.setGid(gid);
    });
  }

  setgroups(groups: readonly number[]): void {
    this.#callNow('setgroups', undefined, () => {
      this.#need('SETGID', false);
      this.credentials.setGroups(groups);
    });
  }

  /** Sets a limit; the hard limit is the same unless given. */
  setrlimit(which: LimitName, soft: number | bigint, hard: number | bigint = soft): void {
    this.#callNow('setrlimit', which, () => {
      const mayRaise = this.credentials.capable('SYS_RESOURCE');
      this.limits.set(which, { soft: BigInt(soft), hard: BigInt(hard) }, mayRaise);
    });
  }

  #need(capability: 'SETUID' | 'SETGID', otherwise: boolean): void {
    if (otherwise || this.credentials.capable(capability)) return;
    throw new SystemError('EPERM', `needs CAP_${capability}`);
  }

  #transfer(
    syscall: string,
    fd: number,
    buffer: TransferBuffer,
    offset: number | bigint | undefined,
    write: boolean,
  ): number | Promise<number> {
    try {
      if (this.signal.aborted) throw hasExited(this);
      const { lockdep, syscalls } = this.host;
      if (syscalls.watched) return this.#watchedTransfer(syscall, fd, buffer, offset, write);
      const result = lockdep.enabled
        ? lockdep.run<number | Promise<number>>(this.#task, () => transfer(this, fd, buffer, offset, write))
        : transfer(this, fd, buffer, offset, write);
      return typeof result === 'number' ? result : this.#track(syscall, fd, result);
    } catch (error) {
      throw inCall(error, syscall, fd);
    }
  }

  /** As the data path, for somebody who listens. */
  #watchedTransfer(
    syscall: string,
    fd: number,
    buffer: TransferBuffer,
    offset: number | bigint | undefined,
    write: boolean,
  ): number | Promise<number> {
    const { lockdep, syscalls } = this.host;
    const args = { fd, addr: 'addr' in buffer ? buffer.addr : undefined, count: buffer.length, offset };
    const result = syscalls.callNow({ process: this, name: syscall, args, buffer }, () =>
      lockdep.run<number | Promise<number>>(this.#task, () => transfer(this, fd, buffer, offset, write)),
    );
    return typeof result === 'number' ? result : this.#track(syscall, fd, result);
  }

  /** A call that may wait. Its arguments are its subject unless given. */
  async #call<T>(
    syscall: string,
    subject: string | number | undefined,
    fn: () => Promise<T>,
    args?: SyscallArguments | typeof watchedInside,
  ): Promise<T> {
    if (this.signal.aborted) throw inCall(hasExited(this), syscall, subject);
    const { lockdep, syscalls } = this.host;
    const watched = syscalls.watched && args !== watchedInside;
    const result = watched
      ? syscalls.call({ process: this, name: syscall, args: args ?? subjectArgument(subject) }, () =>
          lockdep.run(this.#task, fn),
        )
      : lockdep.run(this.#task, fn);
    this.#underWay++;
    try {
      return await result;
    } catch (error) {
      throw inCall(error, syscall, subject);
    } finally {
      this.#returned();
    }
  }

  #returned(): void {
    this.#underWay--;
    if (this.#underWay === 0) this.#allReturned?.();
  }

  /** A call that answers at once. */
  #callNow<T>(syscall: string, subject: string | number | undefined, fn: () => T, args?: SyscallArguments): T {
    try {
      if (this.signal.aborted) throw hasExited(this);
      const { lockdep, syscalls } = this.host;
      const run = () => lockdep.run(this.#task, fn);
      if (!syscalls.watched) return run();
      return syscalls.callNow({ process: this, name: syscall, args: args ?? subjectArgument(subject) }, run);
    } catch (error) {
      throw inCall(error, syscall, subject);
    }
  }

  async #track<T>(syscall: string, subject: string | number | undefined, result: Promise<T>): Promise<T> {
    this.#underWay++;
    try {
      return await result;
    } catch (error) {
      throw inCall(error, syscall, subject);
    } finally {
      this.#returned();
    }
  }

  #beginEnd(status: ExitStatus): Promise<void> {
    // Known to be ending before anybody hears of it: who hears may want to end it too.
    this.#exiting = Promise.resolve().then(() => this.#end(status));
    this.#killed.abort(new SystemError('EINTR', 'the process was killed'));
    return this.#exiting;
  }

  async #end(status: ExitStatus): Promise<void> {
    if (this.#underWay > 0) {
      await new Promise<void>((resolve) => {
        this.#allReturned = resolve;
      });
    }
    // Memory goes before descriptors, as in do_exit().
    this.mm.exit();
    await this.mm.settled();
    for (const fd of this.files.descriptors()) await this.files.remove(fd).put();
    this.#status = status;
    this.#table.remove(this);
  }
}

/** The arguments of a call that has none but what it is made on. */
function subjectArgument(subject: string | number | undefined): SyscallArguments {
  if (subject === undefined) return {};
  return typeof subject === 'number' ? { fd: subject } : { path: subject };
}

function inCall(error: unknown, syscall: string, subject: string | number | undefined): unknown {
  return isSystemError(error) ? error.inSyscall(syscall, subject === undefined ? undefined : String(subject)) : error;
}

function hasExited(process: Process): SystemError {
  return new SystemError('ESRCH', `process ${process.pid} has exited`);
}

function hex(addr: bigint): string {
  return `0x${addr.toString(16)}`;
}
