/*
 * Classes: what devices are to user space, wherever they sit.
 */
import { SmallMap, SmallSet } from '../small-map.js';
import type { AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { DriverCoreHost } from './core-host.js';
import type { Device } from './device.js';
import type { DevicePlace } from './device-place.js';
import type { UeventEnv } from './uevents.js';

/** A device node as a class or a device wants it. */
export interface DeviceNodeName {
  /** Below /dev; directories are made on the way. */
  readonly name: string;
  /** Permission bits. Default 0600. */
  readonly mode?: number;
}

/** What a class is made of. */
export interface DeviceClassOptions {
  /** Files in the class's own directory. */
  readonly groups?: readonly AttributeGroup[];
  /** Files in the directory of each of its devices. */
  readonly devGroups?: readonly AttributeGroup[];
  /** Name and mode of a device's node. Default: the name of the device, 0600. */
  devnode?(dev: Device): DeviceNodeName | undefined;
  /** Adds variables to the uevents of its devices. */
  uevent?(dev: Device, env: UeventEnv): void;
}

/**
 * A class: /sys/class/<name>, from construction until `destroy`.
 *
 * @source drivers/base/class.c class_register()
 */
export class DeviceClass {
  readonly name: string;
  readonly options: DeviceClassOptions;
  readonly sysfs: SysfsDir;
  /** @internal the class's directories between its devices and their parents, by the parent's directory */
  readonly glueDirs = new SmallMap<SysfsDir, DevicePlace>();
  /** @internal */
  readonly members = new SmallSet<Device>();
  readonly #host: DriverCoreHost;

  /**
   * @throws EEXIST - there is one of that name
   * @throws ENOMEM
   */
  constructor(host: DriverCoreHost, name: string, options: DeviceClassOptions = {}) {
    this.name = name;
    this.options = options;
    this.#host = host;
    host.faults.check('class_register:memory');
    this.sysfs = host.sysfs.class.mkdir(name);
    try {
      this.sysfs.addGroups(options.groups ?? []);
    } catch (error) {
      this.sysfs.remove();
      throw error;
    }
    host.uevents.emit('add', { devpath: this.sysfs.devpath(), subsystem: 'class' });
  }

  /** Its devices, in the order in which they came. */
  get devices(): readonly Device[] {
    return [...this.members];
  }

  /**
   * Ends it; its devices are gone before.
   *
   * @source drivers/base/class.c class_unregister()
   */
  async destroy(): Promise<void> {
    this.#host.uevents.emit('remove', { devpath: this.sysfs.devpath(), subsystem: 'class' });
    this.sysfs.remove();
    await this.sysfs.drained();
  }
}
