// First open and last close of a device, and everything that they take and give back.

import { type Process, Undo } from '@vfio/host';
import type { VfioDevice } from './device.js';
import type { OpenBackend } from './device-record.js';
import type { DeviceSet } from './device-set.js';
import { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import { putKvm, takeKvm } from './kvm.js';
import { recordOf } from './references.js';

/**
 * Files whose last reference goes while locks are held that their release wants too. They are put after the locks, as
 * the kernel does when a task returns to user space.
 */
type Deferred = (() => Promise<void>)[];

/**
 * Opens a device for a user who comes through its group.
 *
 * @throws EINVAL - the group has no container, or that has no IOMMU driver
 * @throws ENODEV - the driver's module is going
 * @throws EPERM - a device without an IOMMU, and the caller lacks CAP_SYS_RAWIO
 * @throws whatever `openDevice` throws; all is as before then
 * @source drivers/vfio/vfio_main.c vfio_df_open()
 */
export async function openThroughGroup(group: Group, device: VfioDevice, process: Process): Promise<DeviceUser> {
  group.vfio.host.faults.check('vfio_allocate_device_file:memory');
  const user = new DeviceUser(device, group);
  const deferred: Deferred = [];
  try {
    await openUser(user, process, deferred);
  } finally {
    await runAll(deferred);
  }
  return user;
}

/** Source: drivers/vfio/group.c vfio_df_group_open() */
async function openUser(user: DeviceUser, process: Process, deferred: Deferred): Promise<void> {
  const { device, group } = user;
  using _group = await group.groupLock.lock();
  if (!group.hasIommu()) {
    throw new VfioError('EINVAL', `group ${group.name} has no container`, { syscall: 'VFIO_GROUP_GET_DEVICE_FD' });
  }
  using _set = await setOf(device).lock.lock();
  if (device.openCount === 0) takeKvm(device, group.kvm);
  device.openCount++;
  try {
    if (device.openCount === 1) await openFirst(device, group, process, deferred);
  } catch (error) {
    device.openCount--;
    if (device.openCount === 0) putKvm(device);
    throw error;
  }
  user.accessGranted = true;
}

/** Source: drivers/vfio/vfio_main.c vfio_df_device_first_open() */
async function openFirst(device: VfioDevice, group: Group, process: Process, deferred: Deferred): Promise<void> {
  const record = recordOf(device);
  const module = device.dev.driver?.module;
  await using undo = new Undo();
  if (module) {
    if (!module.tryGet()) throw new VfioError('ENODEV', `module ${module.name} is going`, { syscall: 'open' });
    undo.add(() => module.put());
  }
  const backend: OpenBackend = await useContainer(device, group, process, module);
  undo.add(() => unuseContainer(device, backend, deferred));
  // Differs: the last close gives back what this open took, whatever the group is set to by then.
  // It is in place before the driver's turn, which may reach the user's memory already
  record.backend = backend;
  undo.add(() => {
    delete record.backend;
  });
  await device.openDevice?.();
  undo.keep();
}

/** Source: drivers/vfio/container.c vfio_group_use_container() */
async function useContainer(
  device: VfioDevice,
  group: Group,
  process: Process,
  module: OpenBackend['module'],
): Promise<OpenBackend> {
  const { container, openedFile } = group;
  const syscall = 'VFIO_GROUP_GET_DEVICE_FD';
  if (!container?.backend || !openedFile)
    throw new VfioError('EINVAL', 'the container has no IOMMU driver', { syscall });
  if (group.kind === 'no-iommu' && !process.credentials.capable('SYS_RAWIO')) {
    throw new VfioError('EPERM', 'a device without an IOMMU needs CAP_SYS_RAWIO', { syscall });
  }
  openedFile.get();
  group.containerUsers++;
  await container.registerDevice(device);
  return { container, group, groupFile: openedFile, module };
}

/** Source: drivers/vfio/container.c vfio_group_unuse_container() */
async function unuseContainer(device: VfioDevice, backend: OpenBackend, deferred: Deferred): Promise<void> {
  const { container, group, groupFile } = backend;
  await container.unregisterDevice(device);
  group.vfio.host.log.warnOn(group.containerUsers <= 1, `group ${group.name} has no user to give back`);
  group.containerUsers--;
  deferred.push(() => groupFile.put());
}

/**
 * Closes what {@link openThroughGroup} opened.
 *
 * @source drivers/vfio/group.c vfio_df_group_close()
 */
export async function closeThroughGroup(user: DeviceUser): Promise<void> {
  const { device, group } = user;
  const deferred: Deferred = [];
  {
    using _group = await group.groupLock.lock();
    using _set = await setOf(device).lock.lock();
    await closeUser(device, deferred);
    if (device.openCount === 0) putKvm(device);
  }
  await runAll(deferred);
}

/** Source: drivers/vfio/vfio_main.c vfio_df_close() */
async function closeUser(device: VfioDevice, deferred: Deferred): Promise<void> {
  if (!assertDeviceOpen(device)) return;
  if (device.openCount === 1) await closeLast(device, deferred);
  device.openCount--;
}

/** Source: drivers/vfio/vfio_main.c vfio_df_device_last_close() */
async function closeLast(device: VfioDevice, deferred: Deferred): Promise<void> {
  const record = recordOf(device);
  const { backend } = record;
  await device.closeDevice?.();
  if (backend) await unuseContainer(device, backend, deferred);
  device.precopyInfoV2 = false;
  backend?.module?.put();
  delete record.backend;
}

/**
 * Whether somebody has the device open. Who calls without has a bug: the first time on a host is warned of.
 *
 * @source drivers/vfio/vfio_main.c vfio_assert_device_open()
 */
export function assertDeviceOpen(device: VfioDevice): boolean {
  const { log } = device.vfio.host;
  return !log.warnOnOnce(assertDeviceOpen, device.openCount === 0, `${device.name} is used and not open`);
}

function setOf(device: VfioDevice): DeviceSet {
  if (!device.deviceSet) throw new TypeError(`${device.name} is in no device set`);
  return device.deviceSet;
}

async function runAll(deferred: Deferred): Promise<void> {
  for (const step of deferred) await step();
}
