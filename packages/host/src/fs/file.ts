/*
 * An open file description: what descriptors point to, shared by dup and fork. Each kind of file is a subclass, and
 * `instanceof` is what comparing `f_op` is in the kernel. Operations that a kind does not have are left out; the
 * descriptor layer answers for them.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { InodeMapping } from '../mm/inode-mapping.js';
import type { ByteOrder, Prot } from '../mm/layout.js';
import type { Mapping } from '../mm/mapping.js';
import type { UserBuffer } from '../mm/user-buffer.js';
import type { Process } from '../process/process.js';
import type { Tracked, Tracker } from '../tracker.js';
import { O } from './flags.js';
import type { VfsNode } from './vfs-node.js';

/**
 * What a file's position means.
 *
 * - `normal`: `lseek` moves it
 * - `none`: `lseek` is ESPIPE, `pread` and `pwrite` work (a character device)
 * - `stream`: there are no positions, `pread` and `pwrite` are ESPIPE too
 * - `noop`: as `stream`, but `lseek` succeeds and moves nothing (an eventfd)
 */
export type SeekKind = 'normal' | 'none' | 'stream' | 'noop';

/** What every open file description has. */
export interface FileOptions {
  /** {@link O} bits: access mode and NONBLOCK matter. */
  readonly flags: number;
  /** What /proc/<pid>/fd/<n> links to: a path, or `anon_inode:[vfio-device]`. */
  readonly label: string;
  readonly seek: SeekKind;
}

/** An `mmap` of a file, after the checks that do not need the file. */
export interface MmapRequest {
  /** Bytes from the start of the file, page aligned. */
  readonly offset: number;
  /** Bytes, whole pages. */
  readonly length: number;
  readonly prot: Prot;
  /**
   * Writes reach the file. False also for a shared mapping through a descriptor that is not open for writing,
   * which Linux turns into one that can never be written (no VM_SHARED, no VM_MAYWRITE).
   */
  readonly shared: boolean;
  readonly process: Process;
}

/** What giving back a reference comes to, unless it is the last. */
const stillOpen = Promise.resolve();

/** An open file description. */
export abstract class File {
  /** {@link O} bits, without those that only mattered for opening. */
  flags: number;
  /** Where the next `read` or `write` starts, in bytes. */
  position = 0;
  readonly label: string;
  readonly seek: SeekKind;
  /** The file system's node that was opened; undefined for an anonymous inode. */
  node?: VfsNode;
  /** All mappings of the inode, where somebody wants to zap them. */
  readonly mapping?: InodeMapping;
  #count = 1;
  #tracked: Tracked | undefined;

  constructor(options: FileOptions) {
    this.flags = options.flags;
    this.label = options.label;
    this.seek = options.seek;
  }

  /**
   * Fills `buffer` with bytes from `position` on. Absent: EINVAL.
   *
   * @returns bytes read; the layer above moves the file's position
   */
  read?(buffer: UserBuffer, position: number): number | Promise<number>;

  /**
   * Takes bytes out of `buffer` for `position`. Absent: EINVAL.
   *
   * @returns bytes written
   */
  write?(buffer: UserBuffer, position: number): number | Promise<number>;

  /** Absent: ENOTTY. A failure with ENOIOCTLCMD becomes ENOTTY too. */
  ioctl?(call: IoctlCall): number | Promise<number>;

  /** Absent: ENODEV. */
  mmap?(request: MmapRequest): Mapping | Promise<Mapping>;

  /** {@link Poll} bits that are true now. Absent: in and out. */
  poll?(): number;

  /** Calls `fn` whenever the answer of `poll` may have changed, until disposed. Needed with `poll`. */
  onPoll?(fn: () => void): Disposable;

  /** Lines that this kind adds to /proc/<pid>/fdinfo/<n>, without line ends. */
  fdinfo?(): string[];

  /** Moves the position in a way of its own. Absent: what `seek` says. */
  llseek?(offset: number, whence: number): number;

  /** Bytes in the file, for `lseek` from the end and `stat`. Absent: 0. */
  size?(): number;

  /** The last reference is gone. */
  release?(): void | Promise<void>;

  /** References: descriptors, mappings, calls under way. */
  get count(): number {
    return this.#count;
  }

  /** Open for reading. */
  get readable(): boolean {
    return (this.flags & O.PATH) === 0 && (this.flags & O.ACCMODE) !== O.WRONLY;
  }

  /** Open for writing. */
  get writable(): boolean {
    return (this.flags & O.PATH) === 0 && (this.flags & O.ACCMODE) !== O.RDONLY;
  }

  /** `O_NONBLOCK` is set. */
  get nonblock(): boolean {
    return (this.flags & O.NONBLOCK) !== 0;
  }

  /** Takes a reference. */
  get(): this {
    if (this.#count === 0) throw new KernelBug('use-after-free', `get of the closed file ${this.label}`);
    this.#count++;
    return this;
  }

  /** Gives a reference back. The last one runs `release`, and the promise resolves when that is done. */
  put(): Promise<void> {
    if (this.#count > 1) {
      this.#count--;
      return stillOpen;
    }
    return this.#putLast();
  }

  async #putLast(): Promise<void> {
    if (this.#count === 0) throw new KernelBug('double-free', `put of the closed file ${this.label}`);
    this.#count--;
    this.#tracked?.release();
    await this.release?.();
  }

  /** Lets the host know of the file. Called when it gets its first descriptor. */
  trackBy(tracker: Tracker): void {
    this.#tracked ??= tracker.track('file', () => `${this.label}, ${this.#count} references`);
  }
}

/**
 * An `ioctl` on its way to a file. The argument is a number; whether it is one or the address of something is the
 * request's business.
 */
export class IoctlCall {
  /** 32 bits, unsigned. */
  readonly request: number;
  /** 64 bits, unsigned. */
  readonly arg: bigint;
  readonly process: Process;

  constructor(process: Process, request: number, arg: bigint) {
    this.process = process;
    this.request = request;
    this.arg = arg;
  }

  /** Byte order of the caller, and so of the structs that it passes. */
  get order(): ByteOrder {
    return this.process.byteOrder;
  }

  /**
   * Copies bytes of the argument in.
   *
   * @param offset - bytes from where the argument points
   * @returns a copy that belongs to the caller
   * @throws EFAULT - a byte is not accessible
   */
  copyIn(length: number, offset = 0): Uint8Array {
    return this.copyInAt(this.arg + BigInt(offset), length);
  }

  /**
   * Copies bytes out to where the argument points. What lies before an inaccessible byte is written.
   *
   * @throws EFAULT - a byte is not accessible
   */
  copyOut(bytes: Uint8Array, offset = 0): void {
    this.copyOutAt(this.arg + BigInt(offset), bytes);
  }

  /** As `copyIn`, from any address of the caller. */
  copyInAt(addr: bigint, length: number): Uint8Array {
    return this.process.mm.copyFrom(addr, length);
  }

  /** As `copyOut`, to any address of the caller. */
  copyOutAt(addr: bigint, bytes: Uint8Array): void {
    this.process.mm.copyTo(addr, bytes);
  }

  /** A 32-bit number of the argument, in the caller's byte order. */
  u32(offset = 0): number {
    const bytes = this.copyIn(4, offset);
    return new DataView(bytes.buffer, bytes.byteOffset, 4).getUint32(0, this.order === 'little');
  }
}

/** A descriptor that only names a place in the file system: it can be duplicated, closed and asked for its state. */
export class PathFile extends File {
  constructor(label: string, node: VfsNode) {
    super({ flags: O.PATH, label, seek: 'stream' });
    this.node = node;
  }
}

/** The error for a descriptor that is not one, or not one for this call. */
export function badDescriptor(fd: number, why = 'is not open'): SystemError {
  return new SystemError('EBADF', `descriptor ${fd} ${why}`);
}
