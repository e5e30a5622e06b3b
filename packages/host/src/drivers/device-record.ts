/*
 * What the driver core keeps about a device between init and its last reference. It also describes the files that every
 * device has, when somebody looks at one.
 */
import { SmallSet } from '../small-map.js';
import { type Counted, Kref } from '../sync/kref.js';
import { Mutex } from '../sync/mutex.js';
import type { Attribute, AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { LazyEntry } from '../sysfs/lazy.js';
import type { DriverCoreHost } from './core-host.js';
import type { Device } from './device.js';
import type { DevicePlace } from './device-place.js';
import { ueventAttribute } from './device-uevent.js';

/** The files and directories that a device describes when they are looked at. */
export type DeviceEntry = 'uevent' | 'dev';

/** What the driver core keeps about a device. Source: drivers/base/base.h struct device_private */
export class DeviceRecord implements LazyEntry, Counted {
  readonly host: DriverCoreHost;
  readonly kref: Kref;
  readonly lock: Mutex;
  /** Its directory, from add to del. */
  sysfs: SysfsDir | undefined = undefined;
  /** Where that directory is, to leave the place in the end. */
  place: DevicePlace | undefined = undefined;
  /** Takes back what add did outside of its directory. */
  node: { remove(): void } | undefined = undefined;
  /** Its probe succeeded. */
  bound = false;
  /** It is being deleted: no driver may be bound any more. */
  dead = false;
  readonly #dev: Device;
  /** Below it, in the order in which they came; most devices have none. */
  #children: SmallSet<Device> | undefined;

  constructor(host: DriverCoreHost, dev: Device) {
    this.host = host;
    this.#dev = dev;
    this.kref = new Kref(host, this, 'device');
    this.lock = new Mutex(host, 'device', { validate: false });
  }

  /** The devices below it. */
  get children(): Iterable<Device> {
    return this.#children ?? [];
  }

  addChild(child: Device): void {
    this.#children ??= new SmallSet();
    this.#children.add(child);
  }

  removeChild(child: Device): void {
    this.#children?.delete(child);
  }

  describe(): string {
    return `device ${this.#dev.name || '(no name)'} of ${this.#dev.driverString() || 'nobody'}`;
  }

  released(): void {
    this.#dev.options.release?.(this.#dev);
  }

  describeEntry(name: DeviceEntry): Attribute | AttributeGroup {
    const dev = this.#dev;
    if (name === 'uevent') return ueventAttribute(dev);
    const numbers = `${dev.devt?.major}:${dev.devt?.minor}`;
    return { name, mode: 0o444, show: () => `${numbers}\n` };
  }
}
