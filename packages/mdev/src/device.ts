/**
 * Mediated devices: how one is created, step by step and back when a step fails, and how it goes, by its own `remove`
 * file or with its parent. The UUID and the instance stay taken until the last reference is dropped.
 */
import { type Attribute, Device, isSystemError, kstrtoull, SysfsFile, SystemError, Undo } from '@vfio/host';
import type { MdevBus } from './bus.js';
import type { MdevParent } from './parent.js';
import type { MdevType } from './type.js';
import { guidFormat } from './uuid.js';

/**
 * A mediated device, child of its parent's device and named by its UUID in lower case.
 *
 * @source include/linux/mdev.h struct mdev_device
 */
export class MdevDevice extends Device {
  override readonly bus: MdevBus;
  readonly type: MdevType;
  /** The 16 bytes of a `guid_t`. */
  readonly uuid: Uint8Array;
  /** Whether a removal by its file is welcome: not before it is complete, and once only. Protected by the list's lock. */
  active = false;

  /** @param type - registered with a parent */
  constructor(type: MdevType, uuid: Uint8Array) {
    const attributes: Attribute[] = [];
    const { bus, dev: parent } = type.parent;
    super({ bus, parent, groups: [{ attributes }], release: () => mdevDeviceRelease(this) });
    this.bus = bus;
    this.type = type;
    this.uuid = uuid;
    attributes.push({ name: 'remove', mode: 0o200, store: (text) => removeStore(this, text) });
  }
}

/**
 * Creates a mediated device and binds it to the driver of its parent.
 *
 * @param uuid - the 16 bytes of a `guid_t`
 * @throws EEXIST - some parent of the host has a device of that UUID
 * @throws EUSERS - the core counts, and no instance is left
 * @throws ENODEV - the parent is being unregistered
 * @throws EAGAIN - the driver wants to be asked later
 * @throws ENOMEM, and whatever the driver's probe threw; nothing is left of the device then
 * @source drivers/vfio/mdev/mdev_core.c mdev_device_create()
 */
export async function mdevDeviceCreate(type: MdevType, uuid: Uint8Array): Promise<void> {
  const { parent, registered } = type;
  const { driver, host } = parent;
  const device = takeUuid(type, uuid);

  await using life = new Undo();
  life.add(() => device.put());
  host.faults.check('mdev_device_create:name');
  device.name = guidFormat(uuid);

  // not a lock that waits: the unregistration, which holds it, waits for this very write to return
  using _registered = enter(parent);
  await using steps = new Undo();
  await host.devices.add(device);
  steps.add(() => host.devices.del(device));
  await host.devices.attachDriver(device, driver);

  registered.devicesDir.addLink(device.name, device.sysfs);
  steps.add(() => registered.devicesDir.removeEntry(device.name));
  device.sysfs.addLink('mdev_type', registered.sysfs);
  device.active = true;
  steps.keep();
  life.keep();
}

/**
 * Removes a mediated device at its own request, waiting for its users.
 *
 * @throws EAGAIN - it is still being created, or being removed
 * @throws ENODEV - it is gone, or its parent is being unregistered and will remove it
 * @source drivers/vfio/mdev/mdev_core.c mdev_device_remove()
 */
export async function mdevDeviceRemove(device: MdevDevice): Promise<void> {
  const { bus, type } = device;
  bus.listLock.run(() => {
    if (bus.list.get(device.name) !== device) throw new SystemError('ENODEV', `mdev ${device.name} is gone`);
    if (!device.active) throw new SystemError('EAGAIN', `mdev ${device.name} is being created or removed`);
    device.active = false;
  });
  using _registered = enter(type.parent);
  await mdevDeviceRemoveCommon(device);
}

/**
 * Removes a mediated device, active or not. The caller holds the parent's `unregSem`, either way.
 *
 * @source drivers/vfio/mdev/mdev_core.c mdev_device_remove_common()
 */
export async function mdevDeviceRemoveCommon(device: MdevDevice): Promise<void> {
  const { parent, devicesDir } = device.type.registered;
  device.sysfs.removeEntry('mdev_type');
  devicesDir.removeEntry(device.name);
  await parent.host.devices.del(device);
  parent.unregSem.assertHeld();
  device.put();
}

/** Takes the UUID and, if the core counts, an instance. */
function takeUuid(type: MdevType, uuid: Uint8Array): MdevDevice {
  const { parent, registered } = type;
  const { bus, host } = parent;
  const name = guidFormat(uuid);
  return bus.listLock.run(() => {
    if (bus.list.has(name)) throw new SystemError('EEXIST', `there is an mdev ${name}`);
    if (parent.driver.countedByCore) {
      if (parent.availableInstances === 0) throw new SystemError('EUSERS', `${parent.dev.name} has no instance left`);
      parent.availableInstances--;
    }
    try {
      host.faults.check('mdev_device_create:memory');
    } catch (error) {
      // Differs: Linux forgets to give it back
      if (parent.driver.countedByCore) parent.availableInstances++;
      throw error;
    }
    const device = new MdevDevice(type, uuid);
    host.devices.init(device);
    registered.kref.get();
    bus.list.set(name, device);
    return device;
  });
}

/** The last reference is gone. Source: drivers/vfio/mdev/mdev_core.c mdev_device_release() */
function mdevDeviceRelease(device: MdevDevice): void {
  const { bus, type, uuid } = device;
  const { parent, kref } = type.registered;
  bus.listLock.run(() => {
    bus.list.delete(guidFormat(uuid));
    if (parent.driver.countedByCore) parent.availableInstances++;
  });
  kref.put();
}

function enter(parent: MdevParent): Disposable {
  const held = parent.unregSem.tryRead();
  if (held === undefined) throw new SystemError('ENODEV', `parent ${parent.dev.name} is being unregistered`);
  return held;
}

/**
 * What was written to `remove`. The file goes with the first number that is not 0, and does not come back, even when the
 * removal is refused.
 *
 * @source drivers/vfio/mdev/mdev_sysfs.c remove_store()
 */
async function removeStore(device: MdevDevice, text: string): Promise<void> {
  if (parseNumber(text) === 0n) return;
  const file = device.sysfs.lookup('remove');
  // whoever writes at this moment is let in too before the file goes, as on another processor
  await device.host.scheduler.switchPoint('mdev remove');
  if (!(file instanceof SysfsFile) || !(await device.sysfs.removeSelf(file))) return;
  await mdevDeviceRemove(device);
}

function parseNumber(text: string): bigint {
  try {
    return kstrtoull(text);
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    throw new SystemError('EINVAL', cause.reason, { cause });
  }
}
