// The device's own node, /dev/vfio/devices/vfioN: opening it grants nothing, binding it to an iommufd does.

import type { VfioDevice } from './device.js';
import { DeviceFile } from './device-file.js';
import { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import { putRegistration, tryGetRegistration } from './references.js';

/**
 * Opens the node. Any number of users may; each keeps the device registered, even if it never binds.
 *
 * @throws ENODEV - not registered, or not any more
 * @throws ENOMEM - no memory for it
 * @source drivers/vfio/device_cdev.c vfio_device_fops_cdev_open()
 */
export function openDeviceCdev(device: VfioDevice, flags: number): DeviceFile {
  const label = `/dev/vfio/devices/${device.name}`;
  if (!tryGetRegistration(device)) {
    throw new VfioError('ENODEV', 'the device is not registered', { syscall: 'open', subject: label });
  }
  try {
    return new DeviceFile(new DeviceUser(device), { flags, label });
  } catch (error) {
    putRegistration(device);
    throw error;
  }
}
