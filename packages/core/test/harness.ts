// A host with VFIO and a bus of test devices, for the tests of the core.

import {
  Bus,
  Device,
  Driver,
  Host,
  type HostOptions,
  type IoctlCall,
  type IommuGroup,
  O,
  type Process,
  Undo,
  VirtualClock,
} from '@vfio/host';
import { beforeEach, expect } from 'vitest';
import {
  allocDevice,
  groupStatus,
  putDevice,
  type RegionInfo,
  Request,
  registerEmulatedIommuDev,
  registerGroupDev,
  unregisterGroupDev,
  Vfio,
  VfioDevice,
  VfioError,
  type VfioOptions,
} from '../src/index.js';

/** What happened, in order. */
export type Journal = string[];

export interface TestDeviceOptions {
  readonly journal?: Journal;
  /** Names of operations that fail, with the errno. */
  readonly fail?: Partial<Record<'init' | 'openDevice', 'EIO' | 'ENOMEM' | 'EBUSY'>>;
}

/** A device that writes down what is asked of it. */
export class TestDevice extends VfioDevice {
  readonly journal: Journal;
  readonly options: TestDeviceOptions;

  constructor(options: TestDeviceOptions = {}) {
    super();
    this.options = options;
    this.journal = options.journal ?? [];
  }

  #step(name: 'init' | 'openDevice' | 'closeDevice'): void {
    this.journal.push(name);
    const code = name === 'closeDevice' ? undefined : this.options.fail?.[name];
    if (code) throw new VfioError(code, `${name} was told to fail`);
  }

  override init(): void {
    this.#step('init');
  }

  override release(): void {
    this.journal.push('release');
  }

  override openDevice(): void {
    this.#step('openDevice');
  }

  override closeDevice(): void {
    this.#step('closeDevice');
  }

  override ioctl(call: IoctlCall): number {
    throw new VfioError('ENOTTY', `no request ${call.request}`);
  }

  override getRegionInfoCaps(info: RegionInfo): void {
    if (info.index > 0) throw new VfioError('EINVAL', 'one region');
    info.flags = 3;
    info.size = 16n;
    info.offset = 0n;
  }
}

/** A machine for a test. */
export interface TestBench extends AsyncDisposable {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly clock: VirtualClock;
  readonly bus: Bus;
  readonly driver: Driver;
  /** Root's process. */
  readonly process: Process;
  /** A parent device, bound to the test driver, in an IOMMU group of its own unless one is given; `null`: in none. */
  addParent(name: string, group?: IommuGroup | null): Promise<Device>;
  /** Group and container of a registered device, opened by `process`. */
  openGroup(device: VfioDevice, by?: Process): Promise<number>;
  openContainer(by?: Process): Promise<number>;
  setContainer(group: number, container: number, by?: Process): Promise<void>;
  getDeviceFd(group: number, name: string, by?: Process): Promise<number>;
  status(group: number): Promise<number>;
}

export interface BenchOptions extends VfioOptions {
  readonly host?: HostOptions;
  /** Load type1; yes unless said otherwise. */
  readonly type1?: boolean;
  readonly parameters?: Record<string, string>;
  /** PASIDs of each device; its IOMMU has enough. */
  readonly pasids?: number;
}

export const iommu = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
} as const;

/** Makes a machine with module vfio loaded. */
export async function bench(options: BenchOptions = {}): Promise<TestBench> {
  const { host: hostOptions, type1 = true, parameters = {}, pasids = 0, ...switches } = options;
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, iommu: { ...iommu, maxPasids: 1 << 20 }, ...hostOptions });
  const vfio = new Vfio(host, switches);
  await host.modules.modprobe('vfio', parameters);
  if (type1) await host.modules.modprobe('vfio_iommu_type1');
  let driver: Driver | undefined;
  const bus = new Bus({ name: 'test', match: (_, drv) => drv === driver });
  await host.devices.busRegister(bus);
  host.modules.define({
    name: 'test_driver',
    depends: ['vfio'],
    init: async (context) => {
      driver = new Driver({ name: 'test-driver', bus, module: context.module, managesDma: true });
      const registered = driver;
      await host.devices.driverRegister(registered);
      context.undo.add(() => host.devices.driverUnregister(registered));
    },
  });
  await host.modules.modprobe('test_driver');
  if (!driver) throw new Error('the driver was not made');
  const parents: Device[] = [];
  const process = host.spawn({ comm: 'test' });
  return {
    host,
    vfio,
    clock,
    bus,
    driver,
    process,
    async addParent(name, group) {
      const dev = new Device({ name, bus });
      await using undo = new Undo();
      host.devices.init(dev);
      undo.add(() => dev.put());
      await host.devices.add(dev);
      undo.add(() => host.devices.del(dev));
      const place = { pasids: { max: pasids }, ...(group ? { group } : {}) };
      if (group !== null) host.iommu.probeDevice(dev, place);
      undo.keep();
      parents.push(dev);
      return dev;
    },
    openGroup: (device, by = process) => by.open(`/dev/vfio/${device.group?.name}`, O.RDWR),
    openContainer: (by = process) => by.open('/dev/vfio/vfio', O.RDWR),
    async setContainer(group, container, by = process) {
      const bytes = new Uint8Array(4);
      new DataView(bytes.buffer).setInt32(0, container, true);
      await by.ioctl(group, Request.GROUP_SET_CONTAINER, bytes);
    },
    getDeviceFd: (group, name, by = process) =>
      by.ioctl(group, Request.GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${name}\0`)),
    async status(group) {
      const bytes = groupStatus.encode({ argsz: groupStatus.size }, 'little');
      await process.ioctl(group, Request.GROUP_GET_STATUS, bytes);
      return groupStatus.decode(bytes, 'little').flags;
    },
    async [Symbol.asyncDispose]() {
      await process.exit(0);
      for (const dev of parents) {
        host.iommu.removeDevice(dev);
        await host.devices.unregister(dev);
      }
      await host.modules.rmmod('test_driver');
      await host.devices.busUnregister(bus);
      await host[Symbol.asyncDispose]();
    },
  };
}

/**
 * Makes a machine before each test of a file and ends it after the test, when all `afterEach` have run.
 *
 * @param take - gets the machine, and may prepare it
 */
export function benchForEach(take: (on: TestBench) => void | Promise<void>, options?: BenchOptions): void {
  beforeEach(async () => {
    const on = await bench(options);
    await take(on);
    return () => on[Symbol.asyncDispose]();
  });
}

/** Matches an error with that errno. */
export function code(name: string) {
  return expect.objectContaining({ code: name });
}

/** Whether a promise is still pending after everybody else had a turn. */
export async function pending(promise: Promise<unknown>): Promise<boolean> {
  let settled = false;
  const done = () => {
    settled = true;
  };
  promise.then(done, done);
  for (let i = 0; i < 5; i++) await new Promise((resolve) => setImmediate(resolve));
  return !settled;
}

/** A registered device and what undoes it. */
export interface Registered<D extends VfioDevice> extends AsyncDisposable {
  readonly device: D;
  readonly parent: Device;
}

/** Allocates and registers a test device on a parent of that name. */
export async function register(
  on: TestBench,
  name: string,
  options: TestDeviceOptions & { kind?: 'iommu' | 'emulated'; parent?: Device; group?: IommuGroup } = {},
): Promise<Registered<TestDevice>> {
  const { kind = 'iommu', group } = options;
  const parent = options.parent ?? (await on.addParent(name, kind === 'emulated' ? null : group));
  const device = await allocDevice(on.vfio, TestDevice, parent, options);
  await (kind === 'iommu' ? registerGroupDev(device) : registerEmulatedIommuDev(device));
  return {
    device,
    parent,
    async [Symbol.asyncDispose]() {
      await unregisterGroupDev(device);
      await putDevice(device);
    },
  };
}

/** An open path to a device: group, container with an IOMMU, device. */
export interface OpenPath {
  readonly group: number;
  readonly container: number;
  readonly device: number;
}

/** Opens a device as every program does. */
export async function openPath(on: TestBench, device: VfioDevice, kind = 3, by = on.process): Promise<OpenPath> {
  const container = await on.openContainer(by);
  const group = await on.openGroup(device, by);
  await on.setContainer(group, container, by);
  await by.ioctl(container, Request.SET_IOMMU, kind);
  const fd = await on.getDeviceFd(group, device.dev.name, by);
  return { group, container, device: fd };
}

/** Closes an open path: device, group, container. */
export async function closePath(on: TestBench, path: OpenPath, by = on.process): Promise<void> {
  for (const fd of [path.device, path.group, path.container]) await by.close(fd);
}
