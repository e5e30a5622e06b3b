// An open device.

import {
  DeviceAttachFlag,
  DeviceBindFlag,
  DeviceDetachFlag,
  type DeviceGfxPlaneInfo,
  DeviceInfoFlag,
  deviceAttachIommufdPt,
  deviceBindIommufd,
  deviceDetachIommufdPt,
  deviceFeature,
  deviceGfxPlaneInfo,
  deviceInfo,
  deviceIoeventfd,
  type ExerciseDevice,
  FeatureFlag,
  IoeventfdFlag,
  irqInfo,
  isVfioError,
  pciDependentDevice,
  pciHotReset,
  pciHotResetInfo,
  Request,
  regionInfo,
  VfioError,
} from '@vfio/core';
import { Undo } from '@vfio/host';
import { Descriptor } from './call.js';
import type { Container } from './container.js';
import { DmaLogging } from './dma-logging.js';
import { bufferBelow, type DmaBuffer, type DmaSpace } from './dma-space.js';
import type { Group } from './group.js';
import { askInfo, type Capability, capabilities } from './info.js';
import type { Ioas } from './ioas.js';
import type { Binding, Iommufd } from './iommufd.js';
import { Irq } from './irq.js';
import { Migration } from './migration.js';
import { Region, type Width } from './region.js';
import { Scratch } from './scratch.js';
import type { ClientMapping, Transport } from './transport.js';

/** What a device tells of itself. */
export interface DeviceInfo {
  /** DeviceInfoFlag bits. */
  readonly flags: number;
  readonly numRegions: number;
  readonly numIrqs: number;
  readonly capabilities: readonly Capability[];
}

/** A function that a hot reset would reset too. */
export interface HotResetDependency {
  /** The group, or with `byDeviceId` the id in the caller's iommufd: 0 owned otherwise, 0xffffffff not owned. */
  readonly id: number;
  readonly byDeviceId: boolean;
  /** `0000:04:00.1` */
  readonly address: string;
}

const widthFlag: Readonly<Record<Width, number>> = {
  1: IoeventfdFlag.WIDTH_8,
  2: IoeventfdFlag.WIDTH_16,
  4: IoeventfdFlag.WIDTH_32,
  8: IoeventfdFlag.WIDTH_64,
};

/** An open device. Source: include/uapi/linux/vfio.h, requests of the device */
export class Device extends Descriptor implements ExerciseDevice {
  /** Migration features. */
  readonly migration = new Migration(this);
  /** DMA logging features. */
  readonly dmaLogging = new DmaLogging(this);

  readonly #group: Group | undefined;
  #binding: Binding | undefined;
  readonly #closeWith: AsyncDisposable[] = [];

  /** @param group - the group that it was opened through; undefined for its own node */
  constructor(transport: Transport, fd: number, name: string, group?: Group) {
    super(transport, fd, name);
    this.#group = group;
  }

  /** The group that it was opened through. */
  get group(): Group {
    if (!this.#group) throw new TypeError(`${this.subject} was opened through its own node`);
    return this.#group;
  }

  /** The container that its group is in. */
  get container(): Container {
    if (!this.group.container) throw new TypeError(`${this.group.subject} is in no container of this client`);
    return this.group.container;
  }

  /** The iommufd that it is bound to. */
  get binding(): Binding {
    if (!this.#binding) throw new TypeError(`${this.subject} is bound to no iommufd by this client`);
    return this.#binding;
  }

  /** Where memory for it is mapped: the container of its group or what stands in for it, or what it is attached to. */
  get space(): DmaSpace {
    if (this.#group) return this.#group.ioas ?? this.container;
    const { ioas } = this.binding;
    if (!ioas) throw new TypeError(`${this.subject} is attached to no address space by this client`);
    return ioas;
  }

  /**
   * Binds it to an iommufd: nothing works before, of a device that was opened through its own node.
   *
   * @param token - 16 bytes, for a driver that asks for them
   * @returns its id there
   */
  async bindIommufd(iommufd: Iommufd, token?: Uint8Array): Promise<number> {
    const order = this.transport.byteOrder;
    using memory = token && new Scratch(this.transport, token.length);
    if (token) memory?.write(token);
    const flags = memory ? DeviceBindFlag.TOKEN : 0;
    const value = { argsz: deviceBindIommufd.size, flags, iommufd: iommufd.fd, tokenUuidPtr: memory?.address ?? 0n };
    const bytes = deviceBindIommufd.encode(value, order);
    await this.ioctl('VFIO_DEVICE_BIND_IOMMUFD', Request.DEVICE_BIND_IOMMUFD, bytes);
    const id = deviceBindIommufd.decode(bytes, order).outDevid;
    this.#binding = { iommufd, id, ioas: undefined };
    return id;
  }

  /**
   * Attaches it, or moves it if it is attached.
   *
   * @param to - an address space, or the id of a page table
   * @param pasid - attaches just this one
   * @returns id of the page table in use; of an emulated device, of the address space
   */
  async attach(to: Ioas | number, pasid?: number): Promise<number> {
    const order = this.transport.byteOrder;
    const ptId = typeof to === 'number' ? to : to.id;
    const value =
      pasid === undefined
        ? { argsz: deviceAttachIommufdPt.endOf('ptId'), ptId }
        : { argsz: deviceAttachIommufdPt.size, flags: DeviceAttachFlag.PASID, ptId, pasid };
    const bytes = deviceAttachIommufdPt.encode(value, order);
    await this.ioctl('VFIO_DEVICE_ATTACH_IOMMUFD_PT', Request.DEVICE_ATTACH_IOMMUFD_PT, bytes);
    if (pasid === undefined) this.#binding = { ...this.binding, ioas: typeof to === 'number' ? undefined : to };
    return deviceAttachIommufdPt.decode(bytes, order).ptId;
  }

  /** Detaches it, or one PASID of it. */
  async detach(pasid?: number): Promise<void> {
    const value =
      pasid === undefined
        ? { argsz: deviceDetachIommufdPt.endOf('flags') }
        : { argsz: deviceDetachIommufdPt.size, flags: DeviceDetachFlag.PASID, pasid };
    const bytes = deviceDetachIommufdPt.encode(value, this.transport.byteOrder);
    await this.ioctl('VFIO_DEVICE_DETACH_IOMMUFD_PT', Request.DEVICE_DETACH_IOMMUFD_PT, bytes);
    if (pasid === undefined) this.#binding = { ...this.binding, ioas: undefined };
  }

  /** Gives these back too when the device has been closed, last first. */
  closeWith(others: readonly AsyncDisposable[]): void {
    this.#closeWith.push(...others);
  }

  protected override async release(): Promise<void> {
    await using others = new Undo();
    for (const other of this.#closeWith) others.add(async () => await other[Symbol.asyncDispose]());
    await super.release();
  }

  /** The name that it was opened by. */
  get name(): string {
    return this.subject;
  }

  /**
   * What it is, and how many regions and interrupt indices it has.
   *
   * @throws RangeError - the chain of capabilities in the answer is broken
   */
  async info(): Promise<DeviceInfo> {
    const order = this.transport.byteOrder;
    const bytes = await askInfo(
      deviceInfo.size,
      order,
      () => {},
      (buffer) => this.ioctl('VFIO_DEVICE_GET_INFO', Request.DEVICE_GET_INFO, buffer),
    );
    const info = deviceInfo.decode(bytes, order);
    const chained = (info.flags & DeviceInfoFlag.CAPS) !== 0;
    return {
      flags: info.flags,
      numRegions: info.numRegions,
      numIrqs: info.numIrqs,
      capabilities: chained ? capabilities(bytes, deviceInfo.size, info.capOffset, order) : [],
    };
  }

  /**
   * One region.
   *
   * @throws VfioError EINVAL - the device has none of that number
   * @throws RangeError - the chain of capabilities in the answer is broken
   */
  async region(index: number): Promise<Region> {
    const order = this.transport.byteOrder;
    const bytes = await askInfo(
      regionInfo.size,
      order,
      (buffer) => buffer.set(regionInfo.encode({ index }, order)),
      (buffer) => this.ioctl('VFIO_DEVICE_GET_REGION_INFO', Request.DEVICE_GET_REGION_INFO, buffer),
    );
    return new Region(this, regionInfo.decode(bytes, order), bytes);
  }

  /** All regions; those that the device refuses to describe are left out. */
  async regions(): Promise<Region[]> {
    return await this.#each((await this.info()).numRegions, (index) => this.region(index));
  }

  /** One interrupt index. */
  async irq(index: number): Promise<Irq> {
    const order = this.transport.byteOrder;
    const bytes = irqInfo.encode({ argsz: irqInfo.size, index }, order);
    await this.ioctl('VFIO_DEVICE_GET_IRQ_INFO', Request.DEVICE_GET_IRQ_INFO, bytes);
    return new Irq(this, irqInfo.decode(bytes, order));
  }

  /** All interrupt indices; those that the device refuses to describe are left out. */
  async irqs(): Promise<Irq[]> {
    return await this.#each((await this.info()).numIrqs, (index) => this.irq(index));
  }

  async #each<T>(count: number, ask: (index: number) => Promise<T>): Promise<T[]> {
    const found: T[] = [];
    for (let index = 0; index < count; index++) {
      try {
        found.push(await ask(index));
      } catch (error) {
        if (!isVfioError(error, 'EINVAL')) throw error;
      }
    }
    return found;
  }

  /** Resets the device. */
  async reset(): Promise<void> {
    await this.ioctl('VFIO_DEVICE_RESET', Request.DEVICE_RESET);
  }

  /** Whether a feature can be used in a direction. */
  async hasFeature(feature: number, direction: 'get' | 'set'): Promise<boolean> {
    try {
      await this.#feature(feature, FeatureFlag.PROBE | directionFlag(direction), new Uint8Array(0));
      return true;
    } catch (error) {
      if (isVfioError(error, 'ENOTTY') || isVfioError(error, 'EINVAL')) return false;
      throw error;
    }
  }

  /**
   * Reads a feature.
   *
   * @param size - bytes of its data
   * @param input - data that the request takes along
   */
  getFeature(feature: number, size: number, input: Uint8Array = new Uint8Array(size)): Promise<Uint8Array> {
    return this.#feature(feature, FeatureFlag.GET, input);
  }

  /** Sets a feature; returns its data as the kernel left it. */
  setFeature(feature: number, data: Uint8Array): Promise<Uint8Array> {
    return this.#feature(feature, FeatureFlag.SET, data);
  }

  async #feature(feature: number, flags: number, data: Uint8Array): Promise<Uint8Array> {
    const bytes = new Uint8Array(deviceFeature.size + data.length);
    bytes.set(deviceFeature.encode({ argsz: bytes.length, flags: flags | feature }, this.transport.byteOrder));
    bytes.set(data, deviceFeature.size);
    await this.ioctl('VFIO_DEVICE_FEATURE', Request.DEVICE_FEATURE, bytes);
    return bytes.subarray(deviceFeature.size);
  }

  /**
   * The functions that a hot reset of this one resets.
   *
   * @throws RangeError - the answer says more functions than it has room for
   */
  async hotResetInfo(): Promise<HotResetDependency[]> {
    const order = this.transport.byteOrder;
    const { size } = pciDependentDevice;
    for (let room = 1; ; ) {
      const bytes = new Uint8Array(pciHotResetInfo.size + room * size);
      bytes.set(pciHotResetInfo.encode({ argsz: bytes.length }, order));
      try {
        await this.ioctl('VFIO_DEVICE_GET_PCI_HOT_RESET_INFO', Request.DEVICE_GET_PCI_HOT_RESET_INFO, bytes);
      } catch (error) {
        const { count } = pciHotResetInfo.decode(bytes, order);
        if (!isVfioError(error, 'ENOSPC') || count <= room) throw error;
        room = count;
        continue;
      }
      const { count, flags } = pciHotResetInfo.decode(bytes, order);
      if (count > room) throw new RangeError(`${count} functions in an answer with room for ${room}`);
      return Array.from({ length: count }, (_, i) => {
        const entry = pciDependentDevice.decode(bytes.subarray(pciHotResetInfo.size + i * size), order);
        return { id: entry.groupId, byDeviceId: flags !== 0, address: pciAddress(entry) };
      });
    }
  }

  /** Resets the slot or bus; the groups prove that all of it is the caller's. */
  async hotReset(groups: readonly Group[]): Promise<void> {
    const order = this.transport.byteOrder;
    const bytes = new Uint8Array(pciHotReset.size + groups.length * 4);
    bytes.set(pciHotReset.encode({ argsz: bytes.length, count: groups.length }, order));
    const view = new DataView(bytes.buffer);
    for (const [i, group] of groups.entries()) view.setInt32(pciHotReset.size + i * 4, group.fd, order === 'little');
    await this.ioctl('VFIO_DEVICE_PCI_HOT_RESET', Request.DEVICE_PCI_HOT_RESET, bytes);
  }

  /** Asks about a plane of the display; `flags` are GfxPlaneType bits. */
  async queryGfxPlane(flags: number, drmPlaneType = 0): Promise<DeviceGfxPlaneInfo> {
    const order = this.transport.byteOrder;
    const bytes = deviceGfxPlaneInfo.encode({ argsz: deviceGfxPlaneInfo.size, flags, drmPlaneType }, order);
    await this.ioctl('VFIO_DEVICE_QUERY_GFX_PLANE', Request.DEVICE_QUERY_GFX_PLANE, bytes);
    return deviceGfxPlaneInfo.decode(bytes, order);
  }

  /** A descriptor of the buffer that a plane shows. */
  getGfxDmabuf(dmabufId: number): Promise<number> {
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setUint32(0, dmabufId, this.transport.byteOrder === 'little');
    return this.ioctl('VFIO_DEVICE_GET_GFX_DMABUF', Request.DEVICE_GET_GFX_DMABUF, bytes);
  }

  /** Has the kernel write a value to a region whenever an eventfd is signalled; undefined ends it. */
  async setIoeventfd(
    region: Region,
    offset: number,
    width: Width,
    value: bigint,
    eventfd: number | undefined,
  ): Promise<void> {
    const request = {
      argsz: deviceIoeventfd.size,
      flags: widthFlag[width],
      offset: region.offset + BigInt(offset),
      data: value,
      fd: eventfd ?? -1,
    };
    const bytes = deviceIoeventfd.encode(request, this.transport.byteOrder);
    await this.ioctl('VFIO_DEVICE_IOEVENTFD', Request.DEVICE_IOEVENTFD, bytes);
  }

  async readRegion(index: number, offset: number, length: number): Promise<Uint8Array> {
    return await (await this.region(index)).read(offset, length);
  }

  async writeRegion(index: number, offset: number, bytes: Uint8Array): Promise<number> {
    return await (await this.region(index)).write(offset, bytes);
  }

  async mapRegion(index: number, length: number): Promise<ClientMapping> {
    return await (await this.region(index)).mmap(0, length);
  }

  /** @throws VfioError ENOSPC - no place below the limit is free, as far as was looked */
  mapMemory(length: number, limit = 1n << 32n): Promise<DmaBuffer> {
    return bufferBelow(this.space, length, limit);
  }

  async setTriggers(index: number, eventfds: readonly (number | undefined)[]): Promise<void> {
    const irq = await this.irq(index);
    if (eventfds.length === 0) await irq.disable();
    else if ((await irq.setEventfds(eventfds)) > 0) {
      throw new VfioError('ENOSPC', 'fewer vectors than asked for', {
        syscall: 'VFIO_DEVICE_SET_IRQS',
        subject: this.name,
      });
    }
  }

  async mask(index: number): Promise<void> {
    await (await this.irq(index)).mask();
  }

  async unmask(index: number): Promise<void> {
    await (await this.irq(index)).unmask();
  }
}

function directionFlag(direction: 'get' | 'set'): number {
  return direction === 'get' ? FeatureFlag.GET : FeatureFlag.SET;
}

/** `0000:04:00.1` */
function pciAddress(entry: { segment: number; bus: number; devfn: number }): string {
  const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');
  return `${hex(entry.segment, 4)}:${hex(entry.bus, 2)}:${hex(entry.devfn >> 3, 2)}.${entry.devfn & 7}`;
}
