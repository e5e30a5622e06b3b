// The file of a device: what a user of VFIO reads, writes, maps and sends requests to.

import { File, type IoctlCall, type Mapping, type MmapRequest, O, type UserBuffer } from '@vfio/host';
import type { VfioDevice } from './device.js';
import { dispatchDeviceIoctl } from './device-ioctl.js';
import { closeThroughGroup } from './device-open.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import { putRegistration } from './registration.js';

/** One user of a device, from open to close. Source: drivers/vfio/vfio.h `struct vfio_device_file` */
export class DeviceUser {
  readonly device: VfioDevice;
  readonly group: Group;
  /** Nothing works before it is set, and it never goes back. */
  accessGranted = false;

  constructor(device: VfioDevice, group: Group) {
    this.device = device;
    this.group = group;
  }
}

/** An open device. Source: drivers/vfio/vfio_main.c vfio_device_fops */
export class DeviceFile extends File {
  readonly user: DeviceUser;
  readonly #device: VfioDevice;

  constructor(user: DeviceUser) {
    super({ flags: O.RDWR, label: 'anon_inode:[vfio-device]', seek: 'none' });
    this.user = user;
    this.#device = user.device;
  }

  override read(buffer: UserBuffer, position: number): number | Promise<number> {
    const device = this.#device;
    if (!this.user.accessGranted || !device.read) throw refused('read', device);
    return device.read(buffer, position);
  }

  override write(buffer: UserBuffer, position: number): number | Promise<number> {
    const device = this.#device;
    if (!this.user.accessGranted || !device.write) throw refused('write', device);
    return device.write(buffer, position);
  }

  override mmap(request: MmapRequest): Mapping | Promise<Mapping> {
    const device = this.#device;
    if (!this.user.accessGranted || !device.mmap) throw refused('mmap', device);
    return device.mmap(request);
  }

  override ioctl(call: IoctlCall): Promise<number> {
    return dispatchDeviceIoctl(this.user, call);
  }

  override fdinfo(): string[] {
    return [`vfio-device-syspath: ${this.#device.dev.sysfs.path()}`];
  }

  /** Source: drivers/vfio/vfio_main.c vfio_device_fops_release() */
  override async release(): Promise<void> {
    await closeThroughGroup(this.user);
    putRegistration(this.#device);
  }
}

function refused(syscall: string, device: VfioDevice): VfioError {
  return new VfioError('EINVAL', `the device does not take ${syscall}`, { syscall, subject: device.dev.name });
}
