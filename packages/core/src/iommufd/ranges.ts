/** What may be mapped: IOMMU_IOAS_IOVA_RANGES tells, IOMMU_IOAS_ALLOW_IOVAS tells the kernel where to choose. */
import { BTree, type IoctlCall } from '@vfio/host';
import { VfioError } from '../errors.js';
import { type iommuIoasAllowIovas, type iommuIoasIovaRanges, iommuIovaRange } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import { Ioas } from './ioas.js';
import { byBigint, type IovaRange } from './iova-range.js';

function checkReserved(reserved: number, syscall: string): void {
  if (reserved !== 0) throw new VfioError('EOPNOTSUPP', `reserved is ${reserved}`, { syscall });
}

/**
 * IOMMU_IOAS_IOVA_RANGES: what is not reserved, mapped or not.
 *
 * @throws EOPNOTSUPP - the reserved field is not 0
 * @throws ENOENT - no such IOAS
 * @throws EMSGSIZE - there are more ranges than room; as many as fit are written, and how many there are
 * @throws EFAULT - not writable
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_iova_ranges()
 */
export async function ioasIovaRanges(command: Command<typeof iommuIoasIovaRanges.fields>): Promise<void> {
  const { context, call, args, respond } = command;
  const syscall = 'IOMMU_IOAS_IOVA_RANGES';
  checkReserved(args.reserved, syscall);
  using ioas = context.objects.hold(args.ioasId, Ioas);
  const { iopt } = ioas.object;
  using _held = await iopt.iovaRwsem.read();
  const usable = iopt.usable();
  for (const [index, range] of usable.slice(0, args.numIovas).entries()) {
    call.copyOutAt(args.allowedIovas + BigInt(index * iommuIovaRange.size), iommuIovaRange.encode(range, call.order));
  }
  respond({ ...args, numIovas: usable.length, outIovaAlignment: iopt.iovaAlignment });
  if (usable.length > args.numIovas) {
    throw new VfioError('EMSGSIZE', `${usable.length} ranges, room for ${args.numIovas}`, { syscall });
  }
}

/**
 * Reads the list of a user.
 *
 * @returns the ranges by address
 * @throws EFAULT - not readable
 * @throws EINVAL - a range of less than two bytes, or one that overlaps another
 * @throws ENOMEM - no memory for it
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_load_iovas()
 */
function loadIovas(call: IoctlCall, address: bigint, count: number, check: (step: string) => void): IovaRange[] {
  const syscall = 'IOMMU_IOAS_ALLOW_IOVAS';
  const ranges = new BTree<bigint, IovaRange>(undefined, byBigint);
  for (let index = 0; index < count; index++) {
    const bytes = call.copyInAt(address + BigInt(index * iommuIovaRange.size), iommuIovaRange.size);
    const range = iommuIovaRange.decode(bytes, call.order);
    if (range.start >= range.last) throw new VfioError('EINVAL', `range ${index} has no two bytes`, { syscall });
    const below = ranges.getPairOrNextLower(range.last)?.[1];
    if (below && below.last >= range.start)
      throw new VfioError('EINVAL', `range ${index} overlaps another`, { syscall });
    check('iommufd_ioas_load_iovas:range');
    ranges.set(range.start, range);
  }
  return [...ranges.values()];
}

/**
 * IOMMU_IOAS_ALLOW_IOVAS: replaces the list, as a whole or not at all.
 *
 * @throws EOPNOTSUPP - the reserved field is not 0
 * @throws ENOENT - no such IOAS
 * @throws EFAULT, EINVAL, ENOMEM - the list; see `loadIovas`
 * @throws EADDRINUSE - a range meets a reserved one
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_allow_iovas()
 */
export async function ioasAllowIovas(command: Command<typeof iommuIoasAllowIovas.fields>): Promise<void> {
  const { context, call, args } = command;
  checkReserved(args.reserved, 'IOMMU_IOAS_ALLOW_IOVAS');
  using ioas = context.objects.hold(args.ioasId, Ioas);
  const { faults } = context.host;
  const ranges = loadIovas(call, args.allowedIovas, args.numIovas, (step) => faults.check(step));
  await ioas.object.iopt.setAllowIova(ranges);
}
