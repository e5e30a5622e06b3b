// The client: finds devices by their address, and opens what is needed to reach them.

import { isVfioError, VfioError } from '@vfio/core';
import { Undo } from '@vfio/host';
import { type Descriptor, named } from './call.js';
import { Container, type IommuKind } from './container.js';
import { Device } from './device.js';
import { Group } from './group.js';
import type { Ioas } from './ioas.js';
import { Iommufd } from './iommufd.js';
import type { Transport } from './transport.js';

/** How to open a device. */
export interface OpenDeviceOptions {
  /** A container to join, set to an IOMMU before; one of its own otherwise, which is closed with the device. */
  readonly container?: Container;
  /** An iommufd that stands in for a container; its devices share the address space that VFIO has there. */
  readonly iommufd?: Iommufd;
  /** What a container of its own is set to; `type1v2` unless said otherwise. */
  readonly iommu?: IommuKind;
}

/** How to open a device through its own node. */
export interface OpenCdevOptions {
  /** An iommufd to bind to; one of its own otherwise, which is closed with the device. */
  readonly iommufd?: Iommufd;
  /** An address space of that iommufd to attach to; a new one otherwise, which goes with the device. */
  readonly ioas?: Ioas;
  /** 16 bytes, for a driver that asks for them. */
  readonly token?: Uint8Array;
}

const busRoot = '/sys/bus';
const nodeRoot = '/dev/vfio';

/** A client of VFIO over some transport. */
export class VfioClient {
  readonly transport: Transport;

  constructor(transport: Transport) {
    this.transport = transport;
  }

  /** A new container; with the path `/dev/iommu`, an iommufd that stands in for one. */
  openContainer(path?: string): Promise<Container> {
    return Container.open(this.transport, path);
  }

  /** A new iommufd. */
  openIommufd(): Promise<Iommufd> {
    return Iommufd.open(this.transport);
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
    for (const bus of await this.#names(busRoot)) {
      const id = await this.#baseOfLink(`${busRoot}/${bus}/devices/${address}/iommu_group`);
      if (id === undefined) continue;
      const nodes = await this.#names(nodeRoot);
      const node = [id, `noiommu-${id}`].find((name) => nodes.includes(name));
      if (node !== undefined) return node;
      throw new VfioError('ENODEV', 'the device is not bound to a VFIO driver', { subject: address });
    }
    throw new VfioError('ENODEV', 'no bus has a device of that name in an IOMMU group', { subject: address });
  }

  /**
   * The node of a device, as sysfs has it.
   *
   * @param address - as {@link groupOf}
   * @throws VfioError ENODEV - no bus has a device of that name, or it has no node
   */
  async nodeOf(address: string): Promise<string> {
    for (const bus of await this.#names(busRoot)) {
      const [name] = await this.#names(`${busRoot}/${bus}/devices/${address}/vfio-dev`);
      const nodes = name === undefined ? [] : await this.#names(`${nodeRoot}/devices`);
      if (name !== undefined && nodes.includes(name)) return `${nodeRoot}/devices/${name}`;
    }
    throw new VfioError('ENODEV', 'no device of that name has a node of its own', { subject: address });
  }

  /** Names in a directory; none where there is no such directory, as before the first module is loaded. */
  async #names(path: string): Promise<string[]> {
    return (await this.#unlessAbsent('readdir', path, () => this.transport.readdir(path))) ?? [];
  }

  async #baseOfLink(path: string): Promise<string | undefined> {
    const text = await this.#unlessAbsent('readlink', path, () => this.transport.readlink(path));
    return text?.split('/').at(-1);
  }

  async #unlessAbsent<T>(syscall: string, path: string, run: () => Promise<T>): Promise<T | undefined> {
    try {
      return await named(syscall, path, run);
    } catch (error) {
      if (isVfioError(error, 'ENOENT') || isVfioError(error, 'ENOTDIR')) return undefined;
      throw error;
    }
  }

  /**
   * Opens a device through its group. Closing the device closes whatever was opened to reach it.
   *
   * @param address - as {@link groupOf}, with options for the driver behind a space: `0000:01:00.0 vf_token=...`
   * @throws VfioError - with the errno of the step that failed; whatever was opened before is closed
   */
  async openDevice(address: string, options: OpenDeviceOptions = {}): Promise<Device> {
    const [name = address] = address.split(' ');
    const node = await this.groupOf(name);
    const opened: Descriptor[] = [];
    await using undo = new Undo();
    const keep = <D extends Descriptor>(descriptor: D): D => {
      opened.push(descriptor);
      undo.add(() => descriptor.close());
      return descriptor;
    };
    const given = options.iommufd ?? options.container;
    const container = given ?? keep(await this.openContainer());
    const group = keep(await this.openGroup(node));
    await group.setContainer(container);
    const iommu = options.iommu ?? (node.startsWith('noiommu-') ? 'noiommu' : 'type1v2');
    if (!given && container instanceof Container) await container.setIommu(iommu);
    const device = await group.getDevice(address);
    device.closeWith(opened);
    undo.keep();
    return device;
  }

  /**
   * Opens a device through its own node, binds it to an iommufd and attaches it to an address space. Closing the device
   * closes whatever was opened to reach it. An address space that was made for it in the caller's iommufd is destroyed,
   * unless something else uses it by then, which keeps it until the iommufd is closed.
   *
   * @param address - as {@link groupOf}
   * @throws VfioError - with the errno of the step that failed; whatever was opened before is closed
   */
  async openCdev(address: string, options: OpenCdevOptions = {}): Promise<Device> {
    const path = await this.nodeOf(address);
    await using undo = new Undo();
    const iommufd = options.iommufd ?? options.ioas?.iommufd ?? (await this.openIommufd());
    // with an iommufd of its own goes everything that is in it
    const own = !options.iommufd && !options.ioas;
    if (own) undo.add(() => iommufd.close());
    const fd = await named('open', path, () => this.transport.open(path));
    const device = new Device(this.transport, fd, address);
    undo.add(() => device.close());
    await device.bindIommufd(iommufd, options.token);
    const ioas = options.ioas ?? (await iommufd.allocIoas());
    if (!options.ioas) undo.add(() => ioas.destroy());
    await device.attach(ioas);
    if (own) device.closeWith([iommufd]);
    else if (!options.ioas) device.closeWith([unlessUsed(ioas)]);
    undo.keep();
    return device;
  }
}

/** Destroys an address space that others may have got hold of: theirs it stays. */
function unlessUsed(ioas: Ioas): AsyncDisposable {
  return {
    async [Symbol.asyncDispose]() {
      try {
        await ioas[Symbol.asyncDispose]();
      } catch (error) {
        if (!isVfioError(error, 'EBUSY')) throw error;
      }
    },
  };
}
