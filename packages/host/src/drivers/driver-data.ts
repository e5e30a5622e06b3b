/*
 * What a driver remembers about a device that it is bound to.
 */
import { KernelBug } from '../errors.js';
import type { Device } from './device.js';

/**
 * A typed slot for a driver's data on its devices. A device has one slot: what is set last is what counts. The
 * driver core empties it when the driver leaves the device.
 *
 * @source include/linux/device.h dev_set_drvdata(), dev_get_drvdata()
 */
export class DriverData<T> {
  readonly #values = new WeakMap<Device, T>();

  /** Puts data on a device. */
  set(dev: Device, value: T): void {
    dev.drvdata?.clear(dev);
    this.#values.set(dev, value);
    dev.drvdata = this;
  }

  /**
   * The data of a device.
   *
   * @throws KernelBug('driver') - there is none: the driver is not bound, or has not set it yet
   */
  get(dev: Device): T {
    const value = this.peek(dev);
    if (value === undefined) throw new KernelBug('driver', `${dev.name} has no driver data of this kind`);
    return value;
  }

  /** The data of a device, if there is any. */
  peek(dev: Device): T | undefined {
    return dev.drvdata === this ? this.#values.get(dev) : undefined;
  }

  /** Takes the data off a device. */
  clear(dev: Device): void {
    this.#values.delete(dev);
    if (dev.drvdata === this) dev.drvdata = undefined;
  }
}
