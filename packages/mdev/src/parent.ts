/**
 * Parents: devices whose driver offers to make mediated devices out of them.
 */
import { type Device, type Host, isSystemError, RwLock, type SysfsDir } from '@vfio/host';
import type { MdevBus } from './bus.js';
import { MdevDevice, mdevDeviceRemoveCommon } from './device.js';
import type { MdevDriver } from './driver.js';
import type { MdevType } from './type.js';
import { createTypeDirs, removeTypeDirs } from './type-sysfs.js';

/**
 * A registered parent.
 *
 * @source include/linux/mdev.h struct mdev_parent
 */
export class MdevParent {
  readonly dev: Device;
  readonly driver: MdevDriver;
  readonly types: readonly MdevType[];
  /** Read by whoever creates or removes a device, without waiting for it; written by the unregistration. */
  readonly unregSem: RwLock;
  /** Instances left, over all types; only where the core counts. Protected by the bus's list lock. */
  availableInstances: number;
  /** @internal `mdev_supported_types` */
  typesDir: SysfsDir | undefined;

  constructor(dev: Device, driver: MdevDriver, types: readonly MdevType[]) {
    this.dev = dev;
    this.driver = driver;
    this.types = [...types];
    this.unregSem = new RwLock(driver.bus.host, 'mdev_parent.unreg_sem');
    this.availableInstances = driver.mdev.maxInstances ?? 0;
  }

  get bus(): MdevBus {
    return this.driver.bus;
  }

  get host(): Host {
    return this.bus.host;
  }
}

/**
 * Makes a device a parent: its types show up, and user space may create devices at once.
 *
 * @param dev - added; the caller keeps a reference until after {@link mdevUnregisterParent}
 * @param driver - registered; gets every device that the parent creates
 * @param types - what the parent offers; each belongs to one parent
 * @throws ENOMEM, EEXIST - a directory could not be made; nothing is left then
 * @source drivers/vfio/mdev/mdev_core.c mdev_register_parent()
 */
export async function mdevRegisterParent(
  dev: Device,
  driver: MdevDriver,
  types: readonly MdevType[],
): Promise<MdevParent> {
  const parent = new MdevParent(dev, driver, types);
  const { bus, host } = parent;
  parent.typesDir = await createTypeDirs(parent);
  try {
    bus.compatClass.addLink(dev.name, dev.sysfs);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    host.log.warn('Failed to create compatibility class link', dev.logName());
  }
  host.log.info('MDEV: Registered', dev.logName());
  host.devices.uevent(dev, 'change', { MDEV_STATE: 'registered' });
  return parent;
}

/**
 * Ends a parent: removes all its mediated devices, waiting for their users, and its types. Creates and removes under way
 * are finished first; those that come now fail.
 *
 * @source drivers/vfio/mdev/mdev_core.c mdev_unregister_parent()
 */
export async function mdevUnregisterParent(parent: MdevParent): Promise<void> {
  const { dev, bus, host, typesDir } = parent;
  host.log.info('MDEV: Unregistering', dev.logName());
  {
    using _alone = await parent.unregSem.write();
    unlink(bus, dev);
    for (const child of dev.children()) {
      if (child instanceof MdevDevice) await mdevDeviceRemoveCommon(child);
    }
    if (typesDir) await removeTypeDirs(parent, typesDir);
  }
  host.devices.uevent(dev, 'change', { MDEV_STATE: 'unregistered' });
}

/** Removes the parent's link from the class, not that of another parent of the same name. */
function unlink(bus: MdevBus, dev: Device): void {
  const link = bus.compatClass.lookup(dev.name);
  if (link?.kind === 'link' && link.directory === dev.sysfs) bus.compatClass.removeEntry(dev.name);
}
