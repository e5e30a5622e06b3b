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
  if (!dev.class) return { dir: parentDir ?? sysfs.devices, leave: () => {} };
  if (parentDir && dev.parent?.class) return { dir: parentDir, leave: () => {} };
  return glueDir(dev.class, parentDir ?? sysfs.devicesVirtual);
}

function glueDir(deviceClass: DeviceClass, parent: SysfsDir): DevicePlace {
  let dir = deviceClass.glueDirs.get(parent);
  if (!dir) {
    dir = parent.mkdir(deviceClass.name);
    deviceClass.glueDirs.set(parent, dir);
  }
  const glue = dir;
  const leave = () => {
    if (!glue.empty || glue.removed) return;
    deviceClass.glueDirs.delete(parent);
    glue.remove();
  };
  return { dir: glue, leave };
}
