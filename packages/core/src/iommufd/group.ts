/**
 * What a context knows of an IOMMU group: hardware cannot tell the devices of a group apart, so all that are attached are
 * attached to the same page table, for the device itself and for each PASID.
 */
import { type Device, type IommuGroup, Kref, Mutex, NO_PASID } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IommufdContext } from './context.js';
import type { IommufdDevice } from './device.js';
import type { HwptPaging } from './hwpt.js';

/** The attachment of one PASID. Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_attach */
export interface Attachment {
  hwpt: HwptPaging;
  /** The devices that asked for it, at least one. */
  readonly devices: Set<IommufdDevice>;
}

/** Counted: every bound device of the group has one reference. Source: iommufd_private.h struct iommufd_group */
export class IommufdGroup {
  readonly group: IommuGroup;
  /** Held over changes of attachments. */
  readonly lock: Mutex;
  /** By PASID. */
  readonly attachments = new Map<number, Attachment>();
  readonly #kref: Kref;

  /** Use `getGroup`. */
  constructor(context: IommufdContext, group: IommuGroup) {
    const { host, groups } = context;
    host.faults.check('iommufd_get_group:group');
    this.group = group.get();
    this.lock = new Mutex(host, 'iommufd_group.lock');
    const released = () => {
      host.log.warnOn(this.attachments.size > 0, `iommufd: group ${group.id} goes while attached`);
      groups.delete(group.id);
      group.put();
    };
    this.#kref = new Kref(host, { describe: () => `iommufd group ${group.id}`, released }, 'group');
    groups.set(group.id, this);
  }

  /** Takes a reference. */
  get(): this {
    this.#kref.get();
    return this;
  }

  /** Gives a reference back. Source: drivers/iommu/iommufd/device.c iommufd_put_group() */
  put(): void {
    this.#kref.put();
  }

  /**
   * Whether a page table can be attached beside what the group has for other PASIDs.
   *
   * @source drivers/iommu/iommufd/device.c iommufd_hwpt_pasid_compat()
   */
  allows(hwpt: HwptPaging, pasid: number): boolean {
    if (pasid !== NO_PASID) {
      return hwpt.pasidCompat && this.attachments.get(NO_PASID)?.hwpt.pasidCompat !== false;
    }
    return hwpt.pasidCompat || ![...this.attachments.keys()].some((other) => other !== NO_PASID);
  }
}

/**
 * The group of a device in a context, with a reference that is the caller's.
 *
 * @throws ENODEV - the device is in no group
 * @throws ENOMEM - no memory for it
 * @source drivers/iommu/iommufd/device.c iommufd_get_group()
 */
export function getGroup(context: IommufdContext, device: Device): IommufdGroup {
  const group = device.iommuGroup;
  if (!group) {
    throw new VfioError('ENODEV', 'in no IOMMU group', { syscall: 'iommufd_device_bind', subject: device.name });
  }
  return context.groups.get(group.id)?.get() ?? new IommufdGroup(context, group);
}
