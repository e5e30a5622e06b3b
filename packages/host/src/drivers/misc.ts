/*
 * Misc devices: one major for all, a minor and a class device each.
 */
import { type CharDevices, MISC_MAJOR } from '../fs/chrdevs.js';
import type { File } from '../fs/file.js';
import type { Process } from '../process/process.js';
import { Undo } from '../undo.js';
import { DeviceClass } from './class.js';
import type { DriverCoreHost } from './core-host.js';
import { Device } from './device.js';
import type { DeviceCore } from './device-core.js';

/** What a misc device is made of. */
export interface MiscOptions {
  /** A free one unless given. */
  readonly minor?: number;
  /** Shown in /proc/misc and /sys/class/misc. */
  readonly name: string;
  /** Path of the node below /dev; the name unless given. */
  readonly nodename?: string;
  /** Permission bits of the node. Default 0600. */
  readonly mode?: number;
  open(process: Process, flags: number): File | Promise<File>;
}

/** A registered misc device. */
export interface MiscDevice {
  readonly minor: number;
  /** Takes node, class device and minor back. */
  unregister(): Promise<void>;
}

/** The misc devices of a host, and the class that they are in. */
export class MiscDevices {
  readonly class: DeviceClass;
  readonly #devices: DeviceCore;
  readonly #chrdevs: CharDevices;

  constructor(host: DriverCoreHost, devices: DeviceCore, chrdevs: CharDevices) {
    this.class = new DeviceClass(host, 'misc');
    this.#devices = devices;
    this.#chrdevs = chrdevs;
  }

  /**
   * Registers a device.
   *
   * @throws EBUSY - the minor is taken
   * @throws EEXIST - the name is
   * @source drivers/char/misc.c misc_register()
   */
  async register(options: MiscOptions): Promise<MiscDevice> {
    await using undo = new Undo();
    const { minor, remove } = this.#chrdevs.takeMisc(options.name, options.minor);
    undo.add(remove);
    const { nodename, mode } = options;
    const device = new Device({
      name: options.name,
      class: this.class,
      devt: { major: MISC_MAJOR, minor },
      devnode: () => ({ name: nodename ?? options.name, ...(mode === undefined ? {} : { mode }) }),
      open: options.open,
    });
    await this.#devices.register(device);
    undo.keep();
    return {
      minor,
      unregister: async () => {
        await this.#devices.unregister(device);
        remove();
      },
    };
  }
}
