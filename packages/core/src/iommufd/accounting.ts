/**
 * Who pays for pinned pages: nobody, when the task may lock as much as it likes; the user, over all of its processes; or
 * the process, as VFIO's containers count.
 */
import { type AddressSpace, PAGE_SHIFT, type Process } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { Iommufd } from './iommufd.js';

/** How pages are charged. Source: drivers/iommu/iommufd/io_pagetable.h IOPT_PAGES_ACCOUNT_* */
export type AccountMode = 'none' | 'user' | 'mm';

/** The task that pages are charged to, as it was when they were mapped. */
export interface Payer {
  readonly task: Process;
  readonly mm: AddressSpace;
  readonly uid: number;
}

/** The caller of a request as a payer. */
export function payerOf(task: Process): Payer {
  return { task, mm: task.mm, uid: task.credentials.uid };
}

/** Pages that users have locked, over all their processes. Source: include/linux/sched/user.h user_struct locked_vm */
export class LockedByUser {
  readonly #pages = new Map<number, number>();

  /** Pages of a user. */
  of(uid: number): number {
    return this.#pages.get(uid) ?? 0;
  }

  /** Adds pages, or takes them back with a negative number. */
  add(uid: number, pages: number): void {
    const left = this.of(uid) + pages;
    if (left === 0) this.#pages.delete(uid);
    else this.#pages.set(uid, left);
  }
}

/**
 * Charges pages to a payer, or gives the charge back with a negative number, which never fails. A process that has ended
 * has nothing left to credit.
 *
 * @throws ENOMEM - over RLIMIT_MEMLOCK; nothing is charged
 * @source drivers/iommu/iommufd/pages.c iopt_pages_update_pinned()
 */
export function updatePinned(iommufd: Iommufd, payer: Payer, mode: AccountMode, pages: number): void {
  if (pages === 0) return;
  const { task, mm, uid } = payer;
  if (pages > 0) {
    iommufd.host.faults.check('iopt_pages_update_pinned:locked-vm');
    const locked = mode === 'user' ? iommufd.lockedByUser.of(uid) : mm.lockedVm;
    const limit = task.limits.memlock >> BigInt(PAGE_SHIFT);
    if (mode !== 'none' && BigInt(locked + pages) > limit) {
      throw new VfioError('ENOMEM', `${locked} pages locked, ${pages} more are over the limit of ${limit}`, {
        syscall: 'iopt_pages_update_pinned',
        subject: `pid ${task.pid}`,
      });
    }
  }
  if (mode === 'user') iommufd.lockedByUser.add(uid, pages);
  if (!mm.alive) return;
  if (mode === 'mm') mm.accountLocked(pages, undefined);
  mm.accountPinned(pages);
}
