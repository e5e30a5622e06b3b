// The client: finds devices by their address, and opens what is needed to reach them.

import { VfioError } from '@vfio/core';
import type { Descriptor } from './call.js';
import { Container, type IommuKind } from './container.js';
import type { Device } from './device.js';
import { Group } from './group.js';
import type { Transport } from './transport.js';

/** How to open a device. */
export interface OpenDeviceOptions {
  /** A container to join; one of its own otherwise, which is closed with the device. */
  readonly container?: Container;
  /** What a container of its own is set to; `type1v2` unless said otherwise. */
  readonly iommu?: IommuKind;
}

const busRoot = '/sys/bus';

/** A client of VFIO over some transport. */
export class VfioClient {
  readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  /** A new container. */
  openContainer(): Promise<Container> {
    return Container.open(this.transport);
  }

  /** A group, by its number or node name. */
  openGroup(id: number | string): Promise<Group> {
    return Group.open(this.transport, id);
  }

  /**
   * The group of a device, as sysfs has it: the name of its node.
   *
   * @param address - name of the device on its bus: `0000:01:00.0`, a UUID, `0.0.0000`
   * @throws VfioError ENODEV - no bus has a device of that name, or it is bound to no VFIO driver
   */
  async groupOf(address: string): Promise<string> {
    for (const bus of await this.transport.readdir(busRoot)) {
      const device = `${busRoot}/${bus}/devices/${address}`;
      const id = await this.#baseOfLink(`${device}/iommu_group`);
      if (id === undefined) continue;
      const nodes = await this.transport.readdir('/dev/vfio');
      const node = [id, `noiommu-${id}`].find((name) => nodes.includes(name));
      if (node) return node;
      throw new VfioError('ENODEV', 'the device is not bound to a VFIO driver', { subject: address });
    }
    throw new VfioError('ENODEV', 'no bus has a device of that name in an IOMMU group', { subject: address });
  }

  async #baseOfLink(path: string): Promise<string | undefined> {
    try {
      return (await this.transport.readlink(path)).split('/').at(-1);
    } catch {
      return undefined;
    }
  }

  /**
   * Opens a device through its group. Closing the device closes whatever was opened to reach it.
   *
   * @param address - as {@link groupOf}, with options for the driver behind a space: `0000:01:00.0 vf_token=...`
   * @throws VfioError - with the errno of the step that failed; whatever was opened before is closed
   */
  async openDevice(address: string, options: OpenDeviceOptions = {}): Promise<Device> {
    const node = await this.groupOf(address.split(' ')[0] ?? address);
    const opened: Descriptor[] = [];
    try {
      const container = options.container ?? (await this.openContainer());
      if (!options.container) opened.push(container);
      const group = await this.openGroup(node);
      opened.push(group);
      await group.setContainer(container);
      const iommu = options.iommu ?? (node.startsWith('noiommu-') ? 'noiommu' : 'type1v2');
      if (!options.container) await container.setIommu(iommu);
      const device = await group.getDevice(address);
      device.closeWith(opened);
      return device;
    } catch (error) {
      for (const one of opened.reverse()) await one.close();
      throw error;
    }
  }
}
