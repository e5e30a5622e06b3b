/** Dirty bits of hardware: turned on and off for a page table, and read into a bitmap of the user. */
import type { IommuDomain } from '@vfio/host';
import { VfioError } from '../errors.js';
import { IovaBitmap } from '../iova-bitmap.js';
import {
  IommuHwptDirtyTrackingFlag,
  IommuHwptGetDirtyBitmapFlag,
  type iommuHwptGetDirtyBitmap,
  type iommuHwptSetDirtyTracking,
} from '../uapi/iommufd.js';
import type { ValueOf } from '../uapi/struct.js';
import type { Command } from './command.js';
import { HwptPaging } from './hwpt.js';
import { ADDRESS_MAX, lastOf, rangeText } from './iova-range.js';

function checkTracks(domain: IommuDomain, syscall: string): void {
  if (!domain.canTrackDirty) throw new VfioError('EOPNOTSUPP', 'the page table has no dirty bits', { syscall });
}

/**
 * IOMMU_HWPT_SET_DIRTY_TRACKING. Bits from before are forgotten when it is turned on.
 *
 * @throws EOPNOTSUPP - an unknown flag, or the page table was made without dirty bits
 * @throws ENOENT - no such page table
 * @source drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_set_dirty_tracking()
 */
export async function hwptSetDirtyTracking(command: Command<typeof iommuHwptSetDirtyTracking.fields>): Promise<void> {
  const { context, args } = command;
  const syscall = 'IOMMU_HWPT_SET_DIRTY_TRACKING';
  if ((args.flags & ~IommuHwptDirtyTrackingFlag.ENABLE) !== 0) {
    throw new VfioError('EOPNOTSUPP', `flags 0x${args.flags.toString(16)}`, { syscall });
  }
  using hwpt = context.objects.hold(args.hwptId, HwptPaging);
  const { domain, ioas } = hwpt.object;
  checkTracks(domain, syscall);
  const enable = (args.flags & IommuHwptDirtyTrackingFlag.ENABLE) !== 0;
  using _held = await ioas.iopt.iovaRwsem.read();
  if (enable) {
    for (const { pages, start, length } of ioas.iopt.areas) {
      if (pages) domain.readAndClearDirty(start, length, () => {});
    }
  }
  domain.setDirtyTracking(enable);
}

/** Source: drivers/iommu/iommufd/io_pagetable.c iommufd_check_iova_range() */
function checkRange(args: ValueOf<typeof iommuHwptGetDirtyBitmap.fields>, alignment: bigint): bigint {
  const { iova, length, pageSize } = args;
  const refuse = (code: 'EINVAL' | 'EOVERFLOW', reason: string) =>
    new VfioError(code, reason, { syscall: 'IOMMU_HWPT_GET_DIRTY_BITMAP', subject: rangeText(iova, length) });
  // a length of 0 is all of the address space, which only begins at 0
  const last = lastOf(iova, length === 0n ? ADDRESS_MAX + 1n : length);
  if (last === undefined) throw refuse('EOVERFLOW', 'passes the end of the address space');
  const ends = iova | (last + 1n);
  if ((ends & (alignment - 1n)) !== 0n) throw refuse('EINVAL', `not a multiple of ${alignment}`);
  // Differs: undefined in the kernel for a page that is no power of two
  if (pageSize === 0n || (pageSize & (pageSize - 1n)) !== 0n) throw refuse('EINVAL', `pages of ${pageSize} bytes`);
  if ((ends & (pageSize - 1n)) !== 0n) throw refuse('EINVAL', `not a multiple of ${pageSize}`);
  return last;
}

/**
 * IOMMU_HWPT_GET_DIRTY_BITMAP: sets the bits of pages that devices wrote to, up to the first hole of the range, which is
 * no failure. The pages are clean after that, unless NO_CLEAR is given.
 *
 * Differs: a bitmap that cannot be written is an error; the kernel drops its bits in silence.
 *
 * @throws EOPNOTSUPP - an unknown flag, the reserved field is not 0, or the page table was made without dirty bits
 * @throws ENOENT - no such page table
 * @throws EINVAL - no such page size, or not aligned to it or to the IOAS
 * @throws EOVERFLOW - the range wraps, as one of length 0 does that does not begin at 0
 * @throws EFAULT - the bitmap is not accessible
 * @throws ENOMEM - no memory for it
 * @source drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_get_dirty_bitmap()
 */
export async function hwptGetDirtyBitmap(command: Command<typeof iommuHwptGetDirtyBitmap.fields>): Promise<void> {
  const { context, call, args } = command;
  const syscall = 'IOMMU_HWPT_GET_DIRTY_BITMAP';
  if ((args.flags & ~IommuHwptGetDirtyBitmapFlag.NO_CLEAR) !== 0 || args.reserved !== 0) {
    throw new VfioError('EOPNOTSUPP', `flags 0x${args.flags.toString(16)} or reserved`, { syscall });
  }
  using hwpt = context.objects.hold(args.hwptId, HwptPaging);
  const { domain, ioas } = hwpt.object;
  const last = checkRange(args, ioas.iopt.iovaAlignment);
  using _held = await ioas.iopt.iovaRwsem.read();
  checkTracks(domain, syscall);
  context.host.faults.check('iova_bitmap_alloc:bitmap');
  const { iova, pageSize, data: address } = args;
  const bitmap = new IovaBitmap(call, { iova, length: last - iova + 1n, pageSize, address });
  const keep = (args.flags & IommuHwptGetDirtyBitmapFlag.NO_CLEAR) !== 0;
  for (const { from, to } of ioas.iopt.areas.contiguous(iova, last).pieces) {
    domain.readAndClearDirty(from, to - from + 1n, (start, size) => bitmap.set(start, size), keep);
  }
  bitmap.flush();
}
