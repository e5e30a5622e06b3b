// One user of a device: what an open file of it knows.

import type { KvmVm } from '@vfio/host';
import type { VfioDevice } from './device.js';
import type { Group } from './group.js';
import type { IommufdContext } from './iommufd/context.js';

/** One user of a device, from open to close. Source: drivers/vfio/vfio.h `struct vfio_device_file` */
export class DeviceUser {
  readonly device: VfioDevice;
  /** The group that it came through; undefined for the device's own node. */
  readonly group: Group | undefined;
  /** The virtual machine that the file was told of. */
  kvm: KvmVm | undefined;
  /** Nothing works before it is set, and it never goes back. */
  accessGranted = false;
  /** The iommufd that it bound the device to, held until it closes. */
  iommufd: IommufdContext | undefined;

  /** @throws ENOMEM - no memory for it */
  constructor(device: VfioDevice, group?: Group) {
    device.vfio.host.faults.check('vfio_allocate_device_file:memory');
    this.device = device;
    this.group = group;
  }
}
