/** IOMMU_IOAS_COPY: a mapping of one IOAS in another. Both share the pages, which are pinned and charged once. */
import { VfioError } from '../errors.js';
import type { iommuIoasCopy } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import type { IoPagetable } from './io-pagetable.js';
import { Ioas } from './ioas.js';
import { lastOf, rangeText } from './iova-range.js';
import { checkMapFlags, convIommuProt, mapPages, type PageSlice, wantedIova } from './map.js';

const syscall = 'IOMMU_IOAS_COPY';

/**
 * The pages behind a range, with a reference of each slice that is the caller's.
 *
 * @throws EINVAL - length 0
 * @throws EOVERFLOW - the range wraps
 * @throws ENOENT - a part is not mapped
 * @throws ENOMEM - no memory for it
 * @source drivers/iommu/iommufd/io_pagetable.c iopt_get_pages()
 */
async function getPages(iopt: IoPagetable, iova: bigint, length: bigint): Promise<PageSlice[]> {
  const subject = rangeText(iova, length);
  if (length === 0n) throw new VfioError('EINVAL', 'length is 0', { syscall, subject });
  const last = lastOf(iova, length);
  if (last === undefined) throw new VfioError('EOVERFLOW', 'passes the end of the address space', { syscall, subject });
  const slices: PageSlice[] = [];
  try {
    using _held = await iopt.iovaRwsem.read();
    const { pieces, complete } = iopt.areas.contiguous(iova, last);
    for (const { area, from, to } of pieces) {
      iopt.host.faults.check('iopt_get_pages:slice');
      if (area.pages) slices.push({ pages: area.pages.get(), startByte: area.byteOf(from), length: to - from + 1n });
    }
    if (!complete) throw new VfioError('ENOENT', 'a part is not mapped', { syscall, subject });
  } catch (error) {
    await putPages(slices);
    throw error;
  }
  return slices;
}

async function putPages(slices: readonly PageSlice[]): Promise<void> {
  for (const { pages } of slices) await pages.put();
}

/**
 * IOMMU_IOAS_COPY. Any range without a hole can be copied, be it one mapping or many.
 *
 * @throws EOPNOTSUPP, EOVERFLOW, EINVAL - as for `checkMapFlags`
 * @throws ENOENT - no such IOAS; a part of the source is not mapped
 * @throws EPERM - WRITEABLE, and the source was mapped for reading only
 * @throws as `mapPages`
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_copy()
 */
export async function ioasCopy({ context, args, respond }: Command<typeof iommuIoasCopy.fields>): Promise<void> {
  const { flags, length, srcIova, dstIova } = args;
  checkMapFlags(flags, 0, [length, srcIova, dstIova]);
  const slices = await copySource();
  try {
    using target = context.objects.hold(args.dstIoasId, Ioas);
    const wanted = wantedIova(flags, dstIova);
    const iova = await mapPages(target.object.iopt, slices, length, wanted, convIommuProt(flags));
    respond({ ...args, dstIova: iova });
  } finally {
    await putPages(slices);
  }

  async function copySource(): Promise<PageSlice[]> {
    using source = context.objects.hold(args.srcIoasId, Ioas);
    return await getPages(source.object.iopt, srcIova, length);
  }
}
