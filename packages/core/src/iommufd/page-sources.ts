/**
 * Where pages come from: the memory of the process that maps them, or a file whose contents can be pinned.
 */
import type { File, PinnedRun, Process } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { AccountMode } from './accounting.js';
import type { Iommufd } from './iommufd.js';
import { ADDRESS_MAX, lastOf, PAGE, rangeText } from './iova-range.js';
import { IoptPages, type PagesInit } from './pages.js';

const syscall = 'iopt_alloc_pages';

/** Who maps what, for either source. */
export interface MapRequest {
  readonly iommufd: Iommufd;
  readonly caller: Process;
  readonly accountMode: AccountMode;
  /** Bytes. */
  readonly length: bigint;
  readonly writable: boolean;
}

/** Pages of a process. */
export class UserPages extends IoptPages {
  readonly base: bigint;

  /** @param base - address of the first page */
  constructor(init: PagesInit, base: bigint) {
    super(init);
    this.base = base;
  }

  protected override pin(index: number, pages: number): PinnedRun[] {
    const { mm } = this.payer;
    if (!mm.alive) throw new VfioError('EFAULT', 'the owner of the memory is gone', { syscall: 'pin_user_pages' });
    return mm.pinPages(this.base + BigInt(index) * PAGE, pages, this.writable);
  }

  /**
   * Copies between a buffer and memory with the protections of the process, when it is the one that runs.
   *
   * @throws EFAULT - not accessible; what comes before it is copied
   */
  copyUser(startByte: bigint, bytes: Uint8Array, write: boolean): void {
    const { mm } = this.payer;
    if (write) mm.copyTo(this.base + startByte, bytes);
    else bytes.set(mm.copyFrom(this.base + startByte, bytes.length));
  }
}

/** A file whose contents are memory that can be pinned, as those of a memfd. */
export interface PinnableFile extends File {
  /**
   * Pins consecutive pages of the file.
   *
   * @param index - pages from its start
   * @throws EINVAL - past the end of the file
   */
  pinFrames(index: number, pages: number): PinnedRun[];
}

function isPinnable(file: File): file is PinnableFile {
  return 'pinFrames' in file && typeof file.pinFrames === 'function';
}

/** Pages of a file, which stays open as long as they are used. */
export class FilePages extends IoptPages {
  readonly base: bigint;
  readonly #file: File;

  /** @param base - bytes from the start of the file to the first page */
  constructor(init: PagesInit, file: File, base: bigint) {
    super(init);
    this.base = base;
    this.#file = file.get();
  }

  protected override pin(index: number, pages: number): PinnedRun[] {
    const file = this.#file;
    if (!isPinnable(file)) {
      throw new VfioError('EINVAL', `${file.label} has no memory to pin`, { syscall: 'memfd_pin_folios' });
    }
    return file.pinFrames(Number(this.base / PAGE) + index, pages);
  }

  protected override async release(): Promise<void> {
    await this.#file.put();
  }
}

/** Checks a length and where it ends; the number of pages that it touches. */
function countPages({ length }: MapRequest, start: bigint): number {
  if (length === 0n || length > ADDRESS_MAX - PAGE) {
    throw new VfioError('EINVAL', `a length of ${length} bytes`, { syscall });
  }
  // the byte behind the range has to have an address too
  if (lastOf(start, length + 1n) === undefined) {
    throw new VfioError('EOVERFLOW', `${rangeText(start, length)} passes the end of the address space`, { syscall });
  }
  return Number((length + (start % PAGE) + PAGE - 1n) / PAGE);
}

/**
 * What pages of a request are made from.
 *
 * @param start - address, or bytes from the start of a file
 * @throws EINVAL - length 0, or almost all of the address space
 * @throws EOVERFLOW - the range wraps
 */
export function pagesInit(request: MapRequest, start: bigint): PagesInit {
  return { ...request, npages: countPages(request, start) };
}

/**
 * Describes memory of the caller. Nothing is pinned, nor looked at.
 *
 * @param address - of the first byte
 * @throws EINVAL - length 0, or almost all of the address space
 * @throws EOVERFLOW - the range wraps
 * @throws ENOMEM - no memory for it
 * @source drivers/iommu/iommufd/pages.c iopt_alloc_user_pages()
 */
export function allocUserPages(request: MapRequest, address: bigint): UserPages {
  return new UserPages(pagesInit(request, address), address - (address % PAGE));
}

/**
 * Describes a part of a file.
 *
 * @param start - bytes from the start of the file
 * @throws EINVAL, EOVERFLOW, ENOMEM - as for `allocUserPages`
 * @source drivers/iommu/iommufd/pages.c iopt_alloc_file_pages()
 */
export function allocFilePages(request: MapRequest, file: File, start: bigint): FilePages {
  return new FilePages(pagesInit(request, start), file, start - (start % PAGE));
}
