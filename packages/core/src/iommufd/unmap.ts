/** IOMMU_IOAS_UNMAP: the request around `unmap-range.ts`. */
import { VfioError } from '../errors.js';
import type { iommuIoasUnmap } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import { Ioas } from './ioas.js';
import { ADDRESS_MAX, rangeText } from './iova-range.js';
import { unmapAll, unmapIova } from './unmap-range.js';

const syscall = 'IOMMU_IOAS_UNMAP';

/**
 * IOMMU_IOAS_UNMAP: everything with (0, all ones), which succeeds also when there is nothing.
 *
 * @throws ENOENT - no such IOAS; nothing is mapped there; a mapping reaches out of the range
 * @throws EOVERFLOW - the range wraps
 * @throws EINVAL - length 0
 * @throws EBUSY - another call works on a mapping of the range
 * @throws EDEADLK - a device does not let go of its pages
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_unmap()
 */
export async function ioasUnmap({ context, args, respond }: Command<typeof iommuIoasUnmap.fields>): Promise<void> {
  using ioas = context.objects.hold(args.ioasId, Ioas);
  const { iova, length } = args;
  const subject = rangeText(iova, length);
  const all = iova === 0n && length === ADDRESS_MAX;
  if (!all && (iova === ADDRESS_MAX || length === ADDRESS_MAX)) {
    throw new VfioError('EOVERFLOW', 'a number that is all ones', { syscall, subject });
  }
  const { iopt } = ioas.object;
  const { bytes, failure } = all ? await unmapAll(iopt) : await unmapIova(iopt, iova, length);
  if (failure) throw failure;
  if (!all && bytes === 0n) throw new VfioError('ENOENT', 'nothing is mapped', { syscall, subject });
  respond({ ...args, length: bytes });
}
