// The file of a device: what a user of VFIO reads, writes, maps and sends requests to.

import {
  File,
  type FileOptions,
  type InodeMapping,
  type IoctlCall,
  type Mapping,
  type MmapRequest,
  O,
  type Process,
  Undo,
  type UserBuffer,
} from '@vfio/host';
import type { VfioDevice } from './device.js';
import { unbindIommufd } from './device-bind.js';
import { dispatchDeviceIoctl } from './device-ioctl.js';
import type { DeviceUser } from './device-user.js';
import { VfioError } from './errors.js';
import type { Group } from './group.js';
import { closeThroughGroup, openThroughGroup } from './group-open.js';
import { putRegistration } from './references.js';

const throughGroup = { flags: O.RDWR, label: 'anon_inode:[vfio-device]' };

/** An open node counts twice for the module: once for the character device, once for the operations of the file. */
const nodeReferences = 2;

/** An open device. Source: drivers/vfio/vfio_main.c vfio_device_fops */
export class DeviceFile extends File {
  readonly user: DeviceUser;
  /** All files of the device share it, so that what was mapped through any of them can be taken away. */
  override readonly mapping: InodeMapping;
  readonly #device: VfioDevice;
  readonly #unpin: () => void;
  /** A user of the node keeps the class device. */
  readonly #node: VfioDevice['device'] | undefined;

  constructor(user: DeviceUser, { flags, label }: Pick<FileOptions, 'flags' | 'label'> = throughGroup) {
    super({ flags, label, seek: 'none' });
    this.user = user;
    this.#device = user.device;
    this.mapping = user.device.mapping;
    this.#unpin = user.device.vfio.pinModule(user.group ? 1 : nodeReferences);
    this.#node = user.group ? undefined : user.device.device.get();
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

  /**
   * Closes the device for this user, and gives back what the file held.
   *
   * @throws whatever the driver throws, a bug of it; everything is given back all the same
   * @source drivers/vfio/vfio_main.c vfio_device_fops_release()
   */
  override async release(): Promise<void> {
    // from the last one on
    await using rest = new Undo();
    rest.add(this.#unpin);
    rest.add(() => this.#node?.put());
    rest.add(() => putRegistration(this.#device));
    await (this.user.group ? closeThroughGroup(this.user) : unbindIommufd(this.user));
  }
}

function refused(syscall: string, device: VfioDevice): VfioError {
  return new VfioError('EINVAL', `the device does not take ${syscall}`, { syscall, subject: device.dev.name });
}

/**
 * Opens a device for a file of its group. The caller holds a registration reference, which the file takes over.
 *
 * @throws as {@link openThroughGroup}
 * @throws ENFILE - no file can be made; the device is closed again
 * @source drivers/vfio/group.c vfio_device_open_file()
 */
export async function openDeviceFile(group: Group, device: VfioDevice, process: Process): Promise<DeviceFile> {
  const { host } = group.vfio;
  const user = await openThroughGroup(group, device, process);
  let file: DeviceFile;
  try {
    host.faults.check('vfio_device_open_file:file', 'ENFILE');
    file = new DeviceFile(user);
  } catch (error) {
    await closeThroughGroup(user);
    throw error;
  }
  if (group.kind === 'no-iommu') {
    host.log.warn(`vfio-noiommu device opened by user (${process.comm}:${process.pid})`, device.dev.name);
  }
  return file;
}
