/** What a device does through its access: it pins pages, gives exactly these back, and copies without pinning. */
import { type AddressSpace, type ErrnoCode, type Host, IommuProt, PAGE_SIZE } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { PinnedPage } from '../iommu-driver.js';
import type { IommufdAccess } from './access-object.js';
import type { IoptArea } from './area.js';
import type { AreaPiece } from './area-tree.js';
import { ADDRESS_MAX, lastOf, PAGE, rangeText } from './iova-range.js';
import { UserPages } from './page-sources.js';
import type { IoptPages } from './pages.js';

/** Refuses a part of a range. */
type Refuse = (code: ErrnoCode, reason: string) => VfioError;

function refusal(syscall: string, iova: bigint, length: bigint): Refuse {
  return (code, reason) => new VfioError(code, reason, { syscall, subject: rangeText(iova, length) });
}

/** The last byte of a range that is neither empty nor wraps. */
function checkedLast(iova: bigint, length: bigint, refuse: Refuse): bigint {
  if (length === 0n) throw refuse('EINVAL', 'length is 0');
  const last = lastOf(iova, length);
  if (last === undefined) throw refuse('EOVERFLOW', 'passes the end of the address space');
  return last;
}

/** The pages of a piece, if a device may use them so. */
function usablePages({ area }: AreaPiece, write: boolean, refuse: Refuse): IoptPages {
  const { pages, preventAccess, prot } = area;
  if (!pages || preventAccess) throw refuse('EINVAL', 'a mapping is going away');
  if ((prot & (write ? IommuProt.WRITE : IommuProt.READ)) === 0) {
    throw refuse('EPERM', `a mapping is not for ${write ? 'writing' : 'reading'}`);
  }
  return pages;
}

/** Whole pages, as far as the piece is not the end of the range. Source: device.c iopt_area_contig_is_aligned() */
function isAligned({ area, from }: AreaPiece, last: bigint): boolean {
  if (area.byteOf(from) % PAGE !== 0n) return false;
  return last <= area.last || area.byteOf(area.last) % PAGE === PAGE - 1n;
}

/** A page as its device sees it; the bytes are looked up when they are wanted. */
class AccessPage implements PinnedPage {
  readonly iova: bigint;
  readonly pfn: number;
  readonly #host: Host;

  constructor(host: Host, iova: bigint, pfn: number) {
    this.#host = host;
    this.iova = iova;
    this.pfn = pfn;
  }

  get bytes(): Uint8Array {
    const bytes = this.#host.memory.view(this.pfn * PAGE_SIZE, PAGE_SIZE);
    if (!bytes) throw new RangeError(`frame 0x${this.pfn.toString(16)} is not memory`);
    return bytes;
  }
}

/** Holds one piece for a device, and lists its pages. Source: drivers/iommu/iommufd/pages.c iopt_area_add_access() */
async function addAccess(host: Host, piece: AreaPiece, pages: IoptPages): Promise<PinnedPage[]> {
  const { area, from, to } = piece;
  const first = area.indexOf(from);
  const last = area.indexOf(to);
  using _held = await pages.mutex.lock();
  pages.addAccess(first, last);
  area.numAccesses++;
  const listed: PinnedPage[] = [];
  for (const run of pages.frames(first, last)) {
    for (let page = 0; page < run.pages; page++) {
      listed.push(new AccessPage(host, from + BigInt(run.index + page - first) * PAGE, run.pfn + page));
    }
  }
  return listed;
}

/** Source: drivers/iommu/iommufd/pages.c iopt_area_remove_access() */
async function removeAccess(host: Host, area: IoptArea, from: bigint, to: bigint): Promise<void> {
  const { pages } = area;
  if (!pages) return;
  using _held = await pages.mutex.lock();
  const known = area.numAccesses > 0 && pages.removeAccess(area.indexOf(from), area.indexOf(to));
  if (host.log.warnOn(!known, `iommufd: unpin of ${rangeText(from, to - from + 1n)}, which was not pinned so`)) return;
  area.numAccesses--;
}

/**
 * Pins the pages behind a range for a device. They stay until `accessUnpinPages` is called with the same range.
 *
 * @param length - bytes
 * @param write - the device will write to them
 * @returns the pages, in order
 * @throws EINVAL - length 0, not at a page, or a mapping is being removed
 * @throws EOVERFLOW - the range wraps
 * @throws ENOENT - not attached, or a part is not mapped
 * @throws EPERM - mapped without this access
 * @throws EFAULT, ENOMEM - the memory cannot be pinned, or not charged; nothing is pinned then
 * @source drivers/iommu/iommufd/device.c iommufd_access_pin_pages()
 */
export async function accessPinPages(
  access: IommufdAccess,
  iova: bigint,
  length: bigint,
  write: boolean,
): Promise<PinnedPage[]> {
  const { host } = access.context;
  const refuse = refusal('iommufd_access_pin_pages', iova, length);
  const last = checkedLast(iova, length, refuse);
  using _lock = await access.ioasLock.lock();
  if (!access.ioas) throw refuse('ENOENT', 'the device is not attached');
  const { iopt } = access.ioas;
  using _held = await iopt.iovaRwsem.read();
  const { pieces, complete } = iopt.areas.contiguous(iova, last);
  const done: AreaPiece[] = [];
  const pinned: PinnedPage[] = [];
  try {
    for (const piece of pieces) {
      if (!isAligned(piece, last)) throw refuse('EINVAL', 'not made of whole pages');
      const pages = usablePages(piece, write, refuse);
      if (write && !pages.writable) throw refuse('EPERM', 'the pages are mapped for reading only');
      for (const page of await addAccess(host, piece, pages)) pinned.push(page);
      done.push(piece);
    }
    if (!complete) throw refuse('ENOENT', 'a part is not mapped');
  } catch (error) {
    for (const { area, from, to } of done) await removeAccess(host, area, from, to);
    throw error;
  }
  return pinned;
}

/**
 * Gives pages back. Wrong calls are reported and do nothing: the device could not react.
 *
 * @param iova - as it was pinned
 * @param length - as it was pinned
 * @source drivers/iommu/iommufd/device.c iommufd_access_unpin_pages()
 */
export async function accessUnpinPages(access: IommufdAccess, iova: bigint, length: bigint): Promise<void> {
  const { host } = access.context;
  const last = length === 0n ? undefined : lastOf(iova, length);
  if (host.log.warnOn(last === undefined, `iommufd: unpin of ${rangeText(iova, length)}`)) return;
  using _lock = await access.ioasLock.lock();
  const iopt = access.ioasUnpin?.iopt;
  if (host.log.warnOn(!iopt, 'iommufd: unpin by a device that is not attached') || !iopt) return;
  using _held = await iopt.iovaRwsem.read();
  const { pieces, complete } = iopt.areas.contiguous(iova, last ?? ADDRESS_MAX);
  for (const { area, from, to } of pieces) await removeAccess(host, area, from, to);
  host.log.warnOn(!complete, `iommufd: unpin of ${rangeText(iova, length)} met a hole`);
}

/**
 * Copies within the pages of one piece: as the process itself would, if it is the one that runs, else through frames.
 *
 * @source drivers/iommu/iommufd/pages.c iopt_pages_rw_access()
 */
async function rwPages(
  pages: IoptPages,
  startByte: bigint,
  bytes: Uint8Array,
  write: boolean,
  caller: AddressSpace | undefined,
): Promise<void> {
  const { mm } = pages.payer;
  // a kernel thread borrows the memory of the process while that is there
  if (pages instanceof UserPages && mm.alive && (caller === undefined || caller === mm)) {
    pages.copyUser(startByte, bytes, write);
    return;
  }
  using _held = await pages.mutex.lock();
  pages.copyFrames(startByte, bytes, write);
}

/**
 * Copies between a buffer and what is mapped at an IOVA, across mappings that follow each other. When it throws, what came
 * before is copied.
 *
 * @param write - from `bytes` to memory, which needs a mapping for writing only
 * @param caller - memory of the running task, undefined for a kernel thread
 * @throws EINVAL - no bytes, or a mapping is being removed
 * @throws EOVERFLOW - the range wraps
 * @throws ENOENT - not attached, or a part is not mapped
 * @throws EPERM - mapped without this access
 * @throws EFAULT - the memory is not there
 * @source drivers/iommu/iommufd/device.c iommufd_access_rw()
 */
export async function accessRw(
  access: IommufdAccess,
  iova: bigint,
  bytes: Uint8Array,
  write: boolean,
  caller?: AddressSpace,
): Promise<void> {
  const length = BigInt(bytes.length);
  const refuse = refusal('iommufd_access_rw', iova, length);
  const last = checkedLast(iova, length, refuse);
  using _lock = await access.ioasLock.lock();
  if (!access.ioas) throw refuse('ENOENT', 'the device is not attached');
  const { iopt } = access.ioas;
  using _held = await iopt.iovaRwsem.read();
  const { pieces, complete } = iopt.areas.contiguous(iova, last);
  for (const piece of pieces) {
    const { area, from, to } = piece;
    const pages = usablePages(piece, write, refuse);
    if (write && !pages.writable) throw refuse('EPERM', 'the pages are mapped for reading only');
    const part = bytes.subarray(Number(from - iova), Number(to - iova) + 1);
    await rwPages(pages, area.byteOf(from), part, write, caller);
  }
  if (!complete) throw refuse('ENOENT', 'a part is not mapped');
}
