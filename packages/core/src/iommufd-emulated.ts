// The iommufd operations of drivers whose devices are emulated: they get an access, through which the device pins pages and
// copies. Such drivers register with registerEmulatedIommuDev.

import type { VfioDevice } from './device.js';
import { setOf } from './device-open.js';
import { VfioError } from './errors.js';
import { accessAttach, accessCreate, accessDestroy, accessDetach, accessReplace } from './iommufd/access.js';
import type { IommufdAccess } from './iommufd/access-object.js';
import type { IommufdContext } from './iommufd/context.js';
import { recordOf } from './references.js';

/** What a device is bound to. */
export interface EmulatedBinding {
  readonly access: IommufdAccess;
  attached: boolean;
}

/**
 * `bindIommufd` of an emulated device. What its user unmaps is announced to `dmaUnmap`.
 *
 * @returns the id of the access
 * @throws ENOMEM, ENOSPC - no memory, no id
 * @source drivers/vfio/iommufd.c vfio_iommufd_emulated_bind()
 */
export async function iommufdEmulatedBind(device: VfioDevice, context: IommufdContext): Promise<number> {
  setOf(device).lock.assertHeld();
  const access = await accessCreate(context, {
    needsPinPages: true,
    unmap: (iova, length) => device.dmaUnmap?.(iova, length),
  });
  recordOf(device).emulated = { access, attached: false };
  return access.id;
}

/** Source: drivers/vfio/iommufd.c vfio_iommufd_emulated_unbind() */
export async function iommufdEmulatedUnbind(device: VfioDevice): Promise<void> {
  setOf(device).lock.assertHeld();
  const record = recordOf(device);
  const { emulated } = record;
  if (!emulated) return;
  // while the access leaves, the device may still want to unpin through it
  try {
    await accessDestroy(emulated.access);
  } finally {
    record.emulated = undefined;
  }
}

/**
 * `attachIoas` of an emulated device. One that is attached moves, and stays where it is if that fails.
 *
 * @returns the id that was given: there is no page table
 * @throws ENOENT - no such IOAS
 * @throws EBUSY, EADDRINUSE, ENOMEM - as `accessAttach` of the iommufd says
 * @source drivers/vfio/iommufd.c vfio_iommufd_emulated_attach_ioas()
 */
export async function iommufdEmulatedAttachIoas(device: VfioDevice, ptId: number): Promise<number> {
  setOf(device).lock.assertHeld();
  const { emulated } = recordOf(device);
  if (!emulated) throw new VfioError('EINVAL', 'the device is not bound to an iommufd', { subject: device.name });
  const change = emulated.attached ? accessReplace : accessAttach;
  await change(emulated.access, ptId);
  emulated.attached = true;
  return ptId;
}

/**
 * `detachIoas` of an emulated device; does nothing with one that is not attached.
 *
 * @source drivers/vfio/iommufd.c vfio_iommufd_emulated_detach_ioas()
 */
export async function iommufdEmulatedDetachIoas(device: VfioDevice): Promise<void> {
  setOf(device).lock.assertHeld();
  const { emulated } = recordOf(device);
  const { log } = device.vfio.host;
  if (log.warnOn(!emulated, `vfio_iommufd_emulated_detach_ioas: ${device.name} is not bound`)) return;
  if (!emulated?.attached) return;
  try {
    await accessDetach(emulated.access);
  } finally {
    emulated.attached = emulated.access.ioas !== undefined;
  }
}
