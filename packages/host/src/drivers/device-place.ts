/*
 * Where a device's directory is. Devices of a class do not mix with the other children of a parent: they get a
 * directory in between, named after the class, that comes with the first and goes with the last of them.
 */
import { SystemError } from '../errors.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Sysfs } from '../sysfs/sysfs.js';
import type { DeviceClass } from './class.js';
import { type Device, deviceRecord } from './device.js';

/** The directory in which a device gets its own. */
export interface DevicePlace {
  readonly dir: SysfsDir;
  /** The device's directory is gone, or was never made. */
  leave(): void;
}

/**
 * Finds or makes the directory for a device.
 *
 * @throws ENOENT - the parent is not added
 * @throws EEXIST, ENOMEM - the directory in between could not be made
 * @source drivers/base/core.c get_device_parent(), cleanup_glue_dir()
 */
export function devicePlace(sysfs: Sysfs, dev: Device): DevicePlace {
  const parentDir = dev.parent && deviceRecord(dev.parent).sysfs;
  if (dev.parent && !parentDir) throw new SystemError('ENOENT', `parent ${dev.parent.name} is not added`);
  if (!dev.class) return { dir: parentDir ?? sysfs.devices, leave: stay };
  if (parentDir && dev.parent?.class) return { dir: parentDir, leave: stay };
  return glueDir(dev.class, parentDir ?? sysfs.devicesVirtual);
}

/** The directory was there before the device, and is after it. */
function stay(): void {}

function glueDir(deviceClass: DeviceClass, parent: SysfsDir): DevicePlace {
  let place = deviceClass.glueDirs.get(parent);
  if (!place) {
    place = new GlueDir(deviceClass, parent);
    deviceClass.glueDirs.set(parent, place);
  }
  return place;
}

/** The directory of a class below a parent; all of its devices there are in the same place. */
class GlueDir implements DevicePlace {
  readonly dir: SysfsDir;
  readonly #class: DeviceClass;
  readonly #parent: SysfsDir;

  constructor(deviceClass: DeviceClass, parent: SysfsDir) {
    this.dir = parent.mkdir(deviceClass.name);
    this.#class = deviceClass;
    this.#parent = parent;
  }

  leave(): void {
    if (!this.dir.empty || this.dir.removed) return;
    this.#class.glueDirs.delete(this.#parent);
    this.dir.remove();
  }
}
