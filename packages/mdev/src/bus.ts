/**
 * The bus of mediated devices, together with what the mediated device core keeps for all parents of a host: the list of
 * its devices, by which a UUID is taken once only, and the class in which parents are found.
 */
import { Bus, type Device, type Driver, type Host, KernelBug, SpinLock, type SysfsDir, Undo } from '@vfio/host';
import { MdevDevice } from './device.js';
import { MdevDriver, type MdevDriverOptions } from './driver.js';
import { noMemory } from './errors.js';

/**
 * Bus `mdev`. It matches nothing: a device is bound by the core when it is created, to the driver that its parent names,
 * and never again.
 *
 * @source drivers/vfio/mdev/mdev_driver.c mdev_bus_type; mdev_core.c mdev_list, mdev_bus_compat_class
 */
export class MdevBus extends Bus {
  readonly host: Host;
  /** Every mdev of every parent until its last reference goes, by its name. Protected by `listLock`. */
  readonly list = new Map<string, MdevDevice>();
  /**
   * Protects `list`, the `active` flags and the instance counters; nothing is called with it held. The kernel has a mutex
   * here, because it allocates memory inside; nothing waits inside here, and a release can take it wherever it runs.
   */
  readonly listLock: SpinLock;
  #compatClass: SysfsDir | undefined;

  constructor(host: Host) {
    super({ name: 'mdev', match: () => false, probe, remove });
    this.host = host;
    this.listLock = new SpinLock(host, 'mdev_list_lock');
  }

  /** /sys/class/mdev_bus, with a link to each parent, while the bus is registered. */
  get compatClass(): SysfsDir {
    if (this.#compatClass === undefined) throw new KernelBug('driver', 'bus mdev is not registered');
    return this.#compatClass;
  }

  /**
   * Makes bus and class visible.
   *
   * @throws EEXIST, ENOMEM - there is a bus of that name, or no memory for the class
   * @source drivers/vfio/mdev/mdev_core.c mdev_init()
   */
  async register(): Promise<void> {
    await using undo = new Undo();
    await this.host.devices.busRegister(this);
    undo.add(() => this.host.devices.busUnregister(this));
    this.#compatClass = noMemory(() => this.host.sysfs.class.mkdir('mdev_bus'));
    undo.keep();
  }

  /** Source: drivers/vfio/mdev/mdev_core.c mdev_exit() */
  async unregister(): Promise<void> {
    this.#compatClass?.remove();
    this.#compatClass = undefined;
    await this.host.devices.busUnregister(this);
  }
}

/** Source: drivers/vfio/mdev/mdev_driver.c mdev_probe(), drivers/base/dd.c really_probe() */
async function probe(dev: Device, drv: Driver): Promise<void> {
  const { mdev, ops } = both(dev, drv);
  await ops.probe?.(mdev);
  try {
    mdev.sysfs.addGroups(ops.devGroups?.(mdev) ?? []);
  } catch (error) {
    await ops.remove?.(mdev);
    throw error;
  }
}

/** Source: drivers/vfio/mdev/mdev_driver.c mdev_remove(), drivers/base/dd.c device_remove() */
async function remove(dev: Device, drv: Driver): Promise<void> {
  const { mdev, ops } = both(dev, drv);
  mdev.sysfs.removeGroups(ops.devGroups?.(mdev) ?? []);
  await mdev.sysfs.drained(); // who reads them needs what the driver is about to take down
  await ops.remove?.(mdev);
}

function both(dev: Device, drv: Driver): { readonly mdev: MdevDevice; readonly ops: MdevDriverOptions } {
  if (dev instanceof MdevDevice && drv instanceof MdevDriver) return { mdev: dev, ops: drv.mdev };
  throw new KernelBug('driver', `${dev.name} and ${drv.name} met on bus mdev, and not both belong there`);
}
