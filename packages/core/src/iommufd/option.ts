/** IOMMU_OPTION: who pays for pinned pages, and whether domains get large pages. */
import { VfioError } from '../errors.js';
import { IommuOptionId, IommuOptionOp, iommuOption } from '../uapi/iommufd.js';
import type { ValueOf } from '../uapi/struct.js';
import type { Command } from './command.js';
import { Ioas } from './ioas.js';

const syscall = 'IOMMU_OPTION';

type OptionCommand = Command<typeof iommuOption.fields>;

function unsupported({ optionId, op }: ValueOf<typeof iommuOption.fields>): VfioError {
  return new VfioError('EOPNOTSUPP', `no option ${optionId} with operation ${op}`, { syscall });
}

/** Source: drivers/iommu/iommufd/ioas.c iommufd_option_rlimit_mode() */
function rlimitMode({ context, call, args }: OptionCommand): bigint {
  if (args.objectId !== 0)
    throw new VfioError('EOPNOTSUPP', `the option is of no object: ${args.objectId}`, { syscall });
  if (args.op === IommuOptionOp.GET) return context.accountMode === 'mm' ? 1n : 0n;
  if (args.op !== IommuOptionOp.SET) throw unsupported(args);
  if (!call.process.credentials.capable('SYS_RESOURCE')) {
    throw new VfioError('EPERM', 'needs CAP_SYS_RESOURCE', { syscall });
  }
  if (!context.objects.empty) throw new VfioError('EBUSY', 'the context has objects', { syscall });
  if (args.val64 > 1n) throw new VfioError('EINVAL', `the value is 0 or 1, not ${args.val64}`, { syscall });
  context.accountMode = args.val64 === 1n ? 'mm' : 'user';
  return args.val64;
}

/** Source: drivers/iommu/iommufd/ioas.c iommufd_ioas_option_huge_pages() */
async function hugePages({ context, args }: OptionCommand): Promise<bigint> {
  using ioas = context.objects.hold(args.objectId, Ioas);
  const { iopt } = ioas.object;
  if (args.op === IommuOptionOp.GET) return iopt.largePagesDisabled ? 0n : 1n;
  if (args.op !== IommuOptionOp.SET) throw unsupported(args);
  if (args.val64 > 1n) throw new VfioError('EINVAL', `the value is 0 or 1, not ${args.val64}`, { syscall });
  if (args.val64 === 0n) await iopt.disableLargePages();
  else await iopt.enableLargePages();
  return args.val64;
}

/**
 * IOMMU_OPTION. Of the struct only the value is written back.
 *
 * @throws EOPNOTSUPP - no such option or operation, the reserved field is not 0, or an object where none belongs
 * @throws EPERM - the limits' mode is set without CAP_SYS_RESOURCE
 * @throws EBUSY - the limits' mode is set in a context with objects
 * @throws EINVAL - no such value, or large pages are in domains already
 * @throws EADDRINUSE - something is mapped that is not made of pages
 * @throws ENOENT - no such IOAS
 * @source drivers/iommu/iommufd/main.c iommufd_option()
 */
export async function option(command: OptionCommand): Promise<void> {
  const { call, args } = command;
  if (args.reserved !== 0) throw new VfioError('EOPNOTSUPP', `reserved is ${args.reserved}`, { syscall });
  let val64: bigint;
  if (args.optionId === IommuOptionId.RLIMIT_MODE) val64 = rlimitMode(command);
  else if (args.optionId === IommuOptionId.HUGE_PAGES) val64 = await hugePages(command);
  else throw unsupported(args);
  const at = iommuOption.offsetOf('val64');
  call.copyOut(iommuOption.encode({ ...args, val64 }, call.order).subarray(at, at + 8), at);
}
