/**
 * Pinned memory counts as locked memory of the process that it belongs to, against RLIMIT_MEMLOCK unless the process may
 * lock as much as it likes.
 */
import { type AddressSpace, PAGE_SHIFT, PAGE_SIZE, type Process } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { Dma } from './dma.js';
import type { Type1State } from './state.js';

/** Who pays for locked pages. */
interface Payer {
  readonly task: Process;
  readonly mm: AddressSpace;
  readonly lockCap: boolean;
}

/** Functions of the kernel that charge. */
type Charger = 'vfio_pin_pages_remote' | 'vfio_pin_page_external' | 'vfio_change_dma_owner';

function limitPages({ task, lockCap }: Payer): number | undefined {
  return lockCap ? undefined : Number(task.limits.memlock >> BigInt(PAGE_SHIFT));
}

/**
 * Adds pages to what a process has locked.
 *
 * @param who - function of the kernel that asks, for the log
 * @throws ENOMEM - more than the limit; nothing is charged
 * @source mm/util.c __account_locked_vm()
 */
function accountLocked(state: Type1State, payer: Payer, pages: number, who: Charger): void {
  if (pages === 0) return;
  const { host } = state;
  host.faults.check(`${who}:locked-vm`);
  const limit = limitPages(payer);
  if (limit !== undefined && payer.mm.lockedVm + pages > limit) {
    const { comm, pid } = payer.task;
    // who pins on his own account is known; for a device it is not, and a new owner is refused in silence
    const whose = who === 'vfio_pin_page_external' ? `Task ${comm} (${pid}) ` : '';
    if (who !== 'vfio_change_dma_owner') {
      host.log.warn(`${who}: ${whose}RLIMIT_MEMLOCK (${limit * PAGE_SIZE}) exceeded`);
    }
    throw new VfioError('ENOMEM', `${payer.mm.lockedVm} pages locked, ${pages} more are over the limit of ${limit}`, {
      syscall: who,
      subject: `pid ${pid}`,
    });
  }
  payer.mm.accountLocked(pages, limit);
}

/**
 * Charges pages of a mapping to its owner.
 *
 * @throws ENOMEM - over the owner's limit
 * @source drivers/vfio/vfio_iommu_type1.c vfio_lock_acct()
 */
export function chargeLocked(state: Type1State, dma: Dma, pages: number, who: Charger): void {
  accountLocked(state, dma, pages, who);
  dma.lockedVm += pages;
}

/**
 * Gives the charge back. An owner that has exited has nothing left to credit.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_lock_acct()
 */
export function unchargeLocked(dma: Dma, pages: number): void {
  if (pages === 0 || !dma.mm.alive) return;
  dma.mm.accountLocked(-pages, undefined);
  dma.lockedVm -= pages;
}

/**
 * The caller becomes the owner of a mapping, and takes its charge over. Nothing changes for the owner itself.
 *
 * @throws ENOMEM - over the caller's limit; the old owner keeps it all
 * @source drivers/vfio/vfio_iommu_type1.c vfio_change_dma_owner()
 */
export function changeDmaOwner(state: Type1State, dma: Dma, caller: Process): void {
  const { mm } = caller;
  if (mm === dma.mm) return;
  const lockCap = caller.credentials.capable('IPC_LOCK');
  accountLocked(state, { task: caller, mm, lockCap }, dma.lockedVm, 'vfio_change_dma_owner');
  if (dma.mm.alive) dma.mm.accountLocked(-dma.lockedVm, undefined);
  dma.task = caller;
  dma.mm = mm;
  dma.lockCap = lockCap;
}
