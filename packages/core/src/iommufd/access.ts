/** The life of an access: made for an emulated device, put into an IOAS, moved, taken out, destroyed. */
import { VfioError } from '../errors.js';
import { type AccessOps, IoasLock, IommufdAccess } from './access-object.js';
import type { IommufdContext } from './context.js';
import { Ioas } from './ioas.js';

function leaving(): VfioError {
  return new VfioError('EBUSY', 'the access is leaving its IOAS', { syscall: 'iommufd_access_change_ioas' });
}

/**
 * Makes an access for an emulated device. It holds the context.
 *
 * @returns the access, with its `id`; the caller ends it with `accessDestroy`
 * @throws ENOMEM, ENOSPC - no memory, no id
 * @source drivers/iommu/iommufd/device.c iommufd_access_create()
 */
export async function accessCreate(context: IommufdContext, ops: AccessOps): Promise<IommufdAccess> {
  const access = new IommufdAccess(context, ops);
  context.objects.finalize(access);
  return access;
}

/**
 * Ends an access, after calls that are under way: it leaves its IOAS, and `unmap` is called for everything.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_access_destroy()
 */
export async function accessDestroy(access: IommufdAccess): Promise<void> {
  await access.context.objects.destroyUser(access);
}

async function changeIoasId(access: IommufdAccess, lock: IoasLock, id: number): Promise<void> {
  using ioas = access.context.objects.hold(id, Ioas);
  await access.changeIoas(lock, ioas.object, leaving);
}

/**
 * Puts an access into an IOAS.
 *
 * @throws EINVAL - it is in one (a bug of the caller, WARN)
 * @throws ENOENT - no such IOAS
 * @throws EBUSY - it is leaving one
 * @throws EADDRINUSE - the IOAS has mappings that are not made of pages
 * @source drivers/iommu/iommufd/device.c iommufd_access_attach()
 */
export async function accessAttach(access: IommufdAccess, ioasId: number): Promise<void> {
  using lock = await IoasLock.take(access.ioasLock);
  if (access.context.host.log.warnOn(access.ioas !== undefined, `iommufd: access ${access.id} is attached already`)) {
    throw new VfioError('EINVAL', 'attached already', { syscall: 'iommufd_access_attach' });
  }
  await changeIoasId(access, lock, ioasId);
}

/**
 * Moves an access to another IOAS; `unmap` is called for everything in the old one.
 *
 * @throws ENOENT - it is in none, or no such IOAS
 * @throws EBUSY - it is leaving one
 * @throws EADDRINUSE - the new IOAS has mappings that are not made of pages; the access stays where it is
 * @source drivers/iommu/iommufd/device.c iommufd_access_replace()
 */
export async function accessReplace(access: IommufdAccess, ioasId: number): Promise<void> {
  using lock = await IoasLock.take(access.ioasLock);
  if (!access.ioas) throw new VfioError('ENOENT', 'not attached', { syscall: 'iommufd_access_replace' });
  await changeIoasId(access, lock, ioasId);
}

/**
 * Takes an access out of its IOAS; `unmap` is called for everything.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_access_detach()
 */
export async function accessDetach(access: IommufdAccess): Promise<void> {
  using lock = await IoasLock.take(access.ioasLock);
  if (access.context.host.log.warnOn(!access.ioas, `iommufd: access ${access.id} is not attached`)) return;
  await access.changeIoas(lock, undefined, leaving);
}
