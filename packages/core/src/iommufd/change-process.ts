/**
 * IOMMU_IOAS_CHANGE_PROCESS: after an exec or in a new process, the caller takes over what is charged for mappings of
 * files. It is possible because such pages are found without the memory of the old process.
 */
import type { Held } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { iommuIoasChangeProcess } from '../uapi/iommufd.js';
import { type AccountMode, type Payer, payerOf, updatePinned } from './accounting.js';
import type { Command } from './command.js';
import type { IommufdContext } from './context.js';
import { Ioas } from './ioas.js';
import { FilePages } from './page-sources.js';
import type { IoptPages } from './pages.js';

const syscall = 'IOMMU_IOAS_CHANGE_PROCESS';

/** Whether pages are charged to somebody else than the caller. Source: io_pagetable.c need_charge_update() */
function needsUpdate({ accountMode, payer }: IoptPages, caller: Payer): boolean {
  if (accountMode === 'none') return false;
  return payer.mm !== caller.mm || (accountMode === 'user' && payer.uid !== caller.uid);
}

/**
 * The pages of all address spaces, each once, with all their IOVA locks taken in the order of the ids.
 *
 * @throws EINVAL - some are not of a file
 * @source drivers/iommu/iommufd/ioas.c iommufd_take_all_iova_rwsem()
 */
async function lockAll(context: IommufdContext, locks: Held[]): Promise<Set<IoptPages>> {
  const found = new Set<IoptPages>();
  const spaces = context.objects.list().filter((object) => object instanceof Ioas);
  for (const [order, { iopt }] of spaces.entries()) {
    context.host.faults.check('iommufd_take_all_iova_rwsem:list');
    locks.push(await iopt.iovaRwsem.write({ subclass: order + 1 }));
    for (const { pages } of iopt.areas) if (pages) found.add(pages);
  }
  for (const pages of found) {
    if (pages instanceof FilePages) continue;
    throw new VfioError('EINVAL', 'memory of a process is mapped', { syscall });
  }
  return found;
}

/**
 * IOMMU_IOAS_CHANGE_PROCESS.
 *
 * @throws EOPNOTSUPP - the reserved field is not 0
 * @throws EINVAL - an IOAS has a mapping that is not of a file
 * @throws ENOMEM - more than the caller may lock; the old payers keep it all
 * @source drivers/iommu/iommufd/io_pagetable.c iommufd_ioas_change_process()
 */
export async function ioasChangeProcess(command: Command<typeof iommuIoasChangeProcess.fields>): Promise<void> {
  const { context, call, args } = command;
  if (args.reserved !== 0) throw new VfioError('EOPNOTSUPP', `reserved is ${args.reserved}`, { syscall });
  using _creation = await context.ioasCreationLock.write();
  const locks: Held[] = [];
  try {
    const all = await lockAll(context, locks);
    const caller = payerOf(call.process);
    const moving = [...all].filter((pages) => needsUpdate(pages, caller));
    chargeCaller(context, caller, moving);
    for (const pages of moving) pages.changePayer(caller);
  } finally {
    for (const held of locks.reverse()) held.release();
  }
}

/** Charges the caller for all of it, or nothing. Source: io_pagetable.c charge_current() */
function chargeCaller({ iommufd }: IommufdContext, caller: Payer, moving: readonly IoptPages[]): void {
  const modes: readonly AccountMode[] = ['user', 'mm'];
  const done: [AccountMode, number][] = [];
  try {
    for (const mode of modes) {
      const pages = moving.reduce((sum, { accountMode, charged }) => sum + (accountMode === mode ? charged : 0), 0);
      updatePinned(iommufd, caller, mode, pages);
      done.push([mode, pages]);
    }
  } catch (error) {
    for (const [mode, pages] of done) updatePinned(iommufd, caller, mode, -pages);
    throw error;
  }
}
