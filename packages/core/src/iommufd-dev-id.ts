// What a driver of hardware may ask about devices that are bound to an iommufd: whose they are, for resets of several at once.

import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import type { IommufdContext } from './iommufd/context.js';
import { ctxHasGroup } from './iommufd/device.js';
import { recordOf } from './references.js';

/**
 * Whether it was opened through its own node.
 *
 * @source include/linux/vfio.h vfio_device_cdev_opened()
 */
export function deviceCdevOpened(device: VfioDevice): boolean {
  return recordOf(device).cdevOpened;
}

/**
 * The context that a physical device is bound to.
 *
 * @source drivers/vfio/iommufd.c vfio_iommufd_device_ictx()
 */
export function iommufdDeviceIctx(device: VfioDevice): IommufdContext | undefined {
  return recordOf(device).physical?.device.context;
}

/**
 * The id of a device in a context.
 *
 * @throws ENOENT - it is not bound there, but something of its group is, so that nobody else can have it
 * @throws ENODEV - it is not the context's
 * @source drivers/vfio/iommufd.c vfio_iommufd_get_dev_id()
 */
export function iommufdGetDevId(device: VfioDevice, context: IommufdContext | undefined): number {
  const bound = recordOf(device).physical?.device;
  if (bound && bound.context === context) return bound.id;
  const code = ctxHasGroup(context, device.dev.iommuGroup) ? 'ENOENT' : 'ENODEV';
  throw new VfioError(code, 'not bound to this iommufd', { subject: device.dev.name });
}
