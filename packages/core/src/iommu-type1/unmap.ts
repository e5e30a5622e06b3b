/**
 * Mappings go: whole ones only in version 2, with their devices asked to let go of pinned pages first. The same request
 * takes addresses back for an exchange, which leaves the mapping in place.
 */
import { type IoctlCall, KernelBug } from '@vfio/host';
import { VfioError } from '../errors.js';
import { type Bitmap, bitmap as bitmapStruct, DmaUnmapFlag, iommuType1DmaUnmap } from '../uapi/vfio.js';
import { copyArgsz } from '../user-args.js';
import { cutsMapping, updateUserBitmap, verifyBitmap } from './dirty.js';
import type { Dma } from './dma.js';
import { unchargeLocked } from './locked-vm.js';
import { notifyDmaUnmap } from './notify.js';
import { unpinPagesRemote } from './pin.js';
import type { Type1State } from './state.js';
import { ADDRESS_MAX, pageAddress, pageOf, rangeEnd, rangeText } from './units.js';

const syscall = 'VFIO_IOMMU_UNMAP_DMA';
const knownFlags = DmaUnmapFlag.GET_DIRTY_BITMAP | DmaUnmapFlag.ALL | DmaUnmapFlag.VADDR;

/** How often in a row devices are asked to let go of one mapping before that is called a bug. */
const UNMAP_NOTIFICATIONS_MAX = 11;

/**
 * Takes a mapping out of all domains and gives its pages back. Without a domain there is nothing to do.
 *
 * @returns pages that had been charged; they still are
 * @source drivers/vfio/vfio_iommu_type1.c vfio_unmap_unpin()
 */
export function unmapUnpin(state: Type1State, dma: Dma): number {
  if (dma.pages === 0 || state.domains.length === 0) return 0;
  // no translation may be left anywhere once the first page is unpinned
  for (const { domain } of state.domains) {
    const unmapped = domain.unmap(dma.iova, dma.size);
    state.host.log.warnOn(unmapped !== dma.size, `domain gave up ${unmapped} of ${rangeText(dma.iova, dma.size)}`);
  }
  let unlocked = 0;
  for (const mapped of dma.runs) unlocked += unpinPagesRemote(dma, mapped);
  dma.runs = [];
  dma.iommuMapped = false;
  return unlocked;
}

/**
 * Removes a mapping altogether.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_remove_dma()
 */
export function removeDma(state: Type1State, dma: Dma): void {
  state.host.log.warnOn(dma.hasPfns, `mapping ${rangeText(dma.iova, dma.size)} goes with pages that devices hold`);
  unchargeLocked(dma, unmapUnpin(state, dma));
  state.dmas.unlink(dma);
  dma.bitmap = undefined;
  if (dma.vaddrInvalid) state.vaddrInvalidCount--;
  dma.free();
  state.dmaAvail++;
}

/** What is to be unmapped: pages first..last, or everything. */
interface UnmapRange {
  readonly first: number;
  readonly last: number;
  readonly all: boolean;
}

/**
 * Checks the range of a request against the container.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_dma_do_unmap()
 */
function checkRange(state: Type1State, iova: bigint, size: bigint, all: boolean): UnmapRange {
  const refuse = (reason: string) => new VfioError('EINVAL', reason, { syscall, subject: rangeText(iova, size) });
  const partOfPage = state.pgsize - 1n;
  if ((iova & partOfPage) !== 0n) throw refuse(`iova is not a multiple of ${state.pgsize}`);
  if (all) {
    if (iova !== 0n || size !== 0n) throw refuse('all is asked for, and a range');
    return { first: 0, last: pageOf(ADDRESS_MAX), all };
  }
  if (size === 0n || (size & partOfPage) !== 0n) throw refuse(`size is 0 or not a multiple of ${state.pgsize}`);
  const end = rangeEnd(iova, size);
  if (end === undefined) {
    throw new VfioError('EOVERFLOW', 'passes the end of the address space', {
      syscall,
      subject: rangeText(iova, size),
    });
  }
  return { first: pageOf(iova), last: pageOf(end), all };
}

/**
 * The addresses of all mappings in the range are no longer good; DMA goes on. All or none.
 *
 * @returns pages
 */
function invalidateVaddr(state: Type1State, range: UnmapRange): number {
  const taken: Dma[] = [];
  let pages = 0;
  for (const dma of mappingsFrom(state, range)) {
    if (dma.vaddrInvalid) {
      for (const other of taken) other.vaddrInvalid = false;
      throw new VfioError('EINVAL', 'the address was taken back before', {
        syscall,
        subject: rangeText(dma.iova, dma.size),
      });
    }
    dma.vaddrInvalid = true;
    taken.push(dma);
    pages += dma.pages;
  }
  state.vaddrInvalidCount += taken.length;
  return pages;
}

/** The mappings of a range, ascending; the one in hand may be removed. */
function* mappingsFrom(state: Type1State, { first, last }: UnmapRange): Generator<Dma> {
  for (let dma = state.dmas.first(first, last); dma && dma.page <= last; dma = state.dmas.next(dma)) {
    // version 1 does not look at a mapping from its middle on
    if (!state.v2 && first > dma.page) return;
    yield dma;
  }
}

/** Where the bits of removed mappings go. */
interface DirtyReport {
  readonly call: IoctlCall;
  readonly data: bigint;
}

/**
 * Removes mappings until one has pages that devices hold.
 *
 * @returns pages removed, and the mapping that cannot go yet
 */
function removeUnpinned(
  state: Type1State,
  range: UnmapRange,
  report: DirtyReport | undefined,
): { pages: number; pinned?: Dma } {
  let pages = 0;
  for (const dma of mappingsFrom(state, range)) {
    if (dma.hasPfns) return { pages, pinned: dma };
    if (report) updateUserBitmap(state, report.call, report.data, dma, range.first);
    pages += dma.pages;
    removeDma(state, dma);
  }
  return { pages };
}

/** A request as the user made it. */
interface UnmapRequest {
  readonly flags: number;
  readonly iova: bigint;
  readonly size: bigint;
  /** Of GET_DIRTY_BITMAP. */
  readonly bitmap: Bitmap | undefined;
}

/**
 * Unmaps, or takes addresses back. The lock is given up while devices are told of a mapping whose pages they hold, and
 * everything is looked at again then.
 *
 * @returns pages
 * @source drivers/vfio/vfio_iommu_type1.c vfio_dma_do_unmap()
 */
async function doUnmap(state: Type1State, call: IoctlCall, request: UnmapRequest): Promise<number> {
  const { flags, iova, size, bitmap } = request;
  const all = (flags & DmaUnmapFlag.ALL) !== 0;
  let range: UnmapRange | undefined;
  let asked: Dma | undefined;
  let times = 0;
  for (let pages = 0; ; ) {
    {
      using _held = await state.lockForRequest();
      const isFirst = range === undefined;
      if (isFirst && (flags & DmaUnmapFlag.VADDR) !== 0 && state.emulatedGroups.length > 0) {
        throw new VfioError('EBUSY', 'an emulated group is attached', { syscall });
      }
      range ??= checkRange(state, iova, size, all);
      if (isFirst && bitmap) checkTracking(state, bitmap);
      if (state.v2 && !all && cutsMapping(state, range.first, range.last)) {
        // somebody mapped across an end while devices were told: what is done stays done, and is no failure
        if (!isFirst) return pages;
        throw new VfioError('EINVAL', 'cuts a mapping', { syscall, subject: rangeText(iova, size) });
      }
      if ((flags & DmaUnmapFlag.VADDR) !== 0) return invalidateVaddr(state, range);
      const step = removeUnpinned(state, range, bitmap && { call, data: bitmap.data });
      pages += step.pages;
      if (!step.pinned) return pages;
      times = step.pinned === asked ? times + 1 : 1;
      asked = step.pinned;
    }
    if (times > UNMAP_NOTIFICATIONS_MAX) {
      const what = `mapping ${rangeText(asked.iova, asked.size)}`;
      throw new KernelBug('driver', `pages of ${what} are pinned after ${UNMAP_NOTIFICATIONS_MAX} notifications`);
    }
    await notifyDmaUnmap(state, asked.iova, asked.size);
  }
}

function checkTracking(state: Type1State, bitmap: Bitmap): void {
  if (!state.dirtyPageTracking) throw new VfioError('EINVAL', 'dirty tracking is off', { syscall });
  if (bitmap.pgsize !== state.pgsize) {
    throw new VfioError('EINVAL', `pages are ${state.pgsize} bytes, not ${bitmap.pgsize}`, { syscall });
  }
}

/**
 * VFIO_IOMMU_UNMAP_DMA. Writes back how many bytes were unmapped; a failure leaves the arguments as they were.
 *
 * @throws EFAULT - the arguments or the bitmap are not accessible
 * @throws EINVAL - argsz, flags, the bitmap, an unaligned or empty range; version 2: the range cuts a mapping; with VADDR:
 *   an address was taken back before
 * @throws EBUSY - VADDR while an emulated group is attached
 * @throws EOVERFLOW - the range passes the end of the address space
 * @throws KernelBug('driver') - a device did not let go of its pages, asked again and again
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_unmap_dma()
 */
export async function unmapDma(state: Type1State, call: IoctlCall): Promise<number> {
  const fixedSize = iommuType1DmaUnmap.endOf('size');
  const args = iommuType1DmaUnmap.decode(copyArgsz(call, fixedSize), call.order);
  const { argsz, flags, iova, size } = args;
  const refuse = (reason: string) => new VfioError('EINVAL', reason, { syscall });
  if ((flags & ~knownFlags) !== 0) throw refuse(`flags 0x${flags.toString(16)}`);
  let bitmap: Bitmap | undefined;
  if ((flags & DmaUnmapFlag.GET_DIRTY_BITMAP) !== 0) {
    if ((flags & ~DmaUnmapFlag.GET_DIRTY_BITMAP) !== 0) throw refuse('GET_DIRTY_BITMAP goes with no other flag');
    if (argsz < fixedSize + bitmapStruct.size) throw refuse(`argsz ${argsz} has no room for a bitmap`);
    bitmap = bitmapStruct.decode(call.copyIn(bitmapStruct.size, fixedSize), call.order);
    verifyBitmap(bitmap, size, syscall);
  }
  const pages = await doUnmap(state, call, { flags, iova, size, bitmap });
  call.copyOut(iommuType1DmaUnmap.encode({ ...args, size: pageAddress(pages) }, call.order));
  return 0;
}
