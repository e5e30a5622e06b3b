/** Physical devices in a context: binding makes the context the owner of all their DMA. */
import type { Device, IommuGroup } from '@vfio/host';
import { VfioError } from '../errors.js';
import type { IommufdContext } from './context.js';
import { getGroup, type IommufdGroup } from './group.js';
import { IommufdObject } from './objects.js';

const syscall = 'iommufd_device_bind';

/** A device that a context owns. Source: drivers/iommu/iommufd/iommufd_private.h struct iommufd_device */
export class IommufdDevice extends IommufdObject {
  readonly context: IommufdContext;
  readonly device: Device;
  readonly igroup: IommufdGroup;
  /** Its hardware can override no-snoop requests: then its page tables must. */
  readonly enforceCacheCoherency: boolean;

  /**
   * Use `deviceBind`.
   *
   * @param igroup - with a reference, which becomes the device's when this succeeds
   */
  constructor(context: IommufdContext, device: Device, igroup: IommufdGroup) {
    super(context.host, context.objects, 'device');
    this.context = context.get();
    this.device = device;
    this.igroup = igroup;
    this.enforceCacheCoherency = context.host.iommu.capable(device, 'enforce-cache-coherency');
    // the driver that bound it, until it unbinds
    this.users.inc();
  }

  /** Source: drivers/iommu/iommufd/device.c iommufd_device_destroy() */
  override async destroy(): Promise<void> {
    this.context.host.iommu.releaseDeviceDmaOwner(this.device);
    this.igroup.put();
    await this.context.put();
  }
}

/**
 * Makes a context the owner of a device's DMA, which is cut off from memory until it is attached. The device holds the
 * context.
 *
 * @returns the bound device, with its `id`; the caller ends it with `deviceUnbind`
 * @throws EINVAL - DMA of the device is not coherent with caches
 * @throws ENODEV - the device is in no IOMMU group
 * @throws EPERM - its interrupts are not isolated, and nobody allowed that; or somebody else owns its group
 * @throws EBUSY - its group is in a domain that is not its own
 * @throws ENOMEM, ENOSPC - no memory, no id
 * @source drivers/iommu/iommufd/device.c iommufd_device_bind()
 */
export async function deviceBind(context: IommufdContext, device: Device): Promise<IommufdDevice> {
  const { iommu, log } = context.host;
  const refuse = (code: 'EINVAL' | 'EPERM', reason: string) =>
    new VfioError(code, reason, { syscall, subject: device.name });
  if (!iommu.capable(device, 'cache-coherency')) throw refuse('EINVAL', 'DMA is not coherent with caches');
  const igroup = getGroup(context, device);
  try {
    if (!igroup.group.hasIsolatedMsi()) {
      if (!context.iommufd.allowUnsafeInterrupts) throw refuse('EPERM', 'interrupts are not isolated');
      log.warn(
        'MSI interrupts are not secure, they cannot be isolated by the platform: allow_unsafe_interrupts is set',
        device.logName(),
      );
    }
    iommu.claimDeviceDmaOwner(device, context);
    try {
      const bound = new IommufdDevice(context, device, igroup);
      context.objects.finalize(bound);
      return bound;
    } catch (error) {
      iommu.releaseDeviceDmaOwner(device);
      throw error;
    }
  } catch (error) {
    igroup.put();
    throw error;
  }
}

/**
 * Ends the ownership. The device must not be attached.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_device_unbind()
 */
export function deviceUnbind(idev: IommufdDevice): Promise<void> {
  return idev.context.objects.destroyUser(idev);
}

/**
 * Whether a device of a group is bound to a context, which then owns all of the group.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_ctx_has_group()
 */
export function ctxHasGroup(context: IommufdContext | undefined, group: IommuGroup | undefined): boolean {
  if (!context || !group) return false;
  return context.objects.list().some((object) => object instanceof IommufdDevice && object.igroup.group === group);
}
