/* A host with the displays, and each of them as a program sees it: descriptors, requests, bytes. */
import {
  type DeviceGfxPlaneInfo,
  deviceGfxPlaneInfo,
  Extension,
  type IrqInfo,
  irqInfo,
  type RegionInfo,
  Request,
  regionInfo,
  Vfio,
} from '@vfio/core';
import { Host, type HostOptions, O, type Process, Prot, VirtualClock } from '@vfio/host';
import { defineMbochs, defineMdpy } from '../src/index.js';
import { int32, UUID } from './lab.js';

export interface DisplayOptions {
  /** Parameter `count` of the module. */
  readonly count?: number;
  readonly host?: HostOptions;
}

/** A machine with one of the modules. */
export class DisplayLab implements AsyncDisposable {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly root: Process;
  readonly module: 'mdpy' | 'mbochs';

  private constructor(host: Host, vfio: Vfio, module: 'mdpy' | 'mbochs') {
    this.host = host;
    this.vfio = vfio;
    this.module = module;
    this.root = host.spawn({ comm: 'root' });
  }

  static async create(module: 'mdpy' | 'mbochs', options: DisplayOptions = {}): Promise<DisplayLab> {
    const host = new Host({ checked: true, clock: new VirtualClock(), ...options.host });
    const vfio = new Vfio(host, { debugfs: false });
    if (module === 'mdpy') defineMdpy(vfio);
    else defineMbochs(vfio);
    await host.modules.modprobe('vfio_iommu_type1');
    await host.modules.modprobe(module, options.count === undefined ? {} : { count: String(options.count) });
    return new DisplayLab(host, vfio, module);
  }

  typePath(type: string): string {
    return `/sys/class/mdev_bus/${this.module}/mdev_supported_types/${this.module}-${type}`;
  }

  async show(type: string, file: string): Promise<string> {
    return (await this.root.readFile(`${this.typePath(type)}/${file}`)).replace(/\n$/, '');
  }

  /** What types show as available. */
  async available(...types: string[]): Promise<number[]> {
    return await Promise.all(types.map(async (type) => Number(await this.show(type, 'available_instances'))));
  }

  create(type: string, uuid = UUID): Promise<number> {
    return this.root.writeFile(`${this.typePath(type)}/create`, uuid);
  }

  remove(uuid = UUID): Promise<number> {
    return this.root.writeFile(`/sys/bus/mdev/devices/${uuid}/remove`, '1');
  }

  /** Page frames of mbochs video memory that somebody holds. */
  videoPages(): number {
    return this.host.tracker.leaks().filter(({ what }) => what.includes('mbochs video memory')).length;
  }

  /** Creates a display and opens it. */
  async display(type: string, uuid = UUID): Promise<Display> {
    await this.create(type, uuid);
    return await this.open(uuid);
  }

  async open(uuid = UUID): Promise<Display> {
    const by = this.root;
    const link = by.readlink(`/sys/bus/mdev/devices/${uuid}/iommu_group`);
    const group = await by.open(`/dev/vfio/${link.slice(link.lastIndexOf('/') + 1)}`, O.RDWR);
    const container = await by.open('/dev/vfio/vfio', O.RDWR);
    await by.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container, by));
    await by.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const display = new Display(by, uuid, group, container);
    await display.open();
    return display;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.host[Symbol.asyncDispose]();
  }
}

/** An open display. */
export class Display {
  readonly process: Process;
  readonly uuid: string;
  readonly group: number;
  readonly container: number;
  fd = -1;

  constructor(process: Process, uuid: string, group: number, container: number) {
    this.process = process;
    this.uuid = uuid;
    this.group = group;
    this.container = container;
  }

  async open(): Promise<number> {
    this.fd = await this.again();
    return this.fd;
  }

  /** One more descriptor. */
  again(): Promise<number> {
    return this.process.ioctl(this.group, Request.GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${this.uuid}\0`));
  }

  async reopen(): Promise<void> {
    await this.process.close(this.fd);
    await this.open();
  }

  async close(): Promise<void> {
    for (const fd of [this.fd, this.group, this.container]) await this.process.close(fd);
  }

  async read(position: number, length: number): Promise<number[]> {
    const bytes = new Uint8Array(length).fill(0xcc);
    const count = await this.process.pread(this.fd, bytes, position);
    return [...bytes.subarray(0, count)];
  }

  /** Little-endian value of 1, 2 or 4 bytes. */
  async load(position: number, width: number): Promise<number> {
    return (await this.read(position, width)).reduceRight((value, byte) => value * 256 + byte, 0);
  }

  async write(position: number, ...bytes: number[]): Promise<number> {
    return await this.process.pwrite(this.fd, Uint8Array.from(bytes), position);
  }

  async store(position: number, width: number, value: number): Promise<number> {
    return await this.write(
      position,
      ...Array.from({ length: width }, (_, i) => Math.floor(value / 2 ** (8 * i)) % 256),
    );
  }

  mmap(offset: number, length: number, shared = true): Promise<bigint> {
    return this.process.mmap(this.fd, { offset, length, prot: Prot.READ | Prot.WRITE, shared });
  }

  peek(address: bigint, offset = 0, size: 1 | 2 | 4 | 8 = 4): number {
    return Number(this.process.mm.load(address + BigInt(offset), size));
  }

  poke(address: bigint, offset: number, value: number): void {
    this.process.mm.store(address + BigInt(offset), 4, BigInt(value));
  }

  async ioctl(request: number, argument: Uint8Array | number = 0): Promise<number> {
    return await this.process.ioctl(this.fd, request, argument);
  }

  async region(index: number): Promise<RegionInfo> {
    const bytes = regionInfo.encode({ argsz: regionInfo.size, index }, this.process.byteOrder);
    await this.ioctl(Request.DEVICE_GET_REGION_INFO, bytes);
    return regionInfo.decode(bytes, this.process.byteOrder);
  }

  async irq(index: number, flags = 0): Promise<IrqInfo> {
    const bytes = irqInfo.encode({ argsz: irqInfo.size, index, flags, count: 9 }, this.process.byteOrder);
    await this.ioctl(Request.DEVICE_GET_IRQ_INFO, bytes);
    return irqInfo.decode(bytes, this.process.byteOrder);
  }

  /** The argument of a plane query, all of it set to something. */
  async plane(flags: number, drmPlaneType = 1, argsz = 64): Promise<DeviceGfxPlaneInfo> {
    const { byteOrder } = this.process;
    const noise = { drmFormat: 5, drmFormatMod: 6n, width: 7, height: 8, stride: 9, size: 10, reserved: 77 };
    const spots = { xPos: 11, yPos: 12, xHot: 13, yHot: 14, regionIndex: 15 };
    const bytes = deviceGfxPlaneInfo.encode({ argsz, flags, drmPlaneType, ...noise, ...spots }, byteOrder);
    await this.ioctl(Request.DEVICE_QUERY_GFX_PLANE, bytes);
    return deviceGfxPlaneInfo.decode(bytes, byteOrder);
  }

  async dmabuf(id: number): Promise<number> {
    return await this.ioctl(Request.DEVICE_GET_GFX_DMABUF, int32(id, this.process));
  }
}
