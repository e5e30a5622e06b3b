/*
 * One mapping in an address space: a range of user addresses with one protection and one thing behind it, either
 * anonymous memory or a Mapping that a file made. Splitting leaves what lies behind as it is; a Vma only knows at
 * which address the first byte of it would be.
 */
import type { File } from '../fs/file.js';
import { PAGE_SIZE, Prot } from './layout.js';
import type { Mapping, PageRef } from './mapping.js';
import type { PageRange } from './page-range.js';
import type { PhysicalMemory } from './physical-memory.js';

interface PageTableEntry {
  /** Absent for an io page. */
  readonly page?: PageRef;
  readonly writable: boolean;
}

/** The page table of one file mapping in one address space, shared by the pieces it was split into. */
export class FilePages {
  readonly mapping: Mapping;
  readonly file: File;
  /** Bytes from the start of the file to the first byte mapped. */
  readonly fileOffset: number;
  readonly #memory: PhysicalMemory;
  readonly #copyOnWrite: boolean;
  readonly #entries = new Map<number, PageTableEntry>();
  /** Page ranges `[from, to)` that an io mapping without `fault` has lost. */
  readonly #lost: [number, number][] = [];

  constructor(memory: PhysicalMemory, file: File, mapping: Mapping, fileOffset: number, copyOnWrite: boolean) {
    this.#memory = memory;
    this.file = file;
    this.mapping = mapping;
    this.fileOffset = fileOffset;
    this.#copyOnWrite = copyOnWrite;
  }

  /** Makes a page present for an access. `io` says that the access goes to the device. */
  touch(index: number, write: boolean): PageRef | 'io' | 'SIGBUS' {
    const entry = this.#entries.get(index);
    if (entry !== undefined && (entry.writable || !write)) return entry.page ?? 'io';
    if (this.mapping.kind === 'io') return this.#touchIo(index, write);
    if (entry?.page !== undefined && this.#copyOnWrite) return this.#copy(index, entry.page);
    const page = this.mapping.fault?.(index, write && !this.#copyOnWrite) ?? 'SIGBUS';
    if (page === 'SIGBUS') return page;
    if (write && this.#copyOnWrite) return this.#copy(index, page);
    page.range.get();
    entry?.page?.range.put();
    this.#entries.set(index, { page, writable: write });
    return page;
  }

  /** Drops the pages `[from, to)`; private copies stay, as they no longer belong to the file. */
  zap(from: number, to: number): void {
    if (this.mapping.kind === 'io' && this.mapping.fault === undefined) {
      this.#lost.push([from, to]);
      return;
    }
    this.#dropEntries(from, to, (entry) => !(this.#copyOnWrite && entry.writable));
  }

  /** Forgets the pages `[from, to)`, private copies included: they are unmapped. */
  drop(from: number, to: number): void {
    this.#dropEntries(from, to, () => true);
  }

  /** The page table of a child: pages that are present stay so, private copies are copied. */
  fork(): FilePages {
    const child = new FilePages(this.#memory, this.file, this.mapping, this.fileOffset, this.#copyOnWrite);
    child.#lost.push(...this.#lost);
    try {
      for (const [index, entry] of this.#entries) {
        if (entry.page !== undefined && entry.writable && this.#copyOnWrite) child.#copy(index, entry.page);
        else {
          entry.page?.range.get();
          child.#entries.set(index, entry);
        }
      }
    } catch (error) {
      child.drop(0, Number.POSITIVE_INFINITY);
      throw error;
    }
    return child;
  }

  #touchIo(index: number, write: boolean): 'io' | 'SIGBUS' {
    if (this.mapping.fault === undefined) {
      return this.#lost.some(([from, to]) => index >= from && index < to) ? 'SIGBUS' : 'io';
    }
    if (this.mapping.fault(index, write) === 'SIGBUS') return 'SIGBUS';
    this.#entries.set(index, { writable: true });
    return 'io';
  }

  #copy(index: number, from: PageRef): PageRef {
    const range = this.#memory.alloc(1, 'private copy of a file page');
    range.copyFrom(from.range, from.index * PAGE_SIZE);
    this.#entries.get(index)?.page?.range.put();
    const page = { range, index: 0 };
    this.#entries.set(index, { page, writable: true });
    return page;
  }

  #dropEntries(from: number, to: number, which: (entry: PageTableEntry) => boolean): void {
    const dropOne = (index: number, entry: PageTableEntry | undefined): void => {
      if (entry === undefined || !which(entry)) return;
      this.#entries.delete(index);
      entry.page?.range.put();
    };
    if (to - from <= this.#entries.size) {
      for (let index = from; index < to; index++) dropOne(index, this.#entries.get(index));
      return;
    }
    for (const [index, entry] of this.#entries) if (index >= from && index < to) dropOne(index, entry);
  }
}

/** What a Vma is made of. */
export interface VmaParts {
  readonly start: number;
  readonly end: number;
  readonly prot: Prot;
  /** Protections that `mprotect` may still give. */
  readonly mayProt: Prot;
  readonly shared: boolean;
  readonly hugetlb: boolean;
  /** User address of the first byte of what lies behind. */
  readonly base: number;
  readonly backing: PageRange | FilePages;
}

/** Consecutive frames behind consecutive pages of a mapping. */
export interface FrameRun {
  /** Absent for device frames. */
  readonly range?: PageRange;
  readonly pfn: number;
  readonly pages: number;
}

/** A mapping of `[start, end)` in one address space. Addresses are bytes. */
export class Vma {
  readonly start: number;
  readonly end: number;
  readonly prot: Prot;
  readonly mayProt: Prot;
  readonly shared: boolean;
  readonly hugetlb: boolean;
  readonly base: number;
  /** Anonymous memory of which this holds a reference, or the pages of a file. */
  readonly backing: PageRange | FilePages;

  constructor(parts: VmaParts) {
    this.start = parts.start;
    this.end = parts.end;
    this.prot = parts.prot;
    this.mayProt = parts.mayProt;
    this.shared = parts.shared;
    this.hugetlb = parts.hugetlb;
    this.base = parts.base;
    this.backing = parts.backing;
  }

  /** The file behind the mapping; anonymous memory has none. */
  get file(): FilePages | undefined {
    return this.backing instanceof FilePages ? this.backing : undefined;
  }

  /** True when a CPU may make the access. x86 has no memory that is writable but not readable. */
  permits(write: boolean): boolean {
    return write ? (this.prot & Prot.WRITE) !== 0 : this.prot !== Prot.NONE;
  }

  /**
   * The bytes at `address`, at most `max` and at least one, as far as they are contiguous in storage. Pages are
   * made present on the way, for writing if `write`.
   */
  span(address: number, max: number, write: boolean): Uint8Array | 'io' | 'SIGBUS' {
    const length = Math.min(max, this.end - address);
    const offset = address - this.base;
    if (!(this.backing instanceof FilePages)) return this.backing.span(offset, length);
    const index = Math.floor(offset / PAGE_SIZE);
    const within = offset - index * PAGE_SIZE;
    const first = this.backing.touch(index, write);
    if (first === 'io' || first === 'SIGBUS') return first;
    const pages = this.#consecutive(this.backing, first, index, Math.ceil((within + length) / PAGE_SIZE), write);
    return first.range.span(first.index * PAGE_SIZE + within, Math.min(length, pages * PAGE_SIZE - within));
  }

  /**
   * The frames behind the pages from `address` on, as far as they are consecutive; undefined when the first page
   * cannot be had.
   */
  frames(address: number, pages: number, write: boolean): FrameRun | undefined {
    const offset = address - this.base;
    const index = Math.floor(offset / PAGE_SIZE);
    if (!(this.backing instanceof FilePages)) {
      return { range: this.backing, pfn: this.backing.basePfn + index, pages };
    }
    const first = this.backing.touch(index, write);
    if (first === 'SIGBUS') return undefined;
    if (first === 'io') return this.#deviceFrames(this.backing, index, pages, write);
    const count = this.#consecutive(this.backing, first, index, pages, write);
    return { range: first.range, pfn: first.range.basePfn + first.index, pages: count };
  }

  /** Takes away the pages that lie in `[offset, end)` of the file. */
  zapFile(offset: number, end: number): void {
    const file = this.file;
    if (file === undefined) return;
    const toIndex = (position: number): number => (position - file.fileOffset) / PAGE_SIZE;
    const from = Math.max(Math.floor(toIndex(offset)), (this.start - this.base) / PAGE_SIZE);
    const to = Math.min(Math.ceil(toIndex(end)), (this.end - this.base) / PAGE_SIZE);
    if (from < to) file.zap(from, to);
  }

  /** A Vma like this one with some parts changed. The references behind it are the caller's business. */
  with(parts: Partial<VmaParts>): Vma {
    return new Vma({
      start: this.start,
      end: this.end,
      prot: this.prot,
      mayProt: this.mayProt,
      shared: this.shared,
      hugetlb: this.hugetlb,
      base: this.base,
      backing: this.backing,
      ...parts,
    });
  }

  #consecutive(file: FilePages, first: PageRef, index: number, max: number, write: boolean): number {
    let pages = 1;
    while (pages < max) {
      const next = file.touch(index + pages, write);
      if (typeof next === 'string' || next.range !== first.range || next.index !== first.index + pages) break;
      pages++;
    }
    return pages;
  }

  #deviceFrames(file: FilePages, index: number, max: number, write: boolean): FrameRun | undefined {
    const pfn = file.mapping.pfn?.(index);
    if (pfn === undefined) return undefined;
    let pages = 1;
    while (pages < max && file.mapping.pfn?.(index + pages) === pfn + pages) {
      if (file.touch(index + pages, write) !== 'io') break;
      pages++;
    }
    return { pfn, pages };
  }
}
