// Who answers a request of a device file: the core, or the driver.

import type { IoctlCall } from '@vfio/host';
import type { RuntimePm, VfioDevice } from './device.js';
import { ioctlAttachPt, ioctlBindIommufd, ioctlDetachPt } from './device-bind.js';
import type { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import { ioctlDeviceFeature } from './feature.js';
import { ioctlGetRegionInfo } from './region-info.js';
import { Request } from './uapi/vfio.js';

/**
 * @throws EINVAL - access was not granted yet, or the driver takes no requests
 * @throws EIO - the device can not be woken
 * @source drivers/vfio/vfio_main.c vfio_device_fops_unl_ioctl()
 */
export async function dispatchDeviceIoctl(user: DeviceUser, call: IoctlCall): Promise<number> {
  const { device } = user;
  if (call.request === Request.DEVICE_BIND_IOMMUFD) {
    if (device.vfio.options.deviceCdev) return await ioctlBindIommufd(user, call);
    throw new VfioError('ENOTTY', 'there are no device nodes to bind', { syscall: 'VFIO_DEVICE_BIND_IOMMUFD' });
  }
  if (!user.accessGranted) throw new VfioError('EINVAL', 'access is not granted', { syscall: 'ioctl' });
  if (device.runtimePm) await resume(device, device.runtimePm);
  try {
    if (!user.group) {
      if (call.request === Request.DEVICE_ATTACH_IOMMUFD_PT) return await ioctlAttachPt(user, call);
      if (call.request === Request.DEVICE_DETACH_IOMMUFD_PT) return await ioctlDetachPt(user, call);
    }
    switch (call.request) {
      case Request.DEVICE_FEATURE:
        return await ioctlDeviceFeature(device, call);
      case Request.DEVICE_GET_REGION_INFO:
        return await ioctlGetRegionInfo(device, call);
      default:
        if (!device.ioctl) throw new VfioError('EINVAL', 'the device takes no requests', { syscall: 'ioctl' });
        return await device.ioctl(call);
    }
  } finally {
    if (device.runtimePm) await device.runtimePm.suspend();
  }
}

/** Source: drivers/vfio/vfio_main.c vfio_device_pm_runtime_get() */
async function resume(device: VfioDevice, runtimePm: RuntimePm): Promise<void> {
  try {
    await runtimePm.resume();
  } catch (cause) {
    device.vfio.host.log.info('runtime resume failed', device.dev.name);
    throw new VfioError('EIO', 'the device can not be resumed', { syscall: 'ioctl', subject: device.dev.name, cause });
  }
}
