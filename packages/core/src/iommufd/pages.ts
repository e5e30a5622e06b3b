/**
 * The memory behind mappings: a linear run of pages of one process or file, which any number of areas in any number of
 * address spaces take slices of. Pages are pinned when the first domain or device wants them and for as long as anybody
 * does, and are charged once, however many want them.
 */
import {
  BTree,
  byNumber,
  type IommuDomain,
  Mutex,
  PAGE_SIZE,
  type PinnedRun,
  type Process,
  RefCount,
} from '@vfio/host';
import { VfioError } from '../errors.js';
import { type AccountMode, type Payer, payerOf, updatePinned } from './accounting.js';
import type { IoptArea } from './area.js';
import type { Iommufd } from './iommufd.js';

/** Frames that follow each other, behind pages that do. */
export interface FrameRun {
  /** Index of the first page. */
  readonly index: number;
  readonly pfn: number;
  readonly pages: number;
}

/** Pinned pages that are held equally often. */
interface Segment {
  readonly run: PinnedRun;
  count: number;
}

/** Pages that a device pinned, which have to be given back exactly so. Source: struct iopt_pages_access */
interface PagesAccess {
  users: number;
}

/** What pages are made from. */
export interface PagesInit {
  readonly iommufd: Iommufd;
  /** Whose memory, and who is charged. */
  readonly caller: Process;
  /** Pages of the CPU that the range touches. */
  readonly npages: number;
  /** Devices may write to them. */
  readonly writable: boolean;
  /** How the context charges. */
  readonly accountMode: AccountMode;
}

/** Pages that areas share. Counted: made with one reference. Source: drivers/iommu/iommufd/io_pagetable.h struct iopt_pages */
export abstract class IoptPages {
  /** Held over every change of pins. */
  readonly mutex: Mutex;
  readonly npages: number;
  readonly writable: boolean;
  readonly accountMode: AccountMode;
  readonly iommufd: Iommufd;
  payer: Payer;
  readonly #references: RefCount;
  readonly #segments = new BTree<number, Segment>(undefined, byNumber);
  readonly #accesses = new Map<string, PagesAccess>();
  #pinned = 0;
  #charged = 0;

  constructor({ iommufd, caller, npages, writable, accountMode }: PagesInit) {
    const { host } = iommufd;
    host.faults.check('iopt_alloc_pages:pages');
    this.mutex = new Mutex(host, 'iopt_pages.mutex');
    this.iommufd = iommufd;
    this.npages = npages;
    this.writable = writable;
    this.accountMode = caller.credentials.capable('IPC_LOCK') ? 'none' : accountMode;
    this.payer = payerOf(caller);
    this.#references = new RefCount(host, `${npages} pages of ${caller.comm}`, 1);
  }

  /** Where the pages begin, as far as that says something about how frames may be aligned. */
  abstract readonly base: bigint;

  /** Registers of a device instead of memory. */
  get mmio(): boolean {
    return false;
  }

  /** Told when a domain got the pages of an area. */
  show(_area: IoptArea, _domain: IommuDomain): void {}

  /**
   * Told before a domain loses them.
   *
   * @returns whether it still has them
   */
  hide(_area: IoptArea, _domain: IommuDomain): boolean {
    return true;
  }

  /** Told when an area was cut in parts. */
  split(_area: IoptArea, _parts: readonly IoptArea[]): void {}

  /**
   * Pins pages that nobody holds.
   *
   * @throws the errno of the memory; nothing is pinned then
   */
  protected abstract pin(index: number, pages: number): PinnedRun[];

  /** Called with the last reference. */
  protected release(): void | Promise<void> {}

  /** Pages that are charged now. */
  get charged(): number {
    return this.#charged;
  }

  /** Takes a reference. */
  get(): this {
    this.#references.inc();
    return this;
  }

  /** Gives a reference back. */
  async put(): Promise<void> {
    if (!this.#references.decAndTest()) return;
    this.iommufd.host.log.warnOn(this.#pinned > 0, `iommufd: ${this.#pinned} pages are still pinned`);
    await this.release();
  }

  /**
   * Holds pages, pinning what is not pinned yet. They are not charged before `charge`. All or nothing.
   *
   * @throws EFAULT - no such memory, or not for this access
   * @throws ENOMEM - no memory for it
   */
  hold(first: number, last: number): void {
    const fresh: number[] = [];
    try {
      for (const [from, to] of this.#missing(first, last)) {
        let index = from;
        for (const run of this.#pinWhole(from, to - from + 1)) {
          this.#segments.set(index, { run, count: 0 });
          this.#pinned += run.pages;
          fresh.push(index);
          index += run.pages;
        }
      }
    } catch (error) {
      for (const index of fresh) this.#unpin(index);
      throw error;
    }
    for (const [, segment] of this.#cut(first, last)) segment.count++;
  }

  /** Lets pages go that `hold` was called for; what nobody holds any more is unpinned. */
  unhold(first: number, last: number): void {
    for (const [index, segment] of this.#cut(first, last)) {
      if (--segment.count === 0) this.#unpin(index);
    }
  }

  /**
   * Brings the charge to what is pinned.
   *
   * @throws ENOMEM - more than the payer may lock; the charge is as before
   * @source drivers/iommu/iommufd/pages.c pfn_reader_user_update_pinned(), update_unpinned()
   */
  charge(): void {
    const more = this.#pinned - this.#charged;
    updatePinned(this.iommufd, this.payer, this.accountMode, more);
    this.#charged = this.#pinned;
  }

  /** Moves the charge, which the caller has made elsewhere already, to another payer. */
  changePayer(payer: Payer): void {
    updatePinned(this.iommufd, this.payer, this.accountMode, -this.#charged);
    this.payer = payer;
  }

  /** The frames behind held pages, in as few runs as they follow each other. */
  *frames(first: number, last: number): Generator<FrameRun> {
    let open: { index: number; pfn: number; pages: number } | undefined;
    for (const [index, { run }] of this.#overlapping(first, last)) {
      const skip = Math.max(first - index, 0);
      const pages = Math.min(index + run.pages - 1, last) - index - skip + 1;
      const pfn = run.pfn + skip;
      if (open && open.pfn + open.pages === pfn) {
        open.pages += pages;
        continue;
      }
      if (open) yield open;
      open = { index: index + skip, pfn, pages };
    }
    if (open) yield open;
  }

  /** The frame behind a page, if it is held. */
  frameOf(index: number): number | undefined {
    const found = this.#segments.getPairOrNextLower(index);
    return found && index < found[0] + found[1].run.pages ? found[1].run.pfn + index - found[0] : undefined;
  }

  /**
   * Holds and charges pages for a device.
   *
   * @throws EFAULT, ENOMEM - as for `hold` and `charge`; nothing is held then
   * @source drivers/iommu/iommufd/pages.c iopt_area_add_access()
   */
  addAccess(first: number, last: number): void {
    const key = `${first}-${last}`;
    const access = this.#accesses.get(key);
    if (access) {
      access.users++;
      return;
    }
    this.iommufd.host.faults.check('iopt_area_add_access:access');
    this.hold(first, last);
    try {
      this.charge();
    } catch (error) {
      this.unhold(first, last);
      this.charge();
      throw error;
    }
    this.#accesses.set(key, { users: 1 });
  }

  /**
   * Ends one hold of `addAccess`.
   *
   * @returns false - there is none of exactly these pages
   * @source drivers/iommu/iommufd/pages.c iopt_area_remove_access()
   */
  removeAccess(first: number, last: number): boolean {
    const key = `${first}-${last}`;
    const access = this.#accesses.get(key);
    if (!access) return false;
    if (--access.users > 0) return true;
    this.#accesses.delete(key);
    this.unhold(first, last);
    this.charge();
    return true;
  }

  /**
   * Copies between a buffer and memory through frames, whatever process runs: those that are held, and for the others
   * frames that are pinned meanwhile.
   *
   * @param startByte - bytes from the start of the pages
   * @throws EFAULT - no such memory; what comes before it is copied
   * @source drivers/iommu/iommufd/pages.c iopt_pages_rw_slow()
   */
  copyFrames(startByte: bigint, bytes: Uint8Array, write: boolean): void {
    for (let done = 0; done < bytes.length; ) {
      const at = startByte + BigInt(done);
      const index = Number(at / BigInt(PAGE_SIZE));
      const offset = Number(at % BigInt(PAGE_SIZE));
      const part = bytes.subarray(done, done + PAGE_SIZE - offset);
      const held = this.frameOf(index);
      const [run] = held === undefined ? this.#pinWhole(index, 1) : [];
      const phys = (held ?? run?.pfn ?? 0) * PAGE_SIZE + offset;
      if (write) this.iommufd.host.memory.write(phys, part);
      else this.iommufd.host.memory.read(phys, part);
      run?.unpin(write);
      done += part.length;
    }
  }

  /** As `pin`; frames of a device cannot be pinned for good. */
  #pinWhole(index: number, pages: number): PinnedRun[] {
    const runs = this.pin(index, pages);
    if (!runs.some(({ reserved }) => reserved)) return runs;
    for (const run of runs) run.unpin();
    throw new VfioError('EFAULT', 'the pages are not memory', { syscall: 'pin_user_pages' });
  }

  #unpin(index: number): void {
    const segment = this.#segments.get(index);
    if (!segment) return;
    this.#segments.delete(index);
    this.#pinned -= segment.run.pages;
    segment.run.unpin(this.writable);
  }

  /** Segments that have a page in first..last, ascending. */
  #overlapping(first: number, last: number): [number, Segment][] {
    const found: [number, Segment][] = [];
    const below = this.#segments.getPairOrNextLower(first);
    const start = below && below[0] + below[1].run.pages > first ? below[0] : first;
    this.#segments.forRange(start, last, true, (index, segment) => {
      found.push([index, segment]);
    });
    return found;
  }

  /** Runs of pages in first..last that are not pinned. */
  #missing(first: number, last: number): [from: number, to: number][] {
    const missing: [number, number][] = [];
    let from = first;
    for (const [index, { run }] of this.#overlapping(first, last)) {
      if (index > from) missing.push([from, index - 1]);
      from = index + run.pages;
    }
    if (from <= last) missing.push([from, last]);
    return missing;
  }

  /** The segments of first..last, which is pinned, cut so that they hold nothing else. */
  #cut(first: number, last: number): [number, Segment][] {
    for (const border of [first, last + 1]) {
      const below = this.#segments.nextLowerPair(border);
      if (!below || below[0] + below[1].run.pages <= border) continue;
      const [index, { run, count }] = below;
      this.#segments.set(border, { run: run.splitAt(border - index), count });
    }
    return this.#overlapping(first, last);
  }
}
