// The iommufd behind a device that was bound to one, through its own node or through its group.

import { type AddressSpace, IommuProt, PAGE_SIZE } from '@vfio/host';
import type { DeviceBackend } from './backend.js';
import type { VfioDevice } from './device.js';
import { setOf } from './device-open.js';
import { VfioError } from './errors.js';
import type { PinnedPage } from './iommu-driver.js';
import type { IommufdAccess } from './iommufd/access-object.js';
import { accessPinPages, accessRw, accessUnpinPages } from './iommufd/access-pages.js';
import type { IommufdContext } from './iommufd/context.js';
import { vfioCompatIoasGetId } from './iommufd/vfio-ioas.js';
import { recordOf } from './references.js';

const pageSize = BigInt(PAGE_SIZE);
const pageMask = ~(pageSize - 1n);

/** Bytes in some pages, as the kernel counts them: a negative number of pages is far more than there is. */
function bytesIn(npage: number): bigint {
  return BigInt.asUintN(64, BigInt(npage) * pageSize);
}

/** Source: drivers/vfio/iommufd.c vfio_df_iommufd_bind(), vfio_df_iommufd_unbind() */
export class IommufdBackend implements DeviceBackend {
  /** The device's id in the iommufd; 0 without one. */
  readonly id: number;

  private constructor(id: number) {
    this.id = id;
  }

  /**
   * The first open of a device. One without an IOMMU is not bound: its user only has shown that it knows.
   *
   * @throws whatever `bindIommufd` throws
   */
  static async bind(device: VfioDevice, context: IommufdContext): Promise<IommufdBackend> {
    if (device.group?.kind === 'no-iommu') return new IommufdBackend(0);
    if (!device.bindIommufd) throw new VfioError('EINVAL', 'the driver can not bind', { subject: device.name });
    return new IommufdBackend(await device.bindIommufd(context));
  }

  async release(device: VfioDevice): Promise<void> {
    if (device.group?.kind !== 'no-iommu') await device.unbindIommufd?.();
  }

  async pinPages(device: VfioDevice, iova: bigint, npage: number, prot: number): Promise<PinnedPage[]> {
    const write = (prot & IommuProt.WRITE) !== 0;
    return await accessPinPages(accessOf(device), iova & pageMask, bytesIn(npage), write);
  }

  async unpinPages(device: VfioDevice, iova: bigint, npage: number): Promise<void> {
    const { emulated } = recordOf(device);
    if (emulated) await accessUnpinPages(emulated.access, iova & pageMask, bytesIn(npage));
  }

  async dmaRw(
    device: VfioDevice,
    iova: bigint,
    bytes: Uint8Array,
    write: boolean,
    caller?: AddressSpace,
  ): Promise<void> {
    await accessRw(accessOf(device), iova, bytes, write, caller);
  }
}

function accessOf(device: VfioDevice): IommufdAccess {
  const { emulated } = recordOf(device);
  if (!emulated) throw new VfioError('EINVAL', 'only emulated devices have an access', { subject: device.name });
  return emulated.access;
}

/**
 * Attaches a device that was opened through its group to the IOAS that stands in for the container's mappings.
 *
 * @throws ENODEV - there is none any more
 * @throws whatever `attachIoas` throws
 * @source drivers/vfio/iommufd.c vfio_iommufd_compat_attach_ioas()
 */
export async function compatAttachIoas(device: VfioDevice, context: IommufdContext): Promise<void> {
  setOf(device).lock.assertHeld();
  if (device.group?.kind === 'no-iommu') return;
  // there is no way to tell the user which page table it is
  await device.attachIoas?.(vfioCompatIoasGetId(context));
}
