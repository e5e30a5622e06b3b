/**
 * Pages of a process that stay where they are: in runs, for the hardware that maps them, and one by one, for emulated
 * devices that ask. A page can be held both ways and is charged once.
 */
import { type ErrnoCode, type IommuGroup, PAGE_SIZE, type PinnedRun, Prot } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { PinnedPage } from '../iommu-driver.js';
import { markPageDirty } from './dirty.js';
import type { Dma, ExternalPfn, MappedRun } from './dma.js';
import { chargeLocked, unchargeLocked } from './locked-vm.js';
import type { Type1State } from './state.js';
import { pageAddress, pageOf, rangeEnd, rangeText } from './units.js';

/**
 * Pins and charges what is still missing of a mapping, run by run, each before the next one is asked for. A caller who
 * stops early keeps what was handed out; the rest is given back.
 *
 * @param from - pages from the start of the mapping
 * @param to - where it ends, in pages
 * @throws EFAULT - memory that is not mapped, or not for this access
 * @throws ENOMEM - more than the owner may lock
 * @throws ENODEV - the owner is gone
 * @source drivers/vfio/vfio_iommu_type1.c vfio_pin_pages_remote()
 */
export function* pinPagesRemote(state: Type1State, dma: Dma, from: number, to: number): Generator<MappedRun> {
  if (!dma.mm.alive) throw new VfioError('ENODEV', `the owner of mapping ${rangeText(dma.iova, dma.size)} is gone`);
  for (let offset = from; offset < to; ) {
    // of memory with a hole, what comes before it still counts: it may be over the limit, which is found first
    const vaddr = dma.vaddr + pageAddress(offset);
    const runs = dma.mm.pinPages(vaddr, to - offset, (dma.prot & Prot.WRITE) !== 0, { partial: true });
    let next = 0;
    try {
      for (const run of runs) {
        chargeRun(state, dma, offset, run);
        next++;
        yield { offset, run };
        offset += run.pages;
      }
    } finally {
      for (const run of runs.slice(next)) run.unpin(false);
    }
  }
}

/** Frames that are not memory are free, and so are pages that devices have paid for. */
function chargeRun(state: Type1State, dma: Dma, offset: number, run: PinnedRun): void {
  if (run.reserved) return;
  chargeLocked(state, dma, run.pages - dma.countPfns(dma.page + offset, run.pages), 'vfio_pin_pages_remote');
}

/**
 * Gives a run back.
 *
 * @returns pages that were charged to somebody, the mapping or a device: all, or none for frames that are not memory
 * @source drivers/vfio/vfio_iommu_type1.c vfio_unpin_pages_remote()
 */
export function unpinPagesRemote(dma: Dma, { run }: MappedRun): number {
  run.unpin((dma.prot & Prot.WRITE) !== 0);
  return run.reserved ? 0 : run.pages;
}

/** As {@link unpinPagesRemote}, and gives the charge back except for what devices still hold. */
export function unpinAndUncharge(dma: Dma, mapped: MappedRun): void {
  const unlocked = unpinPagesRemote(dma, mapped);
  if (unlocked > 0) unchargeLocked(dma, unlocked - dma.countPfns(dma.page + mapped.offset, unlocked));
}

/**
 * Pins one page for a device that has not pinned it before.
 *
 * @param account - whether the pin is charged: no hardware holds the page already
 * @throws ENODEV - the owner of the memory is gone
 * @throws EFAULT - not mapped, or not for this access
 * @throws EINVAL - not memory
 * @throws ENOMEM - over the limit of the owner
 * @source drivers/vfio/vfio_iommu_type1.c vfio_pin_page_external()
 */
function pinPageExternal(state: Type1State, dma: Dma, page: number, account: boolean): ExternalPfn {
  if (!dma.mm.alive) throw new VfioError('ENODEV', 'the owner of the memory is gone', { syscall: 'vfio_pin_pages' });
  const [run] = dma.mm.pinPages(dma.vaddrOf(page), 1, (dma.prot & Prot.WRITE) !== 0);
  if (!run) throw new VfioError('EFAULT', 'no page there', { syscall: 'vfio_pin_pages' });
  let charged = false;
  try {
    if (run.reserved) throw new VfioError('EINVAL', 'the page is not memory', { syscall: 'vfio_pin_pages' });
    if (account) {
      chargeLocked(state, dma, 1, 'vfio_pin_page_external');
      charged = true;
    }
    state.host.faults.check('vfio_add_to_pfn_list:memory');
    const pfn = { run, refCount: 1 };
    dma.addPfn(page, pfn);
    return pfn;
  } catch (error) {
    run.unpin(false);
    if (charged) unchargeLocked(dma, 1);
    throw error;
  }
}

/** Drops one pin of a page; a page without pins is left alone. Source: vfio_unpin_page_external() */
function unpinPageExternal(dma: Dma, page: number, account: boolean): void {
  const pfn = dma.findPfn(page);
  if (!pfn || --pfn.refCount > 0) return;
  dma.removePfn(page);
  pfn.run.unpin((dma.prot & Prot.WRITE) !== 0);
  if (account) unchargeLocked(dma, 1);
}

/**
 * Pins pages for an emulated device. See `IommuBackend.pinPages`.
 *
 * @throws EINVAL - no page asked for, no device listens for unmaps, a page is not mapped or is not memory
 * @throws EACCES - type1 version 1
 * @throws EOVERFLOW - past the end of the address space
 * @throws EBUSY - the user is exchanging addresses
 * @throws EPERM - the mapping does not allow `prot`
 * @throws ENODEV, EFAULT, ENOMEM - as for `pinPageExternal`; all pages of this call are unpinned then
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_pin_pages()
 */
export async function pinPages(
  state: Type1State,
  iommuGroup: IommuGroup,
  iova: bigint,
  npage: number,
  prot: number,
): Promise<PinnedPage[]> {
  const syscall = 'vfio_pin_pages';
  if (npage <= 0) throw new VfioError('EINVAL', `${npage} pages`, { syscall });
  if (!state.v2) throw new VfioError('EACCES', 'type1 version 1 knows no pins', { syscall });
  if (rangeEnd(iova, pageAddress(npage)) === undefined) {
    throw new VfioError('EOVERFLOW', `${npage} pages from 0x${iova.toString(16)} pass the end`, { syscall });
  }
  using _held = await state.lock.lock();
  const { host } = state;
  if (host.log.warnOnOnce(pinPages, state.vaddrInvalidCount > 0, 'pages are pinned while addresses are exchanged')) {
    throw new VfioError('EBUSY', `${state.vaddrInvalidCount} mappings wait for an address`, { syscall });
  }
  if (state.devices.length === 0) throw new VfioError('EINVAL', 'no device would hear of an unmap', { syscall });
  const group = state.groupOf(iommuGroup);
  // with hardware in the container all mapped pages are pinned and paid for already
  const account = state.domains.length === 0;
  const first = pageOf(iova);
  const pinned: PinnedPage[] = [];
  try {
    for (let page = first; page < first + npage; page++) pinned.push(pinPage(state, page, prot, account));
  } catch (error) {
    for (let page = first; page < first + pinned.length; page++) {
      const dma = state.dmas.at(page);
      if (dma) unpinPageExternal(dma, page, account);
    }
    throw error;
  }
  if (!group.pinnedPageDirtyScope) {
    group.pinnedPageDirtyScope = true;
    state.numNonPinnedGroups--;
  }
  return pinned;
}

function pinPage(state: Type1State, page: number, prot: number, account: boolean): PinnedPage {
  const dma = state.dmas.at(page);
  const refuse = (code: ErrnoCode, reason: string) =>
    new VfioError(code, reason, { syscall: 'vfio_pin_pages', subject: `iova 0x${pageAddress(page).toString(16)}` });
  if (!dma) throw refuse('EINVAL', 'not mapped');
  if ((dma.prot & prot) !== prot) throw refuse('EPERM', `mapped for access ${dma.prot}, not ${prot}`);
  let pfn = dma.findPfn(page);
  if (pfn) {
    pfn.refCount++;
  } else {
    pfn = pinPageExternal(state, dma, page, account);
    if (state.dirtyPageTracking) markPageDirty(state, dma, page);
  }
  return new ExternalPage(state, page, pfn.run.pfn);
}

/** A page as its device sees it; the bytes are looked up when they are wanted. */
class ExternalPage implements PinnedPage {
  readonly pfn: number;
  readonly #page: number;
  readonly #state: Type1State;

  constructor(state: Type1State, page: number, pfn: number) {
    this.#state = state;
    this.#page = page;
    this.pfn = pfn;
  }

  get iova(): bigint {
    return pageAddress(this.#page);
  }

  get bytes(): Uint8Array {
    const bytes = this.#state.host.memory.view(this.pfn * PAGE_SIZE, PAGE_SIZE);
    if (!bytes) throw new RangeError(`frame 0x${this.pfn.toString(16)} is not memory`);
    return bytes;
  }
}

/**
 * Drops one pin of each page. Wrong calls are reported and do nothing more: the kernel's driver cannot react either.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_unpin_pages()
 */
export async function unpinPages(state: Type1State, iova: bigint, npage: number): Promise<void> {
  const { log } = state.host;
  if (log.warnOn(!state.v2, 'unpin on type1 version 1')) return;
  if (log.warnOn(npage <= 0, `unpin of ${npage} pages`)) return;
  if (log.warnOn(rangeEnd(iova, pageAddress(npage)) === undefined, 'unpin past the end of the address space')) return;
  using _held = await state.lock.lock();
  const account = state.domains.length === 0;
  const first = pageOf(iova);
  let page = first;
  for (; page < first + npage; page++) {
    const dma = state.dmas.at(page);
    if (!dma) break;
    unpinPageExternal(dma, page, account);
  }
  const done = page - first;
  log.warnOn(done !== npage, `unpin of ${npage} pages from 0x${iova.toString(16)} met a hole after ${done}`);
}
