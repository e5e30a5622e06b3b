// VFIO_DEVICE_GET_REGION_INFO: the core reads the request and writes the chain of capabilities, the driver fills in.

import type { IoctlCall } from '@vfio/host';
import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import { InfoCap, writeInfo } from './info-cap.js';
import { RegionInfoFlag, regionInfo } from './uapi/vfio.js';
import { copyArgsz } from './user-args.js';

/**
 * @throws EINVAL - the device has no such operation, `argsz` is too small, or the driver knows no such region
 * @throws EFAULT - not readable or not writable
 * @source drivers/vfio/vfio_main.c vfio_get_region_info()
 */
export async function ioctlGetRegionInfo(device: VfioDevice, call: IoctlCall): Promise<number> {
  if (!device.getRegionInfoCaps) {
    throw new VfioError('EINVAL', 'the device has no regions', { syscall: 'VFIO_DEVICE_GET_REGION_INFO' });
  }
  const info = regionInfo.decode(copyArgsz(call, regionInfo.size), call.order);
  const caps = new InfoCap(device.vfio.host, call.order);
  await device.getRegionInfoCaps(info, caps);
  writeInfo(call, regionInfo, info, caps, RegionInfoFlag.CAPS);
  return 0;
}
