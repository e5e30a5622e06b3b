/**
 * A machine with nothing but type1 on it: IOMMU units, devices in groups, processes, and containers reduced to a file that
 * hands its requests to a backend. The real container adds ownership and life cycle, which are tested with it.
 */
import {
  Device,
  File,
  Host,
  type HostOptions,
  type IoctlCall,
  type IommuGroup,
  type IommuOptions,
  type IommuUnit,
  O,
  PAGE_SIZE,
  type Process,
  Prot,
  type ReservedRegion,
} from '@vfio/host';
import { expect } from 'vitest';
import type { DmaUnmapListener, IommuBackend, IommuDriver } from '../../src/iommu-driver.js';
import { type1Module } from '../../src/iommu-type1/index.js';
import {
  bitmap as bitmapStruct,
  DirtyPagesFlag,
  DmaMapFlag,
  DmaUnmapFlag,
  Extension,
  infoCapHeader,
  iommuType1DirtyBitmap,
  iommuType1DirtyBitmapGet,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  iommuType1Info,
  iovaRange,
  Request,
} from '../../src/uapi/vfio.js';

export const P = BigInt(PAGE_SIZE);
/** Read and write, for MAP_DMA. */
export const RW = DmaMapFlag.READ | DmaMapFlag.WRITE;
export const U64_MAX = 2n ** 64n - 1n;
/** The interrupt window of x86. */
export const MSI: ReservedRegion = { start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' };

/** A unit as VT-d presents it. */
export const vtd: IommuOptions = {
  aperture: [0n, 2n ** 48n - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [MSI],
};

export interface MachineOptions {
  readonly host?: HostOptions;
  /** Parameters of the module. */
  readonly parameters?: Record<string, string>;
}

export class Machine implements AsyncDisposable {
  readonly host: Host;
  readonly #drivers: IommuDriver[] = [];
  readonly #devices: Device[] = [];
  readonly #containers: Container[] = [];

  private constructor(host: Host) {
    this.host = host;
  }

  static async create(options: MachineOptions = {}): Promise<Machine> {
    const host = new Host({ checked: true, iommu: vtd, ...options.host });
    const machine = new Machine(host);
    host.modules.define({ name: 'vfio', init() {} });
    host.modules.define(
      type1Module({
        host,
        async registerIommuDriver(driver) {
          machine.#drivers.unshift(driver);
        },
        async unregisterIommuDriver(driver) {
          machine.#drivers.splice(machine.#drivers.indexOf(driver), 1);
        },
      }),
    );
    await host.modules.modprobe('vfio_iommu_type1', options.parameters);
    return machine;
  }

  get driver(): IommuDriver {
    return this.#drivers[0]!;
  }

  /** A device behind hardware, in a group of its own that VFIO owns. */
  async hardware(
    name: string,
    options: { unit?: IommuUnit; reserved?: readonly ReservedRegion[]; group?: IommuGroup } = {},
  ): Promise<IommuGroup> {
    const device = await this.#add(name);
    const group = this.host.iommu.probeDevice(device, options);
    if (!options.group) group.claimDmaOwner(this);
    return group;
  }

  /** A group made for a device that no hardware stands behind. */
  async emulated(name: string): Promise<IommuGroup> {
    const device = await this.#add(name);
    const group = this.host.iommu.allocGroup('vfio-noiommu');
    this.host.iommu.addDevice(group, device);
    group.put();
    return group;
  }

  async #add(name: string): Promise<Device> {
    const device = new Device({ name });
    this.host.devices.init(device);
    await this.host.devices.add(device);
    this.#devices.push(device);
    return device;
  }

  /** What SET_CONTAINER and SET_IOMMU would leave behind. */
  async container(groups: readonly IommuGroup[], kind: number = Extension.TYPE1v2_IOMMU): Promise<Container> {
    const container = new Container(this, this.driver.open(kind, this.host.init));
    this.#containers.push(container);
    for (const group of groups) await container.attach(group);
    return container;
  }

  /** Writes a module parameter as root does. */
  setParameter(name: string, text: string): Promise<number> {
    return Promise.resolve(this.host.init.writeFile(`/sys/module/vfio_iommu_type1/parameters/${name}`, text));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const container of this.#containers) await container.close();
    for (const device of this.#devices) {
      if (device.iommuGroup?.dmaOwnerClaimed()) device.iommuGroup.releaseDmaOwner();
      this.host.iommu.removeDevice(device);
      await this.host.devices.del(device);
      device.put();
    }
    // throws when anything leaked
    await this.host[Symbol.asyncDispose]();
  }
}

class ContainerFile extends File {
  readonly #backend: IommuBackend;

  constructor(backend: IommuBackend) {
    super({ flags: O.RDWR, label: '/dev/vfio/vfio', seek: 'none' });
    this.#backend = backend;
  }

  override async ioctl(call: IoctlCall): Promise<number> {
    return await this.#backend.ioctl(call);
  }
}

export class Container {
  readonly machine: Machine;
  readonly backend: Required<IommuBackend>;
  readonly #groups: IommuGroup[] = [];
  readonly #listeners: DmaUnmapListener[] = [];
  #closed = false;

  constructor(machine: Machine, backend: IommuBackend) {
    this.machine = machine;
    this.backend = backend as Required<IommuBackend>;
  }

  async attach(group: IommuGroup): Promise<void> {
    await this.backend.attachGroup(group, group.name === undefined ? 'iommu' : 'emulated-iommu');
    this.#groups.push(group);
  }

  async detach(group: IommuGroup): Promise<void> {
    await this.backend.detachGroup(group);
    this.#groups.splice(this.#groups.indexOf(group), 1);
  }

  /** An open device that hears of unmaps. */
  async listen(device: DmaUnmapListener = { dmaUnmap() {} }): Promise<DmaUnmapListener> {
    await this.backend.registerDevice(device);
    this.#listeners.push(device);
    return device;
  }

  async unlisten(device: DmaUnmapListener): Promise<void> {
    await this.backend.unregisterDevice(device);
    this.#listeners.splice(this.#listeners.indexOf(device), 1);
  }

  /** A process with the container open. */
  user(process: Process = this.machine.host.spawn({ comm: 'user' })): User {
    return new User(process, process.files.add(new ContainerFile(this.backend)));
  }

  async close(): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    for (const listener of [...this.#listeners]) await this.unlisten(listener);
    for (const group of [...this.#groups]) await this.detach(group);
    await this.backend.release();
  }
}

/** What a user passes for a dirty bitmap. */
export interface BitmapArgs {
  readonly pgsize?: bigint;
  readonly size?: bigint;
  readonly data: bigint;
}

/** The answer of GET_INFO, taken apart. */
export interface Info {
  readonly argsz: number;
  readonly flags: number;
  readonly iovaPgsizes: bigint;
  readonly capOffset: number;
  /** Capability ids and where they are, in the order of the chain. */
  readonly chain: { readonly id: number; readonly at: number }[];
  readonly avail: number | undefined;
  readonly windows: { readonly start: bigint; readonly end: bigint }[] | undefined;
  readonly bytes: Uint8Array;
}

export class User {
  readonly process: Process;
  readonly fd: number;

  constructor(process: Process, fd: number) {
    this.process = process;
    this.fd = fd;
  }

  /** Anonymous memory of `pages` pages. */
  anon(pages: number, prot: number = Prot.READ | Prot.WRITE): bigint {
    return this.process.mm.mmap({ length: pages * PAGE_SIZE, prot });
  }

  get lockedVm(): number {
    return this.process.mm.lockedVm;
  }

  async map(
    iova: bigint,
    vaddr: bigint,
    size: bigint,
    flags: number = RW,
    argsz: number = iommuType1DmaMap.size,
  ): Promise<number> {
    const bytes = iommuType1DmaMap.encode({ argsz, flags, vaddr, iova, size }, this.process.byteOrder);
    return await this.process.ioctl(this.fd, Request.IOMMU_MAP_DMA, bytes);
  }

  /** @returns bytes unmapped */
  async unmap(iova: bigint, size: bigint, flags = 0, bitmap?: BitmapArgs): Promise<bigint> {
    const bytes = this.unmapArgs(iova, size, flags, bitmap);
    await this.process.ioctl(this.fd, Request.IOMMU_UNMAP_DMA, bytes);
    return iommuType1DmaUnmap.decode(bytes, this.process.byteOrder).size;
  }

  unmapArgs(iova: bigint, size: bigint, flags = 0, bitmap?: BitmapArgs): Uint8Array {
    const order = this.process.byteOrder;
    if (!bitmap) return iommuType1DmaUnmap.encode({ argsz: iommuType1DmaUnmap.size, flags, iova, size }, order);
    const argsz = iommuType1DmaUnmap.size + bitmapStruct.size;
    const bytes = new Uint8Array(argsz);
    const dirty = flags | DmaUnmapFlag.GET_DIRTY_BITMAP;
    bytes.set(iommuType1DmaUnmap.encode({ argsz, flags: dirty, iova, size }, order));
    bytes.set(bitmapStruct.encode(withDefaults(bitmap, size), order), iommuType1DmaUnmap.size);
    return bytes;
  }

  /** @returns bytes unmapped */
  async unmapAll(): Promise<bigint> {
    return await this.unmap(0n, 0n, DmaUnmapFlag.ALL);
  }

  async dirty(flags: number, argsz: number = iommuType1DirtyBitmap.size): Promise<number> {
    const bytes = iommuType1DirtyBitmap.encode({ argsz, flags }, this.process.byteOrder);
    return await this.process.ioctl(this.fd, Request.IOMMU_DIRTY_PAGES, bytes);
  }

  async startTracking(): Promise<void> {
    await this.dirty(DirtyPagesFlag.START);
  }

  async getBitmap(iova: bigint, size: bigint, bitmap: BitmapArgs, argsz = 48): Promise<number> {
    const order = this.process.byteOrder;
    const bytes = new Uint8Array(iommuType1DirtyBitmap.size + iommuType1DirtyBitmapGet.size);
    bytes.set(iommuType1DirtyBitmap.encode({ argsz, flags: DirtyPagesFlag.GET_BITMAP }, order));
    const get = iommuType1DirtyBitmapGet.encode({ iova, size, bitmap: withDefaults(bitmap, size) }, order);
    bytes.set(get, iommuType1DirtyBitmap.size);
    return await this.process.ioctl(this.fd, Request.IOMMU_DIRTY_PAGES, bytes);
  }

  /** The pages of a range that are dirty, counted from its start; reported into fresh memory. */
  async dirtyPages(iova: bigint, size: bigint): Promise<number[]> {
    const length = Number((size / P + 63n) / 64n) * 8;
    const data = this.anon(Math.ceil(length / PAGE_SIZE));
    await this.getBitmap(iova, size, { data });
    const bits = bitsOf(this.process.mm.copyFrom(data, length));
    this.process.mm.munmap(data, Math.ceil(length / PAGE_SIZE) * PAGE_SIZE);
    return bits;
  }

  async info(argsz = 4096): Promise<Info> {
    const order = this.process.byteOrder;
    const bytes = new Uint8Array(4096);
    bytes.set(iommuType1Info.encode({ argsz }, order));
    await this.process.ioctl(this.fd, Request.IOMMU_GET_INFO, bytes);
    const view = new DataView(bytes.buffer);
    const little = order === 'little';
    const info = iommuType1Info.decode(bytes, order);
    const chain: { id: number; at: number }[] = [];
    for (let at = info.capOffset; at !== 0; ) {
      const { id, next } = infoCapHeader.decode(bytes.subarray(at), order);
      chain.push({ id, at });
      at = next;
    }
    const avail = chain.find(({ id }) => id === 3);
    const ranges = chain.find(({ id }) => id === 1);
    return {
      ...info,
      chain,
      avail: avail && view.getUint32(avail.at + 8, little),
      windows: ranges && iovaRange.decodeArray(bytes, order, ranges.at + 16, view.getUint32(ranges.at + 8, little)),
      bytes,
    };
  }
}

function withDefaults({ pgsize = P, size, data }: BitmapArgs, range: bigint) {
  return { pgsize, data, size: size ?? ((range / P + 63n) / 64n) * 8n };
}

/** The bits of a little-endian bitmap that are set. */
export function bitsOf(bytes: Uint8Array): number[] {
  const bits: number[] = [];
  for (const [at, byte] of bytes.entries()) {
    for (let bit = 0; bit < 8; bit++) if (byte & (1 << bit)) bits.push(at * 8 + bit);
  }
  return bits;
}

/** The numbers from `first` on, `count` of them. */
export function range(first: number, count: number): number[] {
  return Array.from({ length: count }, (_, i) => first + i);
}

export const error = {
  EACCES: fails('EACCES'),
  EBUSY: fails('EBUSY'),
  EEXIST: fails('EEXIST'),
  EFAULT: fails('EFAULT'),
  EINVAL: fails('EINVAL'),
  ENODEV: fails('ENODEV'),
  ENOENT: fails('ENOENT'),
  ENOMEM: fails('ENOMEM'),
  ENOSPC: fails('ENOSPC'),
  ENOTTY: fails('ENOTTY'),
  EOVERFLOW: fails('EOVERFLOW'),
  EPERM: fails('EPERM'),
};

function fails(code: string): { code: string } {
  return expect.objectContaining({ code });
}
