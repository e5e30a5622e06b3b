/** A machine with nothing but iommufd on it: IOMMU units, devices in groups, processes with /dev/iommu open. */
import {
  Device,
  type ErrnoCode,
  Host,
  type HostOptions,
  type IommuOptions,
  isSystemError,
  O,
  PAGE_SIZE,
  type ProbeOptions,
  type Process,
  Prot,
  type ReservedRegion,
  VirtualClock,
} from '@vfio/host';
import { expect } from 'vitest';
import type { IommufdContext } from '../../src/iommufd/context.js';
import { contextFromFd } from '../../src/iommufd/context-file.js';
import { Iommufd, type IommufdOptions } from '../../src/iommufd/iommufd.js';
import { iommufdModule } from '../../src/iommufd/module.js';
import {
  IommuHwptAllocFlag,
  IommuIoasMapFlag,
  iommuDestroy,
  iommuHwptAlloc,
  iommuIoasAlloc,
  iommuIoasAllowIovas,
  iommuIoasCopy,
  iommuIoasIovaRanges,
  iommuIoasMap,
  iommuIoasUnmap,
  iommuIovaRange,
  iommuOption,
  iommuVfioIoas,
} from '../../src/uapi/iommufd.js';
import type { Fields, InitOf, Struct, ValueOf } from '../../src/uapi/struct.js';
import { IommufdRequest } from '../../src/uapi/vfio.js';

export const P = BigInt(PAGE_SIZE);
export const U64_MAX = 2n ** 64n - 1n;
export const { FIXED_IOVA: FIXED, READABLE: R, WRITEABLE: W } = IommuIoasMapFlag;
export const RW = R | W;
export { IommuHwptAllocFlag };
/** The interrupt window of x86. */
export const MSI: ReservedRegion = { start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' };
/** Last byte of the aperture below. */
export const TOP = 2n ** 48n - 1n;

/** A unit as VT-d presents it. */
export const vtd: IommuOptions = {
  aperture: [0n, TOP],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  dirtyTracking: true,
  maxPasids: 1 << 20,
  reserved: [MSI],
};

export interface MachineOptions extends IommufdOptions {
  /** PASIDs of each device that says nothing else; 0 unless given. */
  readonly pasids?: number;
  readonly host?: HostOptions;
  readonly parameters?: Record<string, string>;
}

/** A process with a context. */
export class User {
  readonly process: Process;
  readonly fd: number;
  readonly context: IommufdContext;

  constructor(process: Process, fd: number, context: IommufdContext) {
    this.process = process;
    this.fd = fd;
    this.context = context;
  }

  get order() {
    return this.process.byteOrder;
  }

  /** Makes a request with a struct; the struct as it is after the call. */
  async request<F extends Fields>(request: number, layout: Struct<F>, value: InitOf<F>): Promise<ValueOf<F>> {
    const bytes = layout.encode(value, this.order);
    await this.process.ioctl(this.fd, request, bytes);
    return layout.decode(bytes, this.order);
  }

  async ioas(): Promise<number> {
    const { outIoasId } = await this.request(IommufdRequest.IOAS_ALLOC, iommuIoasAlloc, { size: 12 });
    return outIoasId;
  }

  async destroy(id: number): Promise<void> {
    await this.request(IommufdRequest.DESTROY, iommuDestroy, { size: 8, id });
  }

  /** Maps; the IOVA. */
  async map(ioasId: number, userVa: bigint, length: bigint, iova?: bigint, flags: number = RW): Promise<bigint> {
    const fixed = iova === undefined ? 0 : FIXED;
    const value = { size: 40, flags: flags | fixed, ioasId, userVa, length, iova: iova ?? 0n };
    return (await this.request(IommufdRequest.IOAS_MAP, iommuIoasMap, value)).iova;
  }

  /** Unmaps; the bytes that went. */
  async unmap(ioasId: number, iova = 0n, length = U64_MAX): Promise<bigint> {
    return (await this.request(IommufdRequest.IOAS_UNMAP, iommuIoasUnmap, { size: 24, ioasId, iova, length })).length;
  }

  async copy(dst: number, src: number, srcIova: bigint, length: bigint, dstIova?: bigint, flags: number = R) {
    const fixed = dstIova === undefined ? 0 : FIXED;
    const value = { size: 40, flags: flags | fixed, dstIoasId: dst, srcIoasId: src, length, srcIova };
    return (await this.request(IommufdRequest.IOAS_COPY, iommuIoasCopy, { ...value, dstIova: dstIova ?? 0n })).dstIova;
  }

  /** Usable ranges and alignment. */
  async ranges(ioasId: number, room = 8) {
    const at = this.anon(1);
    const value = { size: 32, ioasId, numIovas: room, allowedIovas: at };
    const out = await this.request(IommufdRequest.IOAS_IOVA_RANGES, iommuIoasIovaRanges, value);
    const list = Array.from({ length: out.numIovas }, (_, index) => {
      const bytes = this.process.mm.copyFrom(at + BigInt(index * 16), 16);
      const { start, last } = iommuIovaRange.decode(bytes, this.order);
      return [start, last];
    });
    return { list, alignment: out.outIovaAlignment };
  }

  async allow(ioasId: number, ranges: readonly (readonly [bigint, bigint])[]): Promise<void> {
    const at = this.anon(1);
    for (const [index, [start, last]] of ranges.entries()) {
      this.process.mm.copyTo(at + BigInt(index * 16), iommuIovaRange.encode({ start, last }, this.order));
    }
    const value = { size: 24, ioasId, numIovas: ranges.length, allowedIovas: at };
    await this.request(IommufdRequest.IOAS_ALLOW_IOVAS, iommuIoasAllowIovas, value);
  }

  async option(optionId: number, op: number, objectId = 0, val64 = 0n): Promise<bigint> {
    const value = { size: 24, optionId, op, objectId, val64 };
    return (await this.request(IommufdRequest.OPTION, iommuOption, value)).val64;
  }

  async vfioIoas(op: number, ioasId = 0): Promise<number> {
    return (await this.request(IommufdRequest.VFIO_IOAS, iommuVfioIoas, { size: 12, op, ioasId })).ioasId;
  }

  async hwpt(devId: number, ptId: number, flags = 0): Promise<number> {
    const value = { size: 48, devId, ptId, flags };
    return (await this.request(IommufdRequest.HWPT_ALLOC, iommuHwptAlloc, value)).outHwptId;
  }

  /** Anonymous memory. */
  anon(pages: number, prot = Prot.READ | Prot.WRITE): bigint {
    return this.process.mm.mmap({ length: pages * PAGE_SIZE, prot });
  }
}

/** The machine. */
export class Machine implements AsyncDisposable {
  readonly host: Host;
  readonly iommufd: Iommufd;
  readonly clock = new VirtualClock();
  readonly #pasids: number;
  readonly #devices: Device[] = [];
  readonly #processes: Process[] = [];

  private constructor(options: MachineOptions) {
    const { host, parameters: _, pasids = 0, ...switches } = options;
    this.#pasids = pasids;
    this.host = new Host({ checked: true, clock: this.clock, iommu: vtd, ...host });
    this.iommufd = new Iommufd(this.host, switches);
    this.host.modules.define(iommufdModule(this.iommufd));
  }

  static async start(options: MachineOptions = {}): Promise<Machine> {
    const machine = new Machine(options);
    await machine.host.modules.modprobe('iommufd', options.parameters ?? {});
    return machine;
  }

  /** A process with an open context; uid 0 unless said otherwise, opened by root for it. */
  async user(options: { uid?: number; byteOrder?: 'little' | 'big'; memlock?: bigint } = {}): Promise<User> {
    const { byteOrder = 'little' } = options;
    const process = this.host.spawn({ comm: 'user', byteOrder });
    this.#processes.push(process);
    const fd = await process.open('/dev/iommu', O.RDWR);
    if (options.memlock !== undefined) process.setrlimit('memlock', options.memlock);
    if (options.uid !== undefined) process.setuid(options.uid);
    const context = contextFromFd(process, fd);
    await context.put();
    return new User(process, fd, context);
  }

  /** A device in an IOMMU group. */
  async device(name = `dev${this.#devices.length}`, options: ProbeOptions = {}): Promise<Device> {
    const device = new Device({ name });
    this.host.devices.init(device);
    await this.host.devices.add(device);
    this.host.iommu.probeDevice(device, { pasids: { max: this.#pasids }, ...options });
    this.#devices.push(device);
    return device;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    for (const process of this.#processes) await process.exit(0);
    for (const device of this.#devices) {
      this.host.iommu.removeDevice(device);
      await this.host.devices.unregister(device);
    }
    await this.host[Symbol.asyncDispose]();
  }
}

/** Expects a failure with an errno. */
export async function fails(run: Promise<unknown>, code: ErrnoCode): Promise<void> {
  await expect(run).rejects.toMatchObject({ code });
}

/** The errno of a failure. */
export async function errnoOf(run: Promise<unknown>): Promise<ErrnoCode | undefined> {
  try {
    await run;
    return undefined;
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return error.code;
  }
}
