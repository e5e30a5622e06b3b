/**
 * How mappings go: whole areas only, one after the other. Where devices hold pages of an area they are asked to let go,
 * with no lock held, until they do.
 */
import type { Held } from '@vfio/host';
import { VfioError } from '../errors.js';
import { notifyUnmap } from './access-notify.js';
import { IoptArea } from './area.js';
import { unfillDomains } from './domain-fill.js';
import type { IoPagetable } from './io-pagetable.js';
import { ADDRESS_MAX, lastOf, rangeText } from './iova-range.js';

const syscall = 'iommufd';
/** How often devices are asked before they count as broken. */
const MAX_TRIES = 100;

/** What an unmap did, also when it failed on the way: the areas before the failure stay unmapped. */
export interface Unmapped {
  /** Bytes. */
  readonly bytes: bigint;
  readonly failure?: VfioError;
}

/** Where an unmap is. */
interface Progress {
  start: bigint;
  readonly last: bigint;
  bytes: bigint;
  tries: number;
}

/** Removes an area that nobody holds; the IOVA lock is given up meanwhile. */
async function removeArea(iopt: IoPagetable, area: IoptArea, iova: Held): Promise<Held> {
  const { pages } = area;
  area.pages = undefined;
  iova.release();
  if (pages) await unfillDomains(iopt, area, pages);
  const again = await iopt.iovaRwsem.write();
  iopt.areas.remove(area);
  area.free();
  // an unmap that goes on takes the lock anew: what was removed behind it may be mapped again by now
  await pages?.put();
  return again;
}

/**
 * Removes areas until one of them is held by devices.
 *
 * @returns that area; undefined when all are gone
 * @throws EBUSY - an area is being made or removed
 * @throws ENOENT - an area reaches out of the range
 */
async function unmapRound(iopt: IoPagetable, progress: Progress): Promise<IoptArea | undefined> {
  using _domains = await iopt.domainsRwsem.read();
  let iova = await iopt.iovaRwsem.write();
  try {
    for (;;) {
      const area = iopt.areas.first(progress.start, progress.last);
      if (!area) return undefined;
      const subject = rangeText(area.start, area.length);
      if (!area.pages) throw new VfioError('EBUSY', 'another call works on the mapping', { syscall, subject });
      if (area.start < progress.start || area.last > progress.last) {
        throw new VfioError('ENOENT', 'the range cuts a mapping', { syscall, subject });
      }
      if (area.start !== progress.start) progress.tries = 0;
      if (area.numAccesses > 0) {
        progress.start = area.start;
        area.preventAccess = true;
        return area;
      }
      iova = await removeArea(iopt, area, iova);
      progress.bytes += area.length;
      if (area.last >= progress.last) return undefined;
      progress.start = area.last + 1n;
    }
  } finally {
    iova.release();
  }
}

/**
 * Removes what is mapped in a range.
 *
 * @returns bytes removed, and the failure if there was one: EBUSY, ENOENT as for `unmapRound`; EDEADLK - a device does not
 *   let go
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_unmap_iova_range()
 */
async function unmapRange(iopt: IoPagetable, start: bigint, last: bigint): Promise<Unmapped> {
  const progress: Progress = { start, last, bytes: 0n, tries: 0 };
  try {
    for (let busy = await unmapRound(iopt, progress); busy; busy = await unmapRound(iopt, progress)) {
      await notifyUnmap(iopt, busy.start, busy.length);
      progress.tries++;
      const subject = rangeText(busy.start, busy.length);
      if (iopt.host.log.warnOn(progress.tries > MAX_TRIES, `iommufd: devices do not let go of ${subject}`)) {
        throw new VfioError('EDEADLK', `pages are still pinned after ${progress.tries} requests`, { syscall, subject });
      }
    }
  } catch (error) {
    if (!(error instanceof VfioError)) throw error;
    return { bytes: progress.bytes, failure: error };
  }
  return { bytes: progress.bytes };
}

/**
 * Removes what is mapped in a range; nothing there is no failure.
 *
 * @returns bytes removed, and the failure if there was one: EINVAL - length 0; EOVERFLOW - the range wraps; or EBUSY,
 *   ENOENT, EDEADLK on the way
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_unmap_iova()
 */
export async function unmapIova(iopt: IoPagetable, iova: bigint, length: bigint): Promise<Unmapped> {
  const subject = rangeText(iova, length);
  if (length === 0n) return { bytes: 0n, failure: new VfioError('EINVAL', 'length is 0', { syscall, subject }) };
  const last = lastOf(iova, length);
  if (last !== undefined) return await unmapRange(iopt, iova, last);
  const failure = new VfioError('EOVERFLOW', 'passes the end of the address space', { syscall, subject });
  return { bytes: 0n, failure };
}

/** Removes everything. Source: drivers/iommu/iommufd/io_pagetable.c iopt_unmap_all() */
export async function unmapAll(iopt: IoPagetable): Promise<Unmapped> {
  return await unmapRange(iopt, 0n, ADDRESS_MAX);
}

/**
 * Cuts an area in two, behind the byte at `iova`. Both halves go on with the same pages.
 *
 * @throws EBUSY - the area is being made or removed, or an unmap waits for it
 * @throws EINVAL - not at a multiple of the alignment, devices hold pages of it, or domains may have large pages of it
 * @throws ENOMEM - no memory for it
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_area_split()
 */
async function splitArea(iopt: IoPagetable, area: IoptArea, iova: bigint): Promise<void> {
  if (iova === area.start || iova === area.last) return;
  const subject = rangeText(area.start, area.length);
  const refuse = (code: 'EBUSY' | 'EINVAL', reason: string) => new VfioError(code, reason, { syscall, subject });
  const { pages } = area;
  if (!pages || area.preventAccess) throw refuse('EBUSY', 'another call works on the mapping');
  const middle = iova + 1n;
  if (((middle | area.byteOf(middle)) & (iopt.iovaAlignment - 1n)) !== 0n) {
    throw refuse('EINVAL', `0x${middle.toString(16)} is not a multiple of ${iopt.iovaAlignment}`);
  }
  using _held = await pages.mutex.lock();
  if (area.numAccesses > 0) throw refuse('EINVAL', 'devices hold pages of the mapping');
  if (area.filled && !iopt.largePagesDisabled) throw refuse('EINVAL', 'domains may have large pages of the mapping');
  const half = (start: bigint, last: bigint) => {
    iopt.host.faults.check('iopt_area_split:area');
    const text = rangeText(start, last - start + 1n);
    const tracked = iopt.host.tracker.track('mapping', () => `iommufd mapping ${text}`);
    return new IoptArea({ start, last, startByte: area.byteOf(start), prot: area.prot, tracked });
  };
  const left = half(area.start, iova);
  let right: IoptArea;
  try {
    right = half(middle, area.last);
  } catch (error) {
    left.free();
    throw error;
  }
  iopt.areas.remove(area);
  for (const part of [left, right]) {
    part.filled = area.filled;
    iopt.areas.insert(part);
  }
  left.pages = pages;
  right.pages = pages.get();
  pages.split(area, [left, right]);
  area.free();
}

/**
 * Cuts what is mapped behind each of some bytes.
 *
 * @throws EBUSY, EINVAL, ENOMEM - as for `splitArea`; the cuts before stay
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_cut_iova()
 */
export async function cutIova(iopt: IoPagetable, iovas: readonly bigint[]): Promise<void> {
  using _held = await iopt.iovaRwsem.write();
  for (const iova of iovas) {
    const area = iopt.areas.first(iova, iova);
    if (area) await splitArea(iopt, area, iova);
  }
}
