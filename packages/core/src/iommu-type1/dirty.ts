/**
 * Dirty tracking: which pages devices may have written since the user last asked. Emulated devices are known by what they
 * pin and by what the CPU writes for them; of hardware nothing is known, so while a group is in the container that has never
 * pinned, everything that hardware can reach counts as dirty.
 */
import { type IoctlCall, TASK_SIZE } from '@vfio/host';
import { VfioError } from '../errors.js';
import { type Bitmap, DirtyPagesFlag, iommuType1DirtyBitmap, iommuType1DirtyBitmapGet } from '../uapi/vfio.js';
import { copyArgsz } from '../user-args.js';
import { DIRTY_BITMAP_PAGES_MAX, DIRTY_BITMAP_SIZE_MAX, DirtyBitmap } from './dirty-bitmap.js';
import type { Dma } from './dma.js';
import type { Type1State } from './state.js';
import { pageOf, rangeEnd, rangeText } from './units.js';

const syscall = 'VFIO_IOMMU_DIRTY_PAGES';

/**
 * Gives a mapping its bitmap, all clean.
 *
 * @throws EINVAL - more pages than a bitmap can have
 * @throws ENOMEM - no memory for it
 * @source drivers/vfio/vfio_iommu_type1.c vfio_dma_bitmap_alloc()
 */
export function bitmapAlloc(state: Type1State, dma: Dma): void {
  const pages = dma.pages / state.pgsizePages;
  if (pages > DIRTY_BITMAP_PAGES_MAX) {
    throw new VfioError('EINVAL', `${pages} pages are too many for a dirty bitmap`, { syscall });
  }
  state.host.faults.check('vfio_dma_bitmap_alloc:bitmap');
  dma.bitmap = new DirtyBitmap(pages);
}

/** Marks what devices hold. Source: drivers/vfio/vfio_iommu_type1.c vfio_dma_populate_bitmap() */
function populateBitmap(state: Type1State, dma: Dma): void {
  for (const [page] of dma.pfns()) markPageDirty(state, dma, page);
}

/** Marks one page of the CPU, given by its IOVA page; nothing without tracking. */
export function markPageDirty(state: Type1State, dma: Dma, page: number): void {
  dma.bitmap?.set(Math.floor((page - dma.page) / state.pgsizePages));
}

/** Marks `length` bytes from byte `offset` of a mapping on. */
export function markBytesDirty(state: Type1State, dma: Dma, offset: bigint, length: number): void {
  const first = Number(offset / state.pgsize);
  const last = Number((offset + BigInt(length) - 1n) / state.pgsize);
  dma.bitmap?.set(first, last - first + 1);
}

/**
 * Marks every page of every mapping.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_populate_bitmap_full()
 */
export function populateBitmapFull(state: Type1State): void {
  for (const dma of state.dmas) dma.bitmap?.setAll();
}

/**
 * The smallest page has changed because a domain came or went: the marks follow. Differs: the kernel goes on with bitmaps
 * of the old size, and writes past their end when the pages became smaller.
 *
 * @param before - pages of the CPU in a page, up to now
 */
export function resizeBitmaps(state: Type1State, before: number): void {
  if (!state.dirtyPageTracking || before === state.pgsizePages) return;
  for (const dma of state.dmas) dma.bitmap = dma.bitmap?.resized(dma.pages / state.pgsizePages);
}

/** Turns tracking on, for all mappings or none. Source: vfio_dma_bitmap_alloc_all() */
async function start(state: Type1State): Promise<void> {
  using _held = await state.lockForRequest();
  if (state.dirtyPageTracking) return;
  try {
    for (const dma of state.dmas) {
      bitmapAlloc(state, dma);
      populateBitmap(state, dma);
    }
  } catch (error) {
    freeBitmaps(state);
    throw error;
  }
  state.dirtyPageTracking = true;
}

async function stop(state: Type1State): Promise<void> {
  using _held = await state.lockForRequest();
  state.dirtyPageTracking = false;
  freeBitmaps(state);
}

function freeBitmaps(state: Type1State): void {
  for (const dma of state.dmas) dma.bitmap = undefined;
}

/**
 * Checks a bitmap that the user offers for `size` bytes of IOVA, before the container is looked at.
 *
 * @throws EINVAL - it lies outside of user memory, stands for no page, or is empty, too small or too large
 * @source drivers/vfio/vfio_iommu_type1.c verify_bitmap_size()
 */
export function verifyBitmap(bitmap: Bitmap, size: bigint, request: string): void {
  const refuse = (reason: string) => new VfioError('EINVAL', reason, { syscall: request });
  if (bitmap.data + bitmap.size > BigInt(TASK_SIZE)) throw refuse('the bitmap is not in user memory');
  // Differs: undefined in the kernel, which looks for the lowest bit of 0
  if (bitmap.pgsize === 0n) throw refuse('a bit stands for pages of 0 bytes');
  const pages = size / (bitmap.pgsize & -bitmap.pgsize);
  if (pages === 0n) throw refuse(`${size} bytes are less than a page of the bitmap`);
  if (bitmap.size === 0n || bitmap.size > BigInt(DIRTY_BITMAP_SIZE_MAX) || bitmap.size * 8n < wholeWords(pages)) {
    throw refuse(`a bitmap of ${bitmap.size} bytes for ${pages} pages`);
  }
}

function wholeWords(pages: bigint): bigint {
  return ((pages + 63n) / 64n) * 64n;
}

/**
 * Reports one mapping to the user. Bits that a mapping before this one wrote in the same word are kept; the bits after the
 * last page, up to the end of its word, become 0.
 *
 * @param data - address of the user's bitmap
 * @param base - IOVA page that its first bit stands for
 * @throws EFAULT - the bitmap is not accessible
 * @source drivers/vfio/vfio_iommu_type1.c update_user_bitmap()
 */
export function updateUserBitmap(state: Type1State, call: IoctlCall, data: bigint, dma: Dma, base: number): void {
  const { bitmap } = dma;
  if (!bitmap) return;
  // hardware of a group that never pinned can have written to whatever it can reach
  if (state.numNonPinnedGroups > 0 && dma.iommuMapped) bitmap.setAll();
  const bitOffset = (dma.page - base) / state.pgsizePages;
  const address = data + BigInt(Math.floor(bitOffset / 64)) * 8n;
  const shift = bitOffset % 64;
  const words = bitmap.shifted(shift);
  if (shift > 0) {
    const before = inBitOrder(call, call.copyInAt(address, 8));
    const whole = shift >>> 3;
    for (let i = 0; i < whole; i++) words[i] = before[i] ?? 0;
    const rest = (before[whole] ?? 0) & ((1 << (shift & 7)) - 1);
    words[whole] = (words[whole] ?? 0) | rest;
  }
  call.copyOutAt(address, inBitOrder(call, words));
}

/** Between bits in bytes and the caller's 64-bit words, in place; both ways are the same. */
function inBitOrder(call: IoctlCall, words: Uint8Array): Uint8Array {
  if (call.order === 'big') {
    for (let at = 0; at < words.length; at += 8) words.subarray(at, at + 8).reverse();
  }
  return words;
}

/**
 * Reports the mappings of a range and starts each of them anew, with what devices hold marked again.
 *
 * @throws EINVAL - not what was tracked: tracking is off, another page size, or a mapping is cut by the range
 * @throws EFAULT - the bitmap is not accessible
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iova_dirty_bitmap()
 */
async function getBitmap(state: Type1State, call: IoctlCall, argsz: number): Promise<void> {
  const refuse = (reason: string) => new VfioError('EINVAL', reason, { syscall });
  const head = iommuType1DirtyBitmap.endOf('flags');
  if (argsz - head < iommuType1DirtyBitmapGet.size) throw refuse(`argsz is ${argsz}`);
  const range = iommuType1DirtyBitmapGet.decode(call.copyIn(iommuType1DirtyBitmapGet.size, head), call.order);
  const { iova, size, bitmap } = range;
  if (size === 0n) throw refuse('no bytes asked for');
  const end = rangeEnd(iova, size);
  if (end === undefined) {
    throw new VfioError('EOVERFLOW', `${rangeText(iova, size)} passes the end of the address space`, { syscall });
  }
  verifyBitmap(bitmap, size, syscall);

  using _held = await state.lockForRequest();
  const { pgsize } = state;
  if (bitmap.pgsize !== pgsize) throw refuse(`pages are ${pgsize} bytes, not ${bitmap.pgsize}`);
  if (((iova | size) & (pgsize - 1n)) !== 0n) throw refuse(`${rangeText(iova, size)} is not made of pages`);
  if (!state.dirtyPageTracking) throw refuse('dirty tracking is off');
  const first = pageOf(iova);
  const last = pageOf(end);
  if (cutsMapping(state, first, last)) throw refuse(`${rangeText(iova, size)} cuts a mapping`);
  for (let dma = state.dmas.first(first, last); dma && dma.page <= last; dma = state.dmas.next(dma)) {
    updateUserBitmap(state, call, bitmap.data, dma, first);
    dma.bitmap?.clear();
    populateBitmap(state, dma);
  }
}

/** Whether a mapping lies across one of the ends of first..last. */
export function cutsMapping(state: Type1State, first: number, last: number): boolean {
  const before = state.dmas.at(first);
  if (before && before.page !== first) return true;
  const behind = state.dmas.at(last);
  return behind !== undefined && behind.lastPage !== last;
}

/**
 * VFIO_IOMMU_DIRTY_PAGES.
 *
 * @throws EACCES - type1 version 1
 * @throws EFAULT - the arguments or the bitmap are not accessible
 * @throws EINVAL - argsz, flags (exactly one), or, for GET_BITMAP, the range or the bitmap
 * @throws EOVERFLOW - the range passes the end of the address space
 * @throws ENOMEM - no memory for the bitmaps
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_dirty_pages()
 */
export async function dirtyPages(state: Type1State, call: IoctlCall): Promise<number> {
  if (!state.v2) throw new VfioError('EACCES', 'type1 version 1 tracks nothing', { syscall });
  const { argsz, flags } = iommuType1DirtyBitmap.decode(
    copyArgsz(call, iommuType1DirtyBitmap.endOf('flags')),
    call.order,
  );
  switch (flags) {
    case DirtyPagesFlag.START:
      await start(state);
      return 0;
    case DirtyPagesFlag.STOP:
      await stop(state);
      return 0;
    case DirtyPagesFlag.GET_BITMAP:
      await getBitmap(state, call, argsz);
      return 0;
    default:
      throw new VfioError('EINVAL', `flags 0x${flags.toString(16)}: one of START, STOP, GET_BITMAP`, { syscall });
  }
}
