// One user of a device: what an open file of it knows.

import type { KvmVm } from '@vfio/host';
import type { VfioDevice } from './device.js';
import type { Group } from './group.js';

/** One user of a device, from open to close. Source: drivers/vfio/vfio.h `struct vfio_device_file` */
export class DeviceUser {
  readonly device: VfioDevice;
  readonly group: Group;
  /** The virtual machine that the file was told of. */
  kvm: KvmVm | undefined;
  /** Nothing works before it is set, and it never goes back. */
  accessGranted = false;

  constructor(device: VfioDevice, group: Group) {
    this.device = device;
    this.group = group;
  }
}
