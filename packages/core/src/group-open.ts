// Opening a device through its group.

import { type Process, Undo } from '@vfio/host';
import type { Deferred } from './backend.js';
import { ContainerBackend } from './container-backend.js';
import type { VfioDevice } from './device.js';
import { dfClose, dfOpen, runDeferred, setOf } from './device-open.js';
import { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import type { IommufdContext } from './iommufd/context.js';
import { compatAttachIoas, IommufdBackend } from './iommufd-backend.js';
import { putKvm, takeKvm } from './kvm.js';

/**
 * Opens a device for a user who comes through its group.
 *
 * @throws EINVAL - the group has no container, or that has no IOMMU driver
 * @throws ENODEV - the driver's module is going
 * @throws EPERM - a device without an IOMMU, and the caller lacks CAP_SYS_RAWIO or has an IOAS
 * @throws whatever `openDevice` throws; all is as before then
 * @source drivers/vfio/group.c vfio_df_group_open()
 */
export async function openThroughGroup(group: Group, device: VfioDevice, process: Process): Promise<DeviceUser> {
  const user = new DeviceUser(device, group);
  const deferred: Deferred = [];
  try {
    await openUser(group, user, process, deferred);
    user.accessGranted = true;
  } finally {
    await runDeferred(deferred);
  }
  return user;
}

async function openUser(group: Group, { device }: DeviceUser, process: Process, deferred: Deferred): Promise<void> {
  using _group = await group.groupLock.lock();
  if (!group.hasIommu()) {
    throw new VfioError('EINVAL', `group ${group.name} has no container`, { syscall: 'VFIO_GROUP_GET_DEVICE_FD' });
  }
  using _set = await setOf(device).lock.lock();
  const { iommufd } = group;
  if (device.openCount === 0) takeKvm(device, group.kvm);
  try {
    if (iommufd && device.openCount === 0) checkNoIommu(group, iommufd, process);
    const use = () => (iommufd ? IommufdBackend.bind(device, iommufd) : ContainerBackend.use(device, group, process));
    await dfOpen(device, use, deferred);
    if (iommufd && device.openCount === 1) await attachOrClose(device, iommufd, deferred);
  } catch (error) {
    if (device.openCount === 0) putKvm(device);
    throw error;
  }
}

/** A device without an IOMMU is given only to a user who does not act as if memory were translated. */
function checkNoIommu(group: Group, iommufd: IommufdContext, process: Process): void {
  if (group.kind !== 'no-iommu') return;
  if (process.credentials.capable('SYS_RAWIO') && iommufd.vfioIoas === undefined) return;
  throw new VfioError('EPERM', 'a device without an IOMMU needs CAP_SYS_RAWIO, and an iommufd without an IOAS', {
    syscall: 'VFIO_GROUP_GET_DEVICE_FD',
  });
}

async function attachOrClose(device: VfioDevice, iommufd: IommufdContext, deferred: Deferred): Promise<void> {
  try {
    await compatAttachIoas(device, iommufd);
  } catch (error) {
    await dfClose(device, deferred);
    throw error;
  }
}

/**
 * Closes what {@link openThroughGroup} opened.
 *
 * @throws whatever the driver throws, a bug of it; everything is given back all the same
 * @source drivers/vfio/group.c vfio_df_group_close()
 */
export async function closeThroughGroup(user: DeviceUser): Promise<void> {
  const { device, group } = user;
  if (!group) throw new TypeError(`${device.name} was not opened through a group`);
  const deferred: Deferred = [];
  // when the locks are given back
  await using rest = new Undo();
  rest.add(() => runDeferred(deferred));
  using _group = await group.groupLock.lock();
  using _set = await setOf(device).lock.lock();
  try {
    await dfClose(device, deferred);
  } finally {
    if (device.openCount === 0) putKvm(device);
  }
}
