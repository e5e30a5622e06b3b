/**
 * Hardware page tables: a domain that holds all of an IOAS. Users make them with HWPT_ALLOC; attaching a device to an IOAS
 * makes one by itself, which goes with the last device that uses it.
 */
import type { IommuDomain } from '@vfio/host';
import { VfioError } from '../errors.js';
import { IommuHwptAllocFlag, IommuHwptDataType, type iommuHwptAlloc } from '../uapi/iommufd.js';
import type { Command } from './command.js';
import type { IommufdContext } from './context.js';
import { IommufdDevice } from './device.js';
import { Ioas, type IoasPageTable } from './ioas.js';
import { IommufdObject } from './objects.js';

const syscall = 'IOMMU_HWPT_ALLOC';
const pagingFlags =
  IommuHwptAllocFlag.NEST_PARENT |
  IommuHwptAllocFlag.DIRTY_TRACKING |
  IommuHwptAllocFlag.FAULT_ID_VALID |
  IommuHwptAllocFlag.PASID;

const nestedFlags = IommuHwptAllocFlag.FAULT_ID_VALID | IommuHwptAllocFlag.PASID;

/** A page table. Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_hwpt_paging */
export class HwptPaging extends IommufdObject implements IoasPageTable {
  readonly context: IommufdContext;
  readonly ioas: Ioas;
  readonly domain: IommuDomain;
  /** Made by an attachment, and gone with the last one. */
  autoDomain = false;
  /** Every access through it snoops caches, whatever the device asks. */
  readonly enforceCacheCoherency: boolean;
  /** PASIDs can be attached, to it or beside it. */
  readonly pasidCompat: boolean;
  /** It is in the list of its IOAS, and its domain is filled. */
  linked = false;

  /**
   * Takes an id and a domain. `linkHwpt` makes it a page table of the IOAS.
   *
   * @throws ENOMEM, ENOSPC - no memory, no id
   * @throws EINVAL - the hardware promises coherency and does not give it (WARN)
   */
  constructor(context: IommufdContext, ioas: Ioas, idev: IommufdDevice, flags: number) {
    const { host, objects } = context;
    super(host, objects, 'hwpt');
    this.context = context;
    this.ioas = ioas;
    this.pasidCompat = (flags & IommuHwptAllocFlag.PASID) !== 0;
    const dirtyTracking = (flags & IommuHwptAllocFlag.DIRTY_TRACKING) !== 0;
    try {
      this.domain = host.iommu.allocDomain(idev.device, { dirtyTracking });
    } catch (error) {
      this.#drop();
      throw error;
    }
    // before anything is mapped: entries may say it
    this.enforceCacheCoherency = idev.enforceCacheCoherency && this.domain.enforceCoherency();
    const broken = idev.enforceCacheCoherency && !this.enforceCacheCoherency;
    if (host.log.warnOn(broken, `iommufd: ${idev.device.name} does not enforce coherency`)) {
      this.domain.free();
      this.#drop();
      throw new VfioError('EINVAL', 'coherency is not enforced', { syscall });
    }
    ioas.users.inc();
  }

  /** Source: drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_paging_destroy() */
  override async destroy(): Promise<void> {
    if (this.linked) {
      {
        using _held = await this.ioas.mutex.lock();
        this.#unlink();
      }
      await this.ioas.iopt.removeDomain(this.domain);
    }
    this.#free();
  }

  /** As `destroy`, with the lock of the IOAS held. Source: hw_pagetable.c iommufd_hwpt_paging_abort() */
  override async abort(): Promise<void> {
    this.ioas.mutex.assertHeld();
    if (this.linked) {
      this.#unlink();
      await this.ioas.iopt.removeDomain(this.domain);
    }
    this.#free();
  }

  #unlink(): void {
    const { hwpts } = this.ioas;
    hwpts.splice(hwpts.indexOf(this), 1);
    this.linked = false;
  }

  #free(): void {
    this.domain.free();
    this.ioas.users.decAndTest();
  }

  /** The constructor fails after the id was taken. */
  #drop(): void {
    this.context.objects.ids.free(this.id);
    this.free();
  }
}

/**
 * Makes a page table for a device, not filled yet. The lock of the IOAS is held until it is finalized or aborted.
 *
 * @param flags - `IommuHwptAllocFlag` bits
 * @throws EOPNOTSUPP - a flag that the hardware does not know: nesting, or dirty bits without support
 * @throws ENOMEM, ENOSPC, EINVAL - as for `HwptPaging`
 * @source drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_paging_alloc()
 */
export function newHwpt(context: IommufdContext, ioas: Ioas, idev: IommufdDevice, flags: number): HwptPaging {
  ioas.mutex.assertHeld();
  const dirty = (flags & IommuHwptAllocFlag.DIRTY_TRACKING) !== 0;
  const nests = (flags & IommuHwptAllocFlag.NEST_PARENT) !== 0;
  if (nests || (flags & ~pagingFlags) !== 0 || (dirty && !context.host.iommu.capable(idev.device, 'dirty-tracking'))) {
    const reason = `the hardware does not do flags 0x${flags.toString(16)}`;
    throw new VfioError('EOPNOTSUPP', reason, { syscall, subject: idev.device.name });
  }
  return new HwptPaging(context, ioas, idev, flags);
}

/**
 * Fills a page table with what its IOAS has, and lists it there.
 *
 * @throws as `IoPagetable.addDomain`
 */
export async function linkHwpt(hwpt: HwptPaging): Promise<void> {
  const { ioas } = hwpt;
  ioas.mutex.assertHeld();
  await ioas.iopt.addDomain(hwpt.domain);
  ioas.hwpts.push(hwpt);
  hwpt.linked = true;
}

/**
 * Gives back one user of a page table: one that an attachment made goes with it, if it was the last.
 *
 * @source drivers/iommu/iommufd/iommufd_private.h iommufd_hw_pagetable_put()
 */
export async function putHwpt(hwpt: HwptPaging): Promise<void> {
  if (hwpt.autoDomain) await hwpt.context.objects.putAndTryDestroy(hwpt);
  else hwpt.users.decAndTest();
}

type AllocCommand = Command<typeof iommuHwptAlloc.fields>;

/** Makes, fills and shows a page table; undone entirely when a step fails. */
async function allocPaging({ context, args, respond }: AllocCommand, ioas: Ioas, idev: IommufdDevice): Promise<void> {
  using _held = await ioas.mutex.lock();
  if (args.dataLen > 0) throw new VfioError('EOPNOTSUPP', 'the hardware takes no data', { syscall });
  const hwpt = newHwpt(context, ioas, idev, args.flags);
  try {
    await linkHwpt(hwpt);
    if ((args.flags & IommuHwptAllocFlag.FAULT_ID_VALID) !== 0) {
      throw new VfioError('ENOENT', `there is no fault queue ${args.faultId}`, { syscall });
    }
    respond({ ...args, outHwptId: hwpt.id });
  } catch (error) {
    await context.objects.abortAndDestroy(hwpt);
    throw error;
  }
  context.objects.finalize(hwpt);
}

/**
 * IOMMU_HWPT_ALLOC: a page table of an IOAS. Nested page tables need hardware that no host here has.
 *
 * @throws EOPNOTSUPP - the reserved field is not 0, flags or data that the hardware does not know
 * @throws EINVAL - a type without data or data without a type; no such IOAS or page table, or one that cannot be a parent
 * @throws ENOENT - no such device or fault queue
 * @throws EADDRINUSE, EFAULT, ENOMEM - the hardware cannot do what is mapped; see `IoPagetable.addDomain`
 * @source drivers/iommu/iommufd/hw_pagetable.c iommufd_hwpt_alloc()
 */
export async function hwptAlloc(command: AllocCommand): Promise<void> {
  const { context, args } = command;
  if (args.reserved !== 0) throw new VfioError('EOPNOTSUPP', `reserved is ${args.reserved}`, { syscall });
  if ((args.dataType === IommuHwptDataType.NONE) !== (args.dataLen === 0)) {
    throw new VfioError('EINVAL', `data of type ${args.dataType} has ${args.dataLen} bytes`, { syscall });
  }
  using idev = context.objects.hold(args.devId, IommufdDevice);
  using parent = holdParent(context, args.ptId);
  if (parent.object instanceof Ioas) {
    await allocPaging(command, parent.object, idev.object);
    return;
  }
  if (!(parent.object instanceof HwptPaging)) {
    throw new VfioError('EINVAL', `${parent.object.kind} ${args.ptId} has no page table`, { syscall });
  }
  if ((args.flags & ~nestedFlags) !== 0 || args.dataLen === 0) {
    throw new VfioError('EOPNOTSUPP', 'a nested page table is described by data', { syscall });
  }
  throw new VfioError('EINVAL', `page table ${args.ptId} is not made to be a parent`, { syscall });
}

function holdParent(context: IommufdContext, id: number) {
  try {
    return context.objects.hold(id, IommufdObject);
  } catch (cause) {
    throw new VfioError('EINVAL', `there is no object with id ${id}`, { syscall, cause });
  }
}
