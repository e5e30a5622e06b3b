/* A host with module mtty, and its cards as a program sees them: descriptors, requests, bytes. */
import {
  deviceFeature,
  deviceFeatureMigState,
  deviceInfo,
  Extension,
  Feature,
  FeatureFlag,
  type IrqInfo,
  IrqSetFlag,
  irqInfo,
  irqSet,
  type MigState,
  precopyInfo,
  type RegionInfo,
  Request,
  regionInfo,
  Vfio,
  type VfioOptions,
} from '@vfio/core';
import { Host, type HostOptions, O, type Process, VirtualClock } from '@vfio/host';
import { defineMtty, type MttyOptions } from '../src/index.js';

export const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
export const OTHER_UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002';

export type CardType = 'mtty-1' | 'mtty-2';

/** What an error with an errno looks like. */
export interface Failure {
  readonly code: string;
}

export interface LabOptions {
  readonly host?: HostOptions;
  readonly vfio?: VfioOptions;
  readonly mtty?: MttyOptions;
}

/** A machine for a test. */
export class Lab implements AsyncDisposable {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly root: Process;
  readonly clock: VirtualClock;

  private constructor(host: Host, vfio: Vfio, clock: VirtualClock) {
    this.host = host;
    this.vfio = vfio;
    this.clock = clock;
    this.root = host.spawn({ comm: 'root' });
  }

  static async create(options: LabOptions = {}): Promise<Lab> {
    const clock = new VirtualClock();
    const host = new Host({ checked: true, clock, ...options.host });
    const vfio = new Vfio(host, options.vfio);
    defineMtty(vfio, options.mtty);
    await host.modules.modprobe('vfio_iommu_type1');
    await host.modules.modprobe('mtty');
    return new Lab(host, vfio, clock);
  }

  typePath(type: CardType): string {
    return `/sys/class/mdev_bus/mtty/mdev_supported_types/${type}`;
  }

  create(uuid = UUID, type: CardType = 'mtty-1'): Promise<number> {
    return this.root.writeFile(`${this.typePath(type)}/create`, uuid);
  }

  remove(uuid = UUID): Promise<number> {
    return this.root.writeFile(`/sys/bus/mdev/devices/${uuid}/remove`, '1');
  }

  /** What both types show as available. */
  async available(): Promise<[single: number, dual: number]> {
    const show = async (type: CardType) =>
      Number(await this.root.readFile(`${this.typePath(type)}/available_instances`));
    return [await show('mtty-1'), await show('mtty-2')];
  }

  names(path: string): string[] {
    return this.root
      .readdir(path)
      .map(({ name }) => name)
      .sort();
  }

  /** Creates a card and opens it. */
  async card(type: CardType = 'mtty-1', uuid = UUID): Promise<Card> {
    await this.create(uuid, type);
    return await this.open(uuid);
  }

  /** Opens a card through its group and a type1 container. */
  async open(uuid = UUID, by: Process = this.root): Promise<Card> {
    const link = by.readlink(`/sys/bus/mdev/devices/${uuid}/iommu_group`);
    const group = await by.open(`/dev/vfio/${link.slice(link.lastIndexOf('/') + 1)}`, O.RDWR);
    const container = await by.open('/dev/vfio/vfio', O.RDWR);
    await by.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container, by));
    await by.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    return new Card(by, uuid, group, container, await deviceFd(by, group, uuid));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.host[Symbol.asyncDispose]();
  }
}

/** An open card. */
export class Card {
  readonly process: Process;
  readonly uuid: string;
  readonly group: number;
  readonly container: number;
  fd: number;

  constructor(process: Process, uuid: string, group: number, container: number, fd: number) {
    this.process = process;
    this.uuid = uuid;
    this.group = group;
    this.container = container;
    this.fd = fd;
  }

  /** One more descriptor of the device. */
  again(): Promise<number> {
    return deviceFd(this.process, this.group, this.uuid);
  }

  async reopen(): Promise<void> {
    await this.process.close(this.fd);
    this.fd = await this.again();
  }

  async close(): Promise<void> {
    for (const fd of [this.fd, this.group, this.container]) await this.process.close(fd);
  }

  async read(region: number, offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length).fill(0xcc);
    const count = await this.process.pread(this.fd, bytes, region * 2 ** 40 + offset);
    return bytes.subarray(0, count);
  }

  async write(region: number, offset: number, ...bytes: number[]): Promise<number> {
    return await this.process.pwrite(this.fd, Uint8Array.from(bytes), region * 2 ** 40 + offset);
  }

  /** A register of a port. */
  async in(register: number, port = 0): Promise<number> {
    return (await this.read(port, register, 1))[0]!;
  }

  async out(register: number, value: number, port = 0): Promise<void> {
    await this.write(port, register, value);
  }

  ioctl(request: number, argument: Uint8Array | number = 0): Promise<number> {
    return this.process.ioctl(this.fd, request, argument);
  }

  async info(argsz = 24): Promise<{ flags: number; numRegions: number; numIrqs: number; capOffset: number }> {
    const bytes = deviceInfo.encode({ argsz, flags: 0xffff_ffff, capOffset: 0x55 }, this.process.byteOrder);
    await this.ioctl(Request.DEVICE_GET_INFO, bytes);
    return deviceInfo.decode(bytes, this.process.byteOrder);
  }

  async region(index: number, argsz = 32): Promise<RegionInfo> {
    const bytes = regionInfo.encode({ argsz, index }, this.process.byteOrder);
    await this.ioctl(Request.DEVICE_GET_REGION_INFO, bytes);
    return regionInfo.decode(bytes, this.process.byteOrder);
  }

  async irq(index: number, argsz = 16): Promise<IrqInfo> {
    const bytes = irqInfo.encode({ argsz, index }, this.process.byteOrder);
    await this.ioctl(Request.DEVICE_GET_IRQ_INFO, bytes);
    return irqInfo.decode(bytes, this.process.byteOrder);
  }

  /** SET_IRQS of one interrupt. */
  async setIrqs(
    index: number,
    flags: number,
    options: { start?: number; count?: number; data?: Uint8Array; argsz?: number } = {},
  ): Promise<number> {
    const { start = 0, count = 1, data = new Uint8Array(0) } = options;
    const argsz = options.argsz ?? irqSet.size + data.length;
    const head = irqSet.encode({ argsz, flags, index, start, count }, this.process.byteOrder);
    return await this.ioctl(Request.DEVICE_SET_IRQS, Uint8Array.of(...head, ...data));
  }

  /** Connects an eventfd, or disconnects with a negative number. */
  connect(index: number, eventfd: number): Promise<number> {
    const data = int32(eventfd, this.process);
    return this.setIrqs(index, IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER, { data });
  }

  unmask(): Promise<number> {
    return this.setIrqs(0, IrqSetFlag.DATA_NONE | IrqSetFlag.ACTION_UNMASK);
  }

  eventfd(): number {
    return this.process.eventfd(0, { nonblock: true });
  }

  /** Takes what an eventfd has counted. */
  async signals(eventfd: number): Promise<number> {
    const bytes = new Uint8Array(8);
    try {
      await this.process.read(eventfd, bytes);
    } catch (error) {
      if ((error as Failure).code === 'EAGAIN') return 0;
      throw error;
    }
    return Number(new DataView(bytes.buffer).getBigUint64(0, this.process.byteOrder === 'little'));
  }

  /** A feature with its data; answers with the data. */
  async feature(flags: number, data: Uint8Array = new Uint8Array(0)): Promise<Uint8Array> {
    const argsz = deviceFeature.size + data.length;
    const bytes = Uint8Array.of(...deviceFeature.encode({ argsz, flags }, this.process.byteOrder), ...data);
    await this.ioctl(Request.DEVICE_FEATURE, bytes);
    return bytes.subarray(deviceFeature.size);
  }

  /** Moves to a migration state; answers with the descriptor of the data file, or -1. */
  async setState(deviceState: MigState | number): Promise<number> {
    const { byteOrder } = this.process;
    const data = deviceFeatureMigState.encode({ deviceState, dataFd: 0x7777 }, byteOrder);
    const answer = await this.feature(Feature.MIG_DEVICE_STATE | FeatureFlag.SET, data);
    return deviceFeatureMigState.decode(answer, byteOrder).dataFd;
  }

  async state(): Promise<{ deviceState: number; dataFd: number }> {
    const data = new Uint8Array(deviceFeatureMigState.size);
    const answer = await this.feature(Feature.MIG_DEVICE_STATE | FeatureFlag.GET, data);
    return deviceFeatureMigState.decode(answer, this.process.byteOrder);
  }

  async readStream(fd: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    return bytes.subarray(0, await this.process.read(fd, bytes));
  }

  async writeStream(fd: number, bytes: Uint8Array): Promise<number> {
    return await this.process.write(fd, bytes);
  }

  async precopy(
    fd: number,
    options: { argsz?: number; flags?: number } = {},
  ): Promise<{ flags: number; initialBytes: bigint; dirtyBytes: bigint }> {
    const { argsz = precopyInfo.size, flags = 0xff } = options;
    const bytes = precopyInfo.encode({ argsz, flags, dirtyBytes: 7n }, this.process.byteOrder);
    await this.process.ioctl(fd, Request.MIG_GET_PRECOPY_INFO, bytes);
    return precopyInfo.decode(bytes, this.process.byteOrder);
  }
}

export function int32(value: number, process: Process): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, process.byteOrder === 'little');
  return bytes;
}

/** Resolves when all that can happen without waiting for anything has happened. */
export function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

function deviceFd(process: Process, group: number, uuid: string): Promise<number> {
  return process.ioctl(group, Request.GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${uuid}\0`));
}
