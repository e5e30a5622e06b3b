// A group: the door to its devices.

import { GroupStatusFlag, groupStatus, isVfioError, Request } from '@vfio/core';
import { Descriptor, named } from './call.js';
import { Container } from './container.js';
import { Device } from './device.js';
import type { Ioas } from './ioas.js';
import { Iommufd } from './iommufd.js';
import type { Transport } from './transport.js';

/** What a group tells of itself. */
export interface GroupStatus {
  /** No device of it is used by a driver of the host. */
  readonly viable: boolean;
  /** It is set to a container. */
  readonly containerSet: boolean;
}

/** An open group. Source: include/uapi/linux/vfio.h, requests of the group */
export class Group extends Descriptor {
  /** The container that the group was put into, by this client. */
  container: Container | undefined;
  /** The address space that its devices are attached to, if an iommufd stands in for a container. */
  ioas: Ioas | undefined;

  /**
   * Opens a group.
   *
   * @param id - its number, or the name of its node: `noiommu-0`
   */
  static async open(transport: Transport, id: number | string): Promise<Group> {
    const path = `/dev/vfio/${id}`;
    return new Group(transport, await named('open', path, () => transport.open(path)), `group ${id}`);
  }

  async status(): Promise<GroupStatus> {
    const order = this.transport.byteOrder;
    const bytes = groupStatus.encode({ argsz: groupStatus.size }, order);
    await this.ioctl('VFIO_GROUP_GET_STATUS', Request.GROUP_GET_STATUS, bytes);
    const { flags } = groupStatus.decode(bytes, order);
    return {
      viable: (flags & GroupStatusFlag.VIABLE) !== 0,
      containerSet: (flags & GroupStatusFlag.CONTAINER_SET) !== 0,
    };
  }

  /** Puts the group into a container, or gives it an iommufd that stands in for one. */
  async setContainer(container: Container | Iommufd): Promise<void> {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setInt32(0, container.fd, this.transport.byteOrder === 'little');
    await this.ioctl('VFIO_GROUP_SET_CONTAINER', Request.GROUP_SET_CONTAINER, bytes);
    this.container = container instanceof Container ? container : undefined;
    this.ioas = container instanceof Iommufd ? await compatIoas(container) : undefined;
  }

  /** Takes it out; no device may be open. */
  async unsetContainer(): Promise<void> {
    await this.ioctl('VFIO_GROUP_UNSET_CONTAINER', Request.GROUP_UNSET_CONTAINER);
    this.container = undefined;
    this.ioas = undefined;
  }

  /**
   * Opens a device of the group.
   *
   * @param name - as the driver matches it: `0000:01:00.0`, a UUID, `0000:01:00.0 vf_token=...`
   */
  async getDevice(name: string): Promise<Device> {
    const bytes = new TextEncoder().encode(`${name}\0`);
    const fd = await this.ioctl('VFIO_GROUP_GET_DEVICE_FD', Request.GROUP_GET_DEVICE_FD, bytes);
    return new Device(this.transport, fd, name, this);
  }
}

/** There is none for devices without an IOMMU. */
async function compatIoas(iommufd: Iommufd): Promise<Ioas | undefined> {
  try {
    return await iommufd.vfioIoas();
  } catch (error) {
    if (isVfioError(error, 'ENODEV')) return undefined;
    throw error;
  }
}
