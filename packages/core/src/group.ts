// A VFIO group: the devices that can only be given to a user together. What its file does is in group-file.ts, where
// groups come from and go to in group-registry.ts.

import { type Device, type IommuGroup, type KvmVm, Mutex } from '@vfio/host';
import type { Container } from './container.js';
import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import type { GroupFile } from './group-file.js';
import type { GroupType } from './iommu-driver.js';
import type { IommufdContext } from './iommufd/context.js';
import { tryGetRegistration } from './references.js';
import type { Vfio } from './vfio.js';

/** Source: drivers/vfio/vfio.h `struct vfio_group` */
export class Group {
  readonly vfio: Vfio;
  /** Whether the devices sit behind an IOMMU, behind one that is emulated, or behind none. */
  readonly kind: GroupType;
  /** `<gid>` or `noiommu-<gid>`: the name of the node. */
  readonly name: string;
  /** Number of the char device. */
  readonly minor: number;
  /** The IOMMU group, until the last device left. */
  iommuGroup: IommuGroup | undefined;
  /** Registered devices; 0 while the group is being removed. */
  drivers = 1;
  /** The container it is set to, and how many users that has: 1 for being set, one for each open device. */
  container: Container | undefined;
  containerUsers = 0;
  /** The iommufd that stands in for a container; the group holds it. */
  iommufd: IommufdContext | undefined;
  /** Devices that are bound through nodes of their own: the group can not be opened then. */
  cdevOpenCount = 0;
  /** The one open file of the group. */
  openedFile: GroupFile | undefined;
  /** The virtual machine that its file was told of; devices take a reference when they are opened. */
  kvm: KvmVm | undefined;
  /** Protects container, container users, the IOMMU group and the open file. */
  readonly groupLock: Mutex;
  /** Protects the list of devices; `match` runs under it. */
  readonly deviceLock: Mutex;
  /** Registered devices, newest first. */
  devices: readonly VfioDevice[] = [];
  /** The class device that carries the node; set while it exists. */
  device: Device | undefined;

  constructor(vfio: Vfio, iommuGroup: IommuGroup, kind: GroupType, minor: number) {
    this.vfio = vfio;
    this.iommuGroup = iommuGroup;
    this.kind = kind;
    this.minor = minor;
    this.name = kind === 'no-iommu' ? `noiommu-${iommuGroup.id}` : `${iommuGroup.id}`;
    this.groupLock = new Mutex(vfio.host, 'vfio_group.group_lock');
    this.deviceLock = new Mutex(vfio.host, 'vfio_group.device_lock');
  }

  /** Whether a user gave the group something to translate with; the group's lock must be held. */
  hasIommu(): boolean {
    this.groupLock.assertHeld();
    const { log } = this.vfio.host;
    // the two go together
    log.warnOn(
      (this.container !== undefined) !== this.containerUsers > 0,
      `group ${this.name}: container and its users disagree`,
    );
    return this.container !== undefined || this.iommufd !== undefined;
  }

  /**
   * Keeps the group closed while a device is bound through its own node.
   *
   * @throws EBUSY - the group is open
   * @source drivers/vfio/group.c vfio_device_block_group()
   */
  async block(): Promise<void> {
    using _held = await this.groupLock.lock();
    if (this.openedFile) {
      throw new VfioError('EBUSY', `group ${this.name} is open`, { syscall: 'VFIO_DEVICE_BIND_IOMMUFD' });
    }
    this.cdevOpenCount++;
  }

  /** Source: drivers/vfio/group.c vfio_device_unblock_group() */
  async unblock(): Promise<void> {
    using _held = await this.groupLock.lock();
    this.cdevOpenCount--;
  }

  /** Makes a registered device reachable by name. */
  async addDevice(device: VfioDevice): Promise<void> {
    using _held = await this.deviceLock.lock();
    this.devices = [device].concat(this.devices);
  }

  /** From now on the device can not be opened through the group. */
  async removeDevice(device: VfioDevice): Promise<void> {
    using _held = await this.deviceLock.lock();
    this.devices = this.devices.filter((member) => member !== device);
  }

  /**
   * Finds a device by the name that GET_DEVICE_FD was given and takes a registration reference on it.
   *
   * @throws ENODEV - none of that name
   * @throws whatever a device's `match` throws; the search ends there
   * @source drivers/vfio/group.c vfio_device_get_from_name()
   */
  async getDeviceByName(name: string): Promise<VfioDevice> {
    using _held = await this.deviceLock.lock();
    for (const device of this.devices) {
      const matches = device.match ? await device.match(name) : device.dev.name === name;
      if (matches && tryGetRegistration(device)) return device;
    }
    throw new VfioError('ENODEV', `group ${this.name} has no device of that name`, {
      syscall: 'VFIO_GROUP_GET_DEVICE_FD',
      subject: name,
    });
  }
}
