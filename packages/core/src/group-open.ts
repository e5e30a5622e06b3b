// Opening a device through its group.

import type { Process } from '@vfio/host';
import type { Deferred } from './backend.js';
import { ContainerBackend } from './container-backend.js';
import type { VfioDevice } from './device.js';
import { dfClose, dfOpen, runDeferred, setOf } from './device-open.js';
import { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import { putKvm, takeKvm } from './kvm.js';

/**
 * Opens a device for a user who comes through its group.
 *
 * @throws EINVAL - the group has no container, or that has no IOMMU driver
 * @throws ENODEV - the driver's module is going
 * @throws EPERM - a device without an IOMMU, and the caller lacks CAP_SYS_RAWIO
 * @throws whatever `openDevice` throws; all is as before then
 * @source drivers/vfio/group.c vfio_df_group_open()
 */
export async function openThroughGroup(group: Group, device: VfioDevice, process: Process): Promise<DeviceUser> {
  group.vfio.host.faults.check('vfio_allocate_device_file:memory');
  const user = new DeviceUser(device, group);
  const deferred: Deferred = [];
  try {
    await openUser(user, process, deferred);
  } finally {
    await runDeferred(deferred);
  }
  return user;
}

async function openUser(user: DeviceUser, process: Process, deferred: Deferred): Promise<void> {
  const { device, group } = user;
  using _group = await group.groupLock.lock();
  if (!group.hasIommu()) {
    throw new VfioError('EINVAL', `group ${group.name} has no container`, { syscall: 'VFIO_GROUP_GET_DEVICE_FD' });
  }
  using _set = await setOf(device).lock.lock();
  if (device.openCount === 0) takeKvm(device, group.kvm);
  try {
    await dfOpen(device, () => ContainerBackend.use(device, group, process), deferred);
  } catch (error) {
    if (device.openCount === 0) putKvm(device);
    throw error;
  }
  user.accessGranted = true;
}

/**
 * Closes what {@link openThroughGroup} opened.
 *
 * @source drivers/vfio/group.c vfio_df_group_close()
 */
export async function closeThroughGroup(user: DeviceUser): Promise<void> {
  const { device, group } = user;
  const deferred: Deferred = [];
  try {
    using _group = await group.groupLock.lock();
    using _set = await setOf(device).lock.lock();
    try {
      await dfClose(device, deferred);
    } finally {
      if (device.openCount === 0) putKvm(device);
    }
  } finally {
    await runDeferred(deferred);
  }
}
