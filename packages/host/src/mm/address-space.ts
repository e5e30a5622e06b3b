/*
 * The memory of a process: mappings, the accesses of its CPU and of the kernel to them, and pinning. Memory is made
 * when it is touched. Addresses are bigints at this surface, as in the uAPI, and numbers below it.
 */
import { SystemError } from '../errors.js';
import type { Process } from '../process/process.js';
import type { Seams } from '../seams.js';
import { EphemeralArguments } from './ephemeral.js';
import {
  type ByteOrder,
  EPHEMERAL_BASE,
  HUGE_PAGE_SIZE,
  MMAP_MIN_ADDR,
  PAGE_SIZE,
  Prot,
  TASK_SIZE,
  userAddress,
} from './layout.js';
import type { AnonymousMapOptions, FileMapOptions, MapOptions, PinOptions } from './map-options.js';
import type { AccessSize } from './mapping.js';
import type { PageRange } from './page-range.js';
import type { PhysicalMemory } from './physical-memory.js';
import { PinnedRun } from './pinned-run.js';
import { loadMemory, type Reached, storeMemory, type UserMemory } from './user-access.js';
import type { UserBuffer } from './user-buffer.js';
import { bufferOverUser, copyFromUser, copyToUser } from './user-copy.js';
import { accessRange, checkHugeCut, mapLength, userRange } from './user-range.js';
import { FilePages, Vma } from './vma.js';
import { VmaSet } from './vma-set.js';

/** The address space of one process. */
export class AddressSpace implements UserMemory {
  readonly byteOrder: ByteOrder;
  readonly #seams: Seams;
  readonly #memory: PhysicalMemory;
  readonly #vmas = new VmaSet();
  readonly #ephemeral = new EphemeralArguments();
  #releases: Promise<void>[] = [];
  #alive = true;
  #lockedVm = 0;
  #pinnedVm = 0;

  constructor(seams: Seams, memory: PhysicalMemory, byteOrder: ByteOrder = 'little') {
    this.#seams = seams;
    this.#memory = memory;
    this.byteOrder = byteOrder;
  }

  /** False after exit: there is nothing left to access or to pin. */
  get alive(): boolean {
    return this.#alive;
  }

  /** Pages charged against RLIMIT_MEMLOCK (VmLck). */
  get lockedVm(): number {
    return this.#lockedVm;
  }

  /** Pages that are pinned and charged as such (VmPin). */
  get pinnedVm(): number {
    return this.#pinnedVm;
  }

  /** Bytes mapped. */
  get size(): number {
    return this.#vmas.all().reduce((sum, vma) => sum + vma.end - vma.start, 0);
  }

  /** The mappings, lowest first. */
  vmas(): readonly Vma[] {
    return this.#vmas.all();
  }

  /**
   * Maps anonymous memory, which reads as zeros.
   *
   * @returns the address
   * @throws EINVAL - length 0, `addr` not aligned
   * @throws EPERM - a fixed address below 64 KiB
   * @throws ENOMEM - no room, too many mappings, or no huge pages
   */
  mmap(options: AnonymousMapOptions): bigint {
    this.#checkAlive();
    const huge = options.hugetlb === true;
    const unit = huge ? HUGE_PAGE_SIZE : PAGE_SIZE;
    const length = mapLength(options.length, unit);
    const start = this.#place(options, length, unit);
    this.#seams.faults.check('mmap_region:vma');
    const backing = this.#alloc(length, huge, options.shared ? 'shared memory' : 'private memory');
    const mayProt = Prot.READ | Prot.WRITE | Prot.EXEC;
    this.#insert(start, length, { ...options, mayProt, hugetlb: huge, backing });
    return BigInt(start);
  }

  /**
   * Maps memory that exists already, shared with whoever has it. The address space takes its own reference to it.
   *
   * @returns the address
   * @throws as {@link mmap}
   */
  mapRange(range: PageRange, options: Omit<MapOptions, 'length' | 'shared'>): bigint {
    this.#checkAlive();
    const start = this.#place({ ...options, length: range.length }, range.length, PAGE_SIZE);
    this.#seams.faults.check('mmap_region:vma');
    const mayProt = Prot.READ | Prot.WRITE;
    this.#insert(start, range.length, { ...options, mayProt, shared: true, hugetlb: false, backing: range.get() });
    return BigInt(start);
  }

  /**
   * Maps what a file's `mmap` returned. The address space takes its own reference to the file.
   *
   * @returns the address
   * @throws EINVAL - length 0, `addr` not aligned
   * @throws EPERM - a fixed address below 64 KiB
   * @throws ENOMEM - no room, or too many mappings
   */
  mapFile(options: FileMapOptions): bigint {
    this.#checkAlive();
    const { file, mapping } = options;
    const length = mapLength(options.length, PAGE_SIZE);
    const start = this.#place(options, length, PAGE_SIZE);
    this.#seams.faults.check('mmap_region:vma');
    const backing = new FilePages(this.#memory, file.get(), mapping, options.offset, options.shared !== true);
    const mayProt = mapping.mayWrite === false ? options.mayProt & ~Prot.WRITE : options.mayProt;
    this.#insert(start, length, { ...options, mayProt, hugetlb: false, backing });
    return BigInt(start);
  }

  /**
   * Unmaps a range; holes in it do not matter.
   *
   * @throws EINVAL - not aligned, length 0, outside of user space, or part of a huge page
   * @throws ENOMEM - cutting a mapping in two would make too many
   */
  munmap(addr: bigint, length: number | bigint): void {
    const [start, end] = userRange(addr, length, 'EINVAL');
    if (start === end) throw new SystemError('EINVAL', 'length 0');
    const touched = this.#vmas.overlapping(start, end);
    for (const vma of touched) checkHugeCut(vma, start, end);
    if (touched.length === 1 && touched[0] !== undefined && touched[0].start < start && touched[0].end > end) {
      this.#vmas.checkRoom(1);
    }
    for (const vma of touched) this.#remove(this.#isolate(vma, start, end));
  }

  /**
   * Changes the protection of a range.
   *
   * @throws EINVAL - not aligned, or part of a huge page
   * @throws ENOMEM - something in the range is not mapped; what lies before it is changed
   * @throws EACCES - a mapping may not have it; what lies before it is changed
   */
  mprotect(addr: bigint, length: number | bigint, prot: Prot): void {
    if (BigInt(length) === 0n && addr % BigInt(PAGE_SIZE) === 0n) return;
    const [start, end] = userRange(addr, length, 'ENOMEM');
    let next = start;
    for (const vma of this.#vmas.overlapping(start, end)) {
      if (vma.start > next) break;
      checkHugeCut(vma, start, end);
      if ((prot & ~vma.mayProt) !== 0) throw new SystemError('EACCES', 'the file is not open for that');
      this.#vmas.checkRoom((vma.start < start ? 1 : 0) + (vma.end > end ? 1 : 0));
      const part = this.#isolate(vma, start, end);
      const changed = part.with({ prot });
      this.#vmas.replace(part, [changed]);
      part.file?.file.mapping?.delete(part);
      changed.file?.file.mapping?.add(changed);
      next = part.end;
    }
    if (next < end) throw new SystemError('ENOMEM', `nothing is mapped at 0x${next.toString(16)}`);
  }

  /**
   * Copies bytes in, as the kernel does from a user.
   *
   * @throws EFAULT - a byte is not accessible
   */
  copyFrom(addr: bigint, length: number): Uint8Array {
    return copyFromUser(this, addr, length);
  }

  /**
   * Copies bytes out, as the kernel does to a user.
   *
   * @throws EFAULT - a byte is not accessible; those before it are written
   */
  copyTo(addr: bigint, bytes: Uint8Array): void {
    copyToUser(this, addr, bytes);
  }

  /**
   * Checks that a range lies in user space, mapped or not.
   *
   * @throws EFAULT - it does not
   */
  checkAccess(addr: bigint, length: number): void {
    accessRange(addr, length);
  }

  /**
   * Makes a buffer over a range, in place where it is contiguous.
   *
   * @param access - what will be done to the process's memory: a read syscall writes to it
   * @param process - who makes the call
   * @throws EFAULT - the range leaves user space; one that is not mapped makes a shorter buffer
   */
  userBuffer(addr: bigint, length: number, access: 'read' | 'write', process?: Process): UserBuffer {
    return bufferOverUser(this, { addr, length, write: access === 'write', process });
  }

  /**
   * What is at an address, with the page made present: bytes in place, at most `max` of them and at least one; the
   * mapping of a device, which has to be asked itself; or the signal that an access raises.
   */
  reach(address: number, max: number, write: boolean): Reached {
    if (address >= EPHEMERAL_BASE) return this.#ephemeral.find(address)?.subarray(0, max) ?? 'SIGSEGV';
    const vma = this.#vmas.find(address);
    if (vma === undefined || !vma.permits(write)) return 'SIGSEGV';
    const span = vma.span(address, max, write);
    return span === 'io' ? vma : span;
  }

  /**
   * What a load instruction does.
   *
   * @returns the value, in the process's byte order
   * @throws SegmentationFault
   */
  load(addr: bigint, size: AccessSize): bigint {
    return loadMemory(this, addr, size, this.byteOrder);
  }

  /**
   * What a store instruction does.
   *
   * @throws SegmentationFault
   */
  store(addr: bigint, size: AccessSize, value: bigint): void {
    storeMemory(this, addr, size, value, this.byteOrder);
  }

  /**
   * Pins the frames behind a range, in as few runs as the frames are consecutive. They stay alive when the
   * mapping goes; each run has to be unpinned. Frames of a device come as `reserved` runs.
   *
   * @param write - the frames will be written to
   * @throws EFAULT - a page is not mapped, has no frame, or may not be accessed so
   * @throws ENOMEM - memory for the pages cannot be had
   * @source mm/gup.c pin_user_pages_remote(), drivers/vfio/vfio_iommu_type1.c follow_fault_pfn()
   */
  pinPages(addr: bigint, pages: number, write: boolean, options: PinOptions = {}): PinnedRun[] {
    const first = userAddress(addr);
    this.#seams.faults.check('pin_user_pages:frames');
    const runs: PinnedRun[] = [];
    let address = first === undefined ? TASK_SIZE : first - (first % PAGE_SIZE);
    try {
      for (let left = pages; left > 0; ) {
        const run = this.#pinRun(address, left, write);
        if (run === undefined) {
          if (options.partial && runs.length > 0) break;
          throw new SystemError('EFAULT', `cannot pin the page at 0x${address.toString(16)}`);
        }
        runs.push(run);
        left -= run.pages;
        address += run.pages * PAGE_SIZE;
      }
    } catch (error) {
      for (const run of runs) run.unpin();
      throw error;
    }
    return runs;
  }

  /**
   * Maps bytes for the duration of `fn`, at an address where any access past their end is EFAULT. They are
   * accessed in place.
   *
   * @param fn - what to do with them; when it returns a promise, they stay mapped until that is settled
   */
  withBytes<T>(bytes: Uint8Array, fn: (addr: bigint) => T): T {
    const { addr, unmap } = this.#ephemeral.map(bytes);
    let later = false;
    try {
      const result = fn(BigInt(addr));
      if (result instanceof Promise) {
        later = true;
        return afterwards(result, unmap) as T;
      }
      return result;
    } finally {
      if (!later) unmap();
    }
  }

  /**
   * Charges locked pages, or with a negative number takes the charge back.
   *
   * @param limitPages - RLIMIT_MEMLOCK in pages; undefined for no limit
   * @throws ENOMEM - the limit would be exceeded; nothing is charged
   */
  accountLocked(pages: number, limitPages: number | undefined): void {
    if (pages > 0 && limitPages !== undefined && this.#lockedVm + pages > limitPages) {
      throw new SystemError(
        'ENOMEM',
        `${this.#lockedVm} pages locked, ${pages} more exceed the limit of ${limitPages}`,
      );
    }
    this.#lockedVm += pages;
  }

  /** Charges pinned pages (VmPin), or with a negative number takes the charge back. */
  accountPinned(pages: number): void {
    this.#pinnedVm += pages;
  }

  /** Resolves when the files that lost their last mapping are released. */
  async settled(): Promise<void> {
    const releases = this.#releases;
    this.#releases = [];
    await Promise.all(releases);
  }

  /** A copy for a child: shared mappings are shared, private memory is copied. */
  fork(): AddressSpace {
    const child = new AddressSpace(this.#seams, this.#memory, this.byteOrder);
    const tables = new Map<FilePages, FilePages>();
    try {
      for (const vma of this.#vmas.all()) child.#adopt(vma, this.#forkBacking(vma, tables));
    } catch (error) {
      child.exit();
      throw error;
    }
    return child;
  }

  /** Unmaps everything, for good. */
  exit(): void {
    for (const vma of this.#vmas.all()) this.#remove(vma);
    this.#alive = false;
  }

  #forkBacking(vma: Vma, tables: Map<FilePages, FilePages>): Vma['backing'] {
    if (vma.backing instanceof FilePages) {
      const table = tables.get(vma.backing) ?? vma.backing.fork();
      tables.set(vma.backing, table);
      table.file.get();
      table.mapping.open?.();
      return table;
    }
    if (vma.shared) return vma.backing.get();
    this.#seams.faults.check('dup_mmap:private memory');
    const copy = this.#alloc(vma.end - vma.start, vma.hugetlb, 'private memory');
    copy.copyFrom(vma.backing, vma.start - vma.base);
    return copy;
  }

  #adopt(vma: Vma, backing: Vma['backing']): void {
    const base = backing === vma.backing || backing instanceof FilePages ? vma.base : vma.start;
    const own = vma.with({ backing, base });
    this.#vmas.insert(own);
    own.file?.file.mapping?.add(own);
  }

  #alloc(length: number, huge: boolean, what: string): PageRange {
    return huge ? this.#memory.allocHuge(length / HUGE_PAGE_SIZE, what) : this.#memory.alloc(length / PAGE_SIZE, what);
  }

  #checkAlive(): void {
    if (!this.#alive) throw new SystemError('ENOMEM', 'the process has exited');
  }

  /** Chooses or checks the address of a new mapping, and clears the place of a fixed one. */
  #place(options: MapOptions, length: number, unit: number): number {
    const { addr = 0n, fixed = false } = options;
    if (!fixed) {
      this.#vmas.checkRoom(1);
      const wish = Math.max(Number(addr) - (Number(addr) % unit), MMAP_MIN_ADDR);
      if (addr > 0n && wish + length <= EPHEMERAL_BASE && this.#vmas.isFree(wish, wish + length)) return wish;
      return this.#vmas.findHole(length, unit);
    }
    if (addr % BigInt(unit) !== 0n) throw new SystemError('EINVAL', `address 0x${addr.toString(16)} is not aligned`);
    if (addr < 0n || addr + BigInt(length) > BigInt(EPHEMERAL_BASE)) {
      throw new SystemError('ENOMEM', `address 0x${addr.toString(16)} is outside of user space`);
    }
    if (addr < BigInt(MMAP_MIN_ADDR) && options.lowAddresses !== true) {
      throw new SystemError('EPERM', `address 0x${addr.toString(16)} needs CAP_SYS_RAWIO`);
    }
    this.munmap(addr, length);
    this.#vmas.checkRoom(1);
    return Number(addr);
  }

  #insert(
    start: number,
    length: number,
    parts: { prot: Prot; mayProt: Prot; shared?: boolean; hugetlb: boolean; backing: Vma['backing'] },
  ): void {
    const { prot, mayProt, shared = false, hugetlb, backing } = parts;
    const vma = new Vma({ start, end: start + length, prot, mayProt, shared, hugetlb, base: start, backing });
    this.#vmas.insert(vma);
    vma.file?.file.mapping?.add(vma);
  }

  /** Cuts off what lies outside of `[start, end)`, and returns the part inside. */
  #isolate(vma: Vma, start: number, end: number): Vma {
    if (vma.start >= start && vma.end <= end) return vma;
    const inside = vma.with({ start: Math.max(vma.start, start), end: Math.min(vma.end, end) });
    const pieces = [inside];
    if (vma.start < start) pieces.push(vma.with({ end: start }));
    if (vma.end > end) pieces.push(vma.with({ start: end }));
    this.#vmas.replace(vma, pieces);
    for (let more = pieces.length - 1; more > 0; more--) {
      if (vma.backing instanceof FilePages) {
        vma.backing.file.get();
        vma.backing.mapping.open?.();
      } else {
        vma.backing.get();
      }
    }
    const inode = vma.file?.file.mapping;
    inode?.delete(vma);
    for (const piece of pieces) inode?.add(piece);
    return inside;
  }

  #remove(vma: Vma): void {
    this.#vmas.remove(vma);
    if (!(vma.backing instanceof FilePages)) {
      vma.backing.put();
      return;
    }
    const { file, mapping } = vma.backing;
    file.mapping?.delete(vma);
    vma.backing.drop((vma.start - vma.base) / PAGE_SIZE, (vma.end - vma.base) / PAGE_SIZE);
    mapping.close?.();
    this.#releases.push(file.put());
  }

  #pinRun(address: number, pages: number, write: boolean): PinnedRun | undefined {
    const vma = address < TASK_SIZE ? this.#vmas.find(address) : undefined;
    if (vma === undefined || (vma.prot & (write ? Prot.WRITE : Prot.READ)) === 0) return undefined;
    const frames = vma.frames(address, Math.min(pages, (vma.end - address) / PAGE_SIZE), write);
    if (frames === undefined) return undefined;
    return new PinnedRun(this.#seams.tracker, frames.range, frames.pfn, frames.pages);
  }
}

/** As `finally`, with half of its promises: this is on the way of every request. */
async function afterwards(result: Promise<unknown>, fn: () => void): Promise<unknown> {
  try {
    return await result;
  } finally {
    fn();
  }
}
