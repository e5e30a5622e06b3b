// Registration: what makes a device visible and reachable, the references that keep it so, and the wait for the last user.

import { type Process, Undo } from '@vfio/host';
import { addDebugDirectory, removeDebugDirectory } from './debugfs.js';
import type { VfioDevice } from './device.js';
import type { DeviceRecord } from './device-record.js';
import { assignDeviceSet } from './device-set.js';
import { VfioError } from './errors.js';
import { type GroupKind, leaveGroup, setGroup } from './group-registry.js';
import { dropRegistration, recordOf } from './references.js';

/** Milliseconds between two calls of a driver's `request`. */
const requestIntervalMs = 10_000;

/**
 * Registers a device whose parent sits behind an IOMMU (or, when the no-IOMMU parameter allows it, behind none). From
 * here on users may call in, even before this returns; so this is the last step of a driver's probe.
 *
 * @throws EINVAL - no iommufd operations although iommufd is built in; the parent has no IOMMU group, is in its group
 *   already, or is not cache coherent
 * @throws ENOMEM, ENOSPC, EEXIST - a step found no room; everything is undone and the object stays alive until put
 * @source drivers/vfio/vfio_main.c vfio_register_group_dev()
 */
export async function registerGroupDev(device: VfioDevice): Promise<void> {
  await register(device, 'iommu');
}

/**
 * Registers a device that has no IOMMU of its own: it gets an IOMMU group made for it, and reaches memory by pinning.
 *
 * @throws as {@link registerGroupDev}, without the conditions on the parent's IOMMU
 * @source drivers/vfio/vfio_main.c vfio_register_emulated_iommu_dev()
 */
export async function registerEmulatedIommuDev(device: VfioDevice): Promise<void> {
  await register(device, 'emulated-iommu');
}

function register(device: VfioDevice, kind: GroupKind): Promise<void> {
  const record = recordOf(device);
  const { vfio } = record;
  const { host } = vfio;
  return host.lockdep.enter(`register ${record.name}`, async () => {
    if (vfio.options.iommufd) {
      const complete = device.bindIommufd && device.unbindIommufd && device.attachIoas && device.detachIoas;
      if (host.log.warnOn(!complete, `${record.name}: the iommufd operations are missing`)) {
        throw new VfioError('EINVAL', 'bindIommufd, unbindIommufd, attachIoas and detachIoas are required');
      }
    }
    await using undo = new Undo();
    // Differs: the kernel ignores a failure here and crashes later; it is returned
    if (!device.deviceSet) await assignDeviceSet(device, device);
    host.faults.check('__vfio_register_dev:name');
    record.device.name = record.name;

    const group = await setGroup(device, kind);
    undo.add(() => leaveGroup(device));
    const physical = kind === 'iommu' && group?.kind !== 'no-iommu';
    if (physical && !host.iommu.capable(record.dev, 'cache-coherency')) {
      throw new VfioError('EINVAL', `${record.dev.name} can not be made cache coherent`);
    }
    const { deviceMajor } = vfio;
    // without an IOMMU there is nothing that a node of its own could promise
    if (deviceMajor !== undefined && group?.kind !== 'no-iommu') {
      record.device.devt = { major: deviceMajor, minor: record.index };
    }
    await host.devices.add(record.device);
    record.registration.set(1);
    device.state = 'registered';
    undo.keep();
    if (group) await group.addDevice(device);
    else vfio.ungrouped.add(device);
    record.debugRoot = addDebugDirectory(device);
  });
}

/** Who waits in {@link unregisterGroupDev}. */
export interface UnregisterOptions {
  /** A signal to the waiting task: it is logged once, and the wait goes on. */
  readonly signal?: AbortSignal;
  /** The waiting task, for that log; the first process of the host unless given. */
  readonly task?: Pick<Process, 'comm' | 'pid'>;
}

/**
 * Takes a device away from its users: no new open, its directory gone, then waits until the last file is closed and the
 * last reference put, asking the driver to `request` it every ten seconds. Never fails and never gives up.
 *
 * @source drivers/vfio/vfio_main.c vfio_unregister_group_dev()
 */
export async function unregisterGroupDev(device: VfioDevice, options: UnregisterOptions = {}): Promise<void> {
  const record = recordOf(device);
  const { host } = record.vfio;
  await host.lockdep.enter(`unregister ${record.name}`, async () => {
    await device.group?.removeDevice(device);
    record.vfio.ungrouped.delete(device);
    if (record.debugRoot) await removeDebugDirectory(record.debugRoot);
    await host.devices.del(record.device);
    dropRegistration(record);
    if (!record.unregistered.done) await waitForUsers(device, record, options);
    device.state = 'unregistered';
    await leaveGroup(device);
  });
}

async function waitForUsers(device: VfioDevice, record: DeviceRecord, options: UnregisterOptions): Promise<void> {
  const { host } = record.vfio;
  let interruptible = options.signal;
  for (let count = 0; ; count++) {
    device.request?.(count);
    const outcome = await record.unregistered.waitTimeout(requestIntervalMs, interruptible);
    if (outcome === 'done') return;
    if (outcome === 'interrupted') {
      interruptible = undefined;
      const { comm, pid } = options.task ?? host.init;
      host.log.warn(
        `Device is currently in use, task "${comm}" (${pid}) blocked until device is released`,
        record.dev.name,
      );
    }
  }
}
