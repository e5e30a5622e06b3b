/* The descriptors of a process. */
import { SystemError } from '../errors.js';
import type { Limits } from '../process/limits.js';
import type { Seams } from '../seams.js';
import { SmallSet } from '../small-map.js';
import { badDescriptor, type File, PathFile } from './file.js';

/** How a descriptor is made. */
export interface DescriptorOptions {
  /** The descriptor does not outlive an exec. */
  readonly cloexec?: boolean;
}

/** Numbers and the open file descriptions they stand for. */
export class FileTable {
  readonly #seams: Seams;
  readonly #limits: Limits;
  readonly #files: (File | undefined)[] = [];
  readonly #reserved = new SmallSet<number>();
  readonly #cloexec = new Set<number>();
  /** No number below this one is free. */
  #lowestFree = 0;

  constructor(seams: Seams, limits: Limits) {
    this.#seams = seams;
    this.#limits = limits;
  }

  /**
   * Takes the lowest free number, which means nothing until `install`.
   *
   * @param from - no number below this one
   * @throws EMFILE - RLIMIT_NOFILE is reached
   */
  reserve(from = 0): number {
    this.#seams.faults.check('alloc_fd:descriptor', 'EMFILE');
    let fd = Math.max(from, this.#lowestFree);
    while (this.#files[fd] !== undefined || this.#reserved.has(fd)) fd++;
    if (fd >= this.#limits.nofile) throw new SystemError('EMFILE', `all ${this.#limits.nofile} descriptors are in use`);
    this.#reserved.add(fd);
    if (from <= this.#lowestFree) this.#lowestFree = fd + 1;
    return fd;
  }

  /** Gives a number back that was reserved and not installed. */
  unreserve(fd: number): void {
    if (this.#reserved.delete(fd)) this.#lowestFree = Math.min(this.#lowestFree, fd);
  }

  /** Makes a reserved number stand for `file`, and takes over the caller's reference to it. */
  install(fd: number, file: File, options: DescriptorOptions = {}): void {
    this.#reserved.delete(fd);
    this.#files[fd] = file;
    if (options.cloexec) this.#cloexec.add(fd);
    file.trackBy(this.#seams.tracker);
  }

  /**
   * Reserve and install in one.
   *
   * @throws EMFILE - RLIMIT_NOFILE is reached; the file is still the caller's
   */
  add(file: File, options: DescriptorOptions = {}): number {
    const fd = this.reserve();
    this.install(fd, file, options);
    return fd;
  }

  /**
   * The file behind a descriptor.
   *
   * @throws EBADF - not open, or open with O_PATH
   */
  get(fd: number): File {
    const file = this.#files[fd];
    if (file === undefined) throw badDescriptor(fd);
    if (file instanceof PathFile) throw badDescriptor(fd, 'was opened with O_PATH');
    return file;
  }

  /**
   * The file behind a descriptor, O_PATH or not.
   *
   * @throws EBADF - not open
   */
  getRaw(fd: number): File {
    const file = this.#files[fd];
    if (file === undefined) throw badDescriptor(fd);
    return file;
  }

  /** Whether a descriptor is open, O_PATH or not. */
  has(fd: number): boolean {
    return this.#files[fd] !== undefined;
  }

  /** As `get`, with undefined for what `get` refuses. */
  getOrUndefined(fd: number): File | undefined {
    const file = this.#files[fd];
    return file instanceof PathFile ? undefined : file;
  }

  /** Whether the descriptor goes away on exec. */
  isCloexec(fd: number): boolean {
    return this.#cloexec.has(fd);
  }

  setCloexec(fd: number, cloexec: boolean): void {
    this.getRaw(fd);
    if (cloexec) this.#cloexec.add(fd);
    else this.#cloexec.delete(fd);
  }

  /**
   * Takes a descriptor out of the table. The table's reference goes to the caller.
   *
   * @throws EBADF - not open
   */
  remove(fd: number): File {
    const file = this.getRaw(fd);
    this.#files[fd] = undefined;
    this.#cloexec.delete(fd);
    this.#lowestFree = Math.min(this.#lowestFree, fd);
    return file;
  }

  /** Open descriptors, lowest first. */
  descriptors(): number[] {
    return [...this.#files.keys()].filter((fd) => this.#files[fd] !== undefined);
  }

  /** Numbers the table has room for, in steps of 64 as /proc shows them. */
  get size(): number {
    return Math.max(64, Math.ceil(this.#files.length / 64) * 64);
  }

  /** Copies all descriptors into a child's table; the files are shared. */
  copyTo(child: FileTable): void {
    for (const fd of this.descriptors()) {
      child.#files[fd] = this.getRaw(fd).get();
      if (this.#cloexec.has(fd)) child.#cloexec.add(fd);
    }
    child.#lowestFree = 0;
  }
}
