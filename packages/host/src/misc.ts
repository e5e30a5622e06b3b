/*
 * Misc devices: drivers that need one device node share a major, and each takes a minor of it.
 */
import { DeviceClass } from './drivers/class.js';
import type { DriverCoreHost } from './drivers/core-host.js';
import { Device } from './drivers/device.js';
import type { DeviceCore } from './drivers/device-core.js';
import { type CharDevices, MISC_MAJOR, type OpenDevice } from './fs/chrdevs.js';
import type { AttributeGroup } from './sysfs/attribute.js';
import { Undo } from './undo.js';

/** What misc devices need of a host. */
export interface MiscHost extends DriverCoreHost {
  readonly chrdevs: CharDevices;
  readonly devices: DeviceCore;
}

/** A misc device to be made. Source: include/linux/miscdevice.h struct miscdevice */
export interface MiscDeviceOptions {
  /** Shown in /proc/misc; the device below /sys/class/misc has this name. */
  readonly name: string;
  /** A certain minor; a dynamic one unless given. */
  readonly minor?: number;
  /** Below /dev. Default: the name. */
  readonly nodename?: string;
  /** Permission bits of the node. Default 0600. */
  readonly mode?: number;
  readonly parent?: Device;
  readonly groups?: readonly AttributeGroup[];
  /** Opens the node. */
  readonly open: OpenDevice;
}

/** A misc device, until it is unregistered. */
export interface MiscDevice {
  readonly minor: number;
  readonly device: Device;
  /** Takes the node and the device away and gives the minor back. What is open stays open. */
  unregister(): Promise<void>;
}

/** The misc devices of a host, and their class. */
export class MiscDevices {
  readonly class: DeviceClass;
  readonly #host: MiscHost;

  constructor(host: MiscHost) {
    this.#host = host;
    this.class = new DeviceClass(host, 'misc');
  }

  /**
   * Makes a misc device with its node.
   *
   * @throws EBUSY - the minor is taken
   * @throws EEXIST - there is a device or a node of that name
   * @throws ENOMEM
   * @source drivers/char/misc.c misc_register()
   */
  async register(options: MiscDeviceOptions): Promise<MiscDevice> {
    const { chrdevs, devices } = this.#host;
    const { name, nodename = name, mode, open, parent, groups = [] } = options;
    await using undo = new Undo();
    const taken = chrdevs.takeMisc(name, options.minor);
    undo.add(() => taken.remove());
    const { minor } = taken;
    const device = new Device({
      name,
      class: this.class,
      devt: { major: MISC_MAJOR, minor },
      devnode: () => ({ name: nodename, ...(mode === undefined ? {} : { mode }) }),
      groups,
      open,
      ...(parent && { parent }),
    });
    devices.init(device);
    undo.add(() => device.put());
    await devices.add(device);
    undo.keep();
    const unregister = async () => {
      await devices.unregister(device);
      taken.remove();
    };
    return { minor, device, unregister };
  }
}
