/**
 * New mappings, of memory of the caller or of a file. An area takes its place first, without pages; then its pages are
 * pinned and shown to the domains, with the IOVA lock free; only then it is a mapping.
 */
import { DmaBufFile, type IoctlCall, IommuProt } from '@vfio/host';
import { VfioError } from '../errors.js';
import { IommuIoasMapFlag, type iommuIoasMap, type iommuIoasMapFile } from '../uapi/iommufd.js';
import { IoptArea } from './area.js';
import type { Command } from './command.js';
import type { IommufdContext } from './context.js';
import { allocDmaBufPages } from './dma-buf-pages.js';
import { fillDomains, unfillDomains } from './domain-fill.js';
import type { IoPagetable } from './io-pagetable.js';
import { Ioas } from './ioas.js';
import { allocIova, checkIova } from './iova-alloc.js';
import { ADDRESS_MAX, lastOf, PAGE, rangeText } from './iova-range.js';
import { allocFilePages, allocUserPages, type MapRequest } from './page-sources.js';
import type { IoptPages } from './pages.js';

const syscall = 'iommufd';
const knownFlags = IommuIoasMapFlag.FIXED_IOVA | IommuIoasMapFlag.READABLE | IommuIoasMapFlag.WRITEABLE;

/** A part of pages that is to be mapped. Source: drivers/iommu/iommufd/io_pagetable.c struct iopt_pages_list */
export interface PageSlice {
  readonly pages: IoptPages;
  /** Bytes from the start of the pages. */
  readonly startByte: bigint;
  /** Bytes. */
  readonly length: bigint;
}

/** A place that an area has taken, and the pages that it will get. */
interface Claim {
  readonly area: IoptArea;
  readonly pages: IoptPages;
}

/** Takes the place of one slice. Source: drivers/iommu/iommufd/io_pagetable.c iopt_insert_area() */
function insertArea(iopt: IoPagetable, { pages, startByte, length }: PageSlice, iova: bigint, prot: number): Claim {
  const subject = rangeText(iova, length);
  if ((prot & IommuProt.WRITE) !== 0 && !pages.writable) {
    throw new VfioError('EPERM', 'the pages are mapped for reading only', { syscall, subject });
  }
  if (((startByte % PAGE) & (iopt.iovaAlignment - 1n)) !== 0n) {
    throw new VfioError('EINVAL', `the memory is not a multiple of ${iopt.iovaAlignment}`, { syscall, subject });
  }
  const last = lastOf(iova, length);
  if (last === undefined) throw new VfioError('EOVERFLOW', 'passes the end of the address space', { syscall, subject });
  iopt.host.faults.check('iopt_area_alloc:area');
  const tracked = iopt.host.tracker.track('mapping', () => `iommufd mapping ${subject}`);
  const area = new IoptArea({ start: iova, last, startByte, prot, tracked });
  iopt.areas.insert(area);
  return { area, pages };
}

/** Gives places back. Source: drivers/iommu/iommufd/io_pagetable.c iopt_abort_area() */
function abortAreas(iopt: IoPagetable, claims: readonly Claim[]): void {
  for (const { area } of claims) {
    iopt.areas.remove(area);
    area.free();
  }
}

/** Chooses or checks the place of all slices, and takes it. Source: io_pagetable.c iopt_alloc_area_pages() */
async function allocAreas(
  iopt: IoPagetable,
  slices: readonly PageSlice[],
  length: bigint,
  wanted: bigint | undefined,
  prot: number,
): Promise<Claim[]> {
  using _held = await iopt.iovaRwsem.write();
  const [first] = slices;
  if (!first || length === 0n || (length & (iopt.iovaAlignment - 1n)) !== 0n) {
    throw new VfioError('EINVAL', `${length} bytes are not a multiple of ${iopt.iovaAlignment}`, { syscall });
  }
  if (wanted !== undefined) checkIova(iopt, wanted, length);
  let iova = wanted ?? allocIova(iopt, first.pages.base + first.startByte, length);
  const claims: Claim[] = [];
  try {
    for (const slice of slices) {
      claims.push(insertArea(iopt, slice, iova, prot));
      iova += slice.length;
    }
  } catch (error) {
    abortAreas(iopt, claims);
    throw error;
  }
  return claims;
}

/**
 * Maps slices of pages one after the other. Each area takes a reference of its pages; those of the caller stay its own.
 *
 * @param wanted - the IOVA; undefined: the kernel chooses
 * @param prot - `IommuProt` READ and WRITE
 * @returns the IOVA
 * @throws EINVAL - not aligned, length 0, reserved
 * @throws EOVERFLOW, EEXIST, ENOSPC - no such place; see `checkIova` and `allocIova`
 * @throws EPERM - written to, but the pages are read-only
 * @throws EFAULT, ENOMEM - the pages cannot be pinned; the errno of a domain
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_map_pages()
 */
export async function mapPages(
  iopt: IoPagetable,
  slices: readonly PageSlice[],
  length: bigint,
  wanted: bigint | undefined,
  prot: number,
): Promise<bigint> {
  const claims = await allocAreas(iopt, slices, length, wanted, prot);
  const filled: Claim[] = [];
  try {
    using _domains = await iopt.domainsRwsem.read();
    try {
      for (const claim of claims) {
        await fillDomains(iopt, claim.area, claim.pages);
        filled.push(claim);
      }
    } catch (error) {
      for (const { area, pages } of filled) await unfillDomains(iopt, area, pages);
      throw error;
    }
    // with the domains' lock held: a domain that is added later finds the pages
    using _iova = await iopt.iovaRwsem.write();
    for (const { area, pages } of claims) area.pages = pages.get();
  } catch (error) {
    using _iova = await iopt.iovaRwsem.write();
    abortAreas(iopt, claims);
    throw error;
  }
  return claims[0]?.area.start ?? 0n;
}

/**
 * Maps all of some pages, and gives the reference to them back.
 *
 * @throws as `mapPages`
 */
async function mapWhole(
  iopt: IoPagetable,
  pages: IoptPages,
  startByte: bigint,
  length: bigint,
  wanted: bigint | undefined,
  prot: number,
): Promise<bigint> {
  try {
    return await mapPages(iopt, [{ pages, startByte, length }], length, wanted, prot);
  } finally {
    await pages.put();
  }
}

/**
 * Maps memory of a process.
 *
 * @param address - of the first byte
 * @param wanted - the IOVA; undefined: the kernel chooses
 * @returns the IOVA
 * @throws EINVAL, EOVERFLOW, ENOMEM - as for `allocUserPages`, and as `mapPages`
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_map_user_pages()
 */
export async function mapUserPages(
  iopt: IoPagetable,
  request: MapRequest,
  address: bigint,
  wanted: bigint | undefined,
  prot: number,
): Promise<bigint> {
  const pages = allocUserPages(request, address);
  return await mapWhole(iopt, pages, address % PAGE, request.length, wanted, prot);
}

/** What a request maps, for `allocUserPages`. */
export function mapRequest(context: IommufdContext, call: IoctlCall, length: bigint, prot: number): MapRequest {
  const { iommufd, accountMode } = context;
  return { iommufd, caller: call.process, accountMode, length, writable: (prot & IommuProt.WRITE) !== 0 };
}

/** The access that flags of a request ask for. Source: drivers/iommu/iommufd/ioas.c conv_iommu_prot() */
export function convIommuProt(flags: number): number {
  const read = (flags & IommuIoasMapFlag.READABLE) !== 0 ? IommuProt.READ : 0;
  return read | ((flags & IommuIoasMapFlag.WRITEABLE) !== 0 ? IommuProt.WRITE : 0);
}

/**
 * What all requests that map check first.
 *
 * @param sizes - the length and every IOVA of the request
 * @throws EOPNOTSUPP - an unknown flag
 * @throws EOVERFLOW - a number that is all ones
 * @throws EINVAL - neither READABLE nor WRITEABLE
 */
export function checkMapFlags(flags: number, reserved: number, sizes: readonly bigint[]): void {
  if ((flags & ~knownFlags) !== 0 || reserved !== 0) {
    throw new VfioError('EOPNOTSUPP', `flags 0x${flags.toString(16)}, reserved ${reserved}`, { syscall });
  }
  if (sizes.some((size) => size >= ADDRESS_MAX)) {
    throw new VfioError('EOVERFLOW', 'a number that is all ones', { syscall });
  }
  if (convIommuProt(flags) === 0) throw new VfioError('EINVAL', 'neither READABLE nor WRITEABLE', { syscall });
}

/** The IOVA that a request fixes. */
export function wantedIova(flags: number, iova: bigint): bigint | undefined {
  return (flags & IommuIoasMapFlag.FIXED_IOVA) !== 0 ? iova : undefined;
}

/**
 * IOMMU_IOAS_MAP.
 *
 * @throws EOPNOTSUPP, EOVERFLOW, EINVAL - as for `checkMapFlags`
 * @throws ENOENT - no such IOAS
 * @throws as `mapUserPages`
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_map()
 */
export async function ioasMap(command: Command<typeof iommuIoasMap.fields>): Promise<void> {
  const { context, call, args } = command;
  checkMapFlags(args.flags, args.reserved, [args.iova, args.length]);
  using ioas = context.objects.hold(args.ioasId, Ioas);
  const prot = convIommuProt(args.flags);
  const request = mapRequest(context, call, args.length, prot);
  const iova = await mapUserPages(ioas.object.iopt, request, args.userVa, wantedIova(args.flags, args.iova), prot);
  command.respond({ ...args, iova });
}

/**
 * IOMMU_IOAS_MAP_FILE. A file whose contents cannot be pinned is only found out when somebody wants them. A buffer that a
 * VFIO device exports is its registers, for other devices to reach.
 *
 * @throws EBADF - no such descriptor
 * @throws EINVAL - the file has no memory that can be pinned; past the end of a buffer
 * @throws EOPNOTSUPP, ENODEV - a buffer of something else, or one that is taken back
 * @throws as `ioasMap`
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_map_file()
 */
export async function ioasMapFile(command: Command<typeof iommuIoasMapFile.fields>): Promise<void> {
  const { context, call, args } = command;
  checkMapFlags(args.flags, 0, [args.iova, args.length]);
  using ioas = context.objects.hold(args.ioasId, Ioas);
  const file = call.process.files.get(args.fd);
  const prot = convIommuProt(args.flags);
  const request = mapRequest(context, call, args.length, prot);
  const pages =
    file instanceof DmaBufFile
      ? await allocDmaBufPages(request, file, args.start)
      : allocFilePages(request, file, args.start);
  const wanted = wantedIova(args.flags, args.iova);
  const iova = await mapWhole(ioas.object.iopt, pages, args.start % PAGE, args.length, wanted, prot);
  command.respond({ ...args, iova });
}
