/**
 * Drivers of mediated devices. A driver is bound to the devices that its parents create, says what kind of device user
 * space gets, and either counts its instances itself or leaves that to the core.
 */
import { type AttributeGroup, Driver, type Module, SystemError } from '@vfio/host';
import type { MdevBus } from './bus.js';
import type { MdevDevice } from './device.js';
import type { MdevType } from './type.js';

/** What a driver of mediated devices is made of. */
export interface MdevDriverOptions {
  readonly name: string;
  readonly bus: MdevBus;
  /** The module it is in. */
  readonly module?: Module;
  /** What user space gets, a value of `DeviceApi`: `vfio-pci`, `vfio-ccw`, ... */
  readonly deviceApi: string;
  /** Instances that a parent may have, over all its types; matters without `getAvailable` only. Default: 0. */
  readonly maxInstances?: number;
  /** Takes a device that was just created. A `SystemError` refuses it and reaches whoever wrote to `create`. */
  probe?(mdev: MdevDevice): void | Promise<void>;
  /** Gives a device back; can not refuse, but may wait for its users. */
  remove?(mdev: MdevDevice): void | Promise<void>;
  /** Instances of a type that could still be created. A driver that has it counts itself, and the core does not. */
  getAvailable?(type: MdevType): number;
  /** Text of a type's file `description`, with its newline; without this there is no such file. */
  showDescription?(type: MdevType): string;
  /** Files in the directory of a device while it is bound: there after `probe`, gone before `remove`. */
  devGroups?(mdev: MdevDevice): readonly AttributeGroup[];
}

/**
 * A driver of mediated devices.
 *
 * @source include/linux/mdev.h struct mdev_driver
 */
export class MdevDriver extends Driver {
  override readonly bus: MdevBus;
  /** What it was made of, its operations among it. */
  readonly mdev: MdevDriverOptions;

  constructor(options: MdevDriverOptions) {
    const { name, bus, module } = options;
    super({ name, bus, ...(module ? { module } : {}) });
    this.bus = bus;
    this.mdev = options;
  }

  /** The core counts the instances of its parents; else it does so itself. */
  get countedByCore(): boolean {
    return this.mdev.getAvailable === undefined;
  }
}

/**
 * Makes a driver known to its bus. It gets no device by that: only a parent brings them together.
 *
 * @throws EINVAL - the driver does not say what kind of device it makes
 * @throws EBUSY - the bus has a driver of that name
 * @throws ENOMEM
 * @source drivers/vfio/mdev/mdev_driver.c mdev_register_driver()
 */
export async function mdevRegisterDriver(driver: MdevDriver): Promise<void> {
  if (driver.mdev.deviceApi === undefined) throw new SystemError('EINVAL', `driver ${driver.name} has no device API`);
  await driver.bus.host.devices.driverRegister(driver);
}

/**
 * Takes a driver off its devices, waiting for their users, and forgets it. The devices stay, without a driver: unregister
 * its parents first.
 *
 * @source drivers/vfio/mdev/mdev_driver.c mdev_unregister_driver()
 */
export async function mdevUnregisterDriver(driver: MdevDriver): Promise<void> {
  await driver.bus.host.devices.driverUnregister(driver);
}
