/** An I/O address space: the object that users name, around the page table. */
import { type IommuDomain, Mutex } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { iommuIoasAlloc } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import type { IommufdContext } from './context.js';
import { IoPagetable } from './io-pagetable.js';
import { IommufdObject } from './objects.js';
import { unmapAll } from './unmap-range.js';

/** What an IOAS has to know of the page tables that hardware has for it. */
export interface IoasPageTable {
  readonly domain: IommuDomain;
  readonly enforceCacheCoherency: boolean;
}

/** Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_ioas */
export class Ioas extends IommufdObject {
  readonly iopt: IoPagetable;
  /** Held over changes of the list of page tables. */
  readonly mutex: Mutex;
  /** The page tables that hold a copy, oldest first. */
  readonly hwpts: IoasPageTable[] = [];

  /**
   * @throws ENOMEM, ENOSPC - as for every object
   * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_alloc()
   */
  constructor({ host, objects }: IommufdContext) {
    super(host, objects, 'ioas');
    this.iopt = new IoPagetable(host);
    this.mutex = new Mutex(host, 'iommufd_ioas.mutex');
  }

  /** Removes all mappings. Source: drivers/iommu/iommufd/ioas.c iommufd_ioas_destroy() */
  override async destroy(): Promise<void> {
    const { failure } = await unmapAll(this.iopt);
    this.iopt.host.log.warnOn(failure !== undefined, 'iommufd: an IOAS goes with mappings in use');
    this.iopt.destroy();
  }
}

/**
 * IOMMU_IOAS_ALLOC.
 *
 * @throws EOPNOTSUPP - flags
 * @throws EFAULT - the answer is not writable; there is no IOAS then
 * @throws ENOMEM, ENOSPC - no memory, no id
 * @source drivers/iommu/iommufd/ioas.c iommufd_ioas_alloc_ioctl()
 */
export async function ioasAlloc({ context, args, respond }: Command<typeof iommuIoasAlloc.fields>): Promise<void> {
  if (args.flags !== 0) {
    throw new VfioError('EOPNOTSUPP', `flags 0x${args.flags.toString(16)}`, { syscall: 'IOMMU_IOAS_ALLOC' });
  }
  const ioas = new Ioas(context);
  using _held = await context.ioasCreationLock.read();
  try {
    respond({ ...args, outIoasId: ioas.id });
  } catch (error) {
    await context.objects.abortAndDestroy(ioas);
    throw error;
  }
  context.objects.finalize(ioas);
}
