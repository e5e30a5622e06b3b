/*
 * A machine with functions that obey, bound to vfio-pci, and what a program does with them: descriptors, requests, bytes.
 */

import {
  allocDevice,
  deviceFeature,
  deviceInfo,
  Extension,
  FeatureFlag,
  pciDependentDevice,
  pciHotReset,
  pciHotResetInfo,
  putDevice,
  REGION_STRIDE,
  Request,
  regionInfo,
  Vfio,
  type VfioOptions,
} from '@vfio/core';
import { Host, type HostOptions, O, type Process, Prot, VirtualClock } from '@vfio/host';
import { expect } from 'vitest';
import { type PciBusType, pciInit } from '../../src/bus/bus-type.js';
import { getDrvdata, setDrvdata } from '../../src/bus/drvdata.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { PciDriver, registerDriver } from '../../src/bus/pci-driver.js';
import { CapId, Command, ExpType, ExtCapId, Reg, Sriov } from '../../src/bus/regs.js';
import { PciCoreDevice } from '../../src/core/core-device.js';
import { registerDevice, unregisterDevice } from '../../src/core/register.js';
import { defineVfioPci } from '../../src/driver.js';
import { acsCap, type FakeCap, type FakeFunction, type FakeOptions, rootOf } from '../bus/fake-function.js';
import { expCap, LabFunction, labBridge, labEndpoint, msixCap, pmCap, sriovCap } from '../bus/service-lab.js';

/** Config space, in the device file. */
export const CONFIG = 7;
export const ROM = 6;
export const VGA = 8;

/** Most tests have one function behind a root port. */
export const NAME = '0000:01:00.0';
export const OTHER = '0000:01:00.1';

/** A function with BARs of all kinds: memory, ports, and a small one. */
export function everyBar(options: FakeOptions = {}): LabFunction {
  return labEndpoint({
    bars: { 0: { size: 0x4000 }, 1: { size: 0x100, bits: 1 }, 2: { size: 0x100 }, 4: { size: 0x1_0000, bits: 12 } },
    caps: [expCap(ExpType.ENDPOINT, true), pmCap(), msixCap(8, 0)],
    ...options,
  });
}

/** A function that nothing can reset alone. */
export function stubborn(options: FakeOptions = {}): LabFunction {
  return labEndpoint({ caps: [expCap(ExpType.ENDPOINT, false), pmCap({ keeps: true })], ...options });
}

/** A physical function with so many virtual ones. */
export function physical(total = 4): LabFunction {
  const fn = labEndpoint({ extCaps: [sriovCap(total, 0x80, 2), acsCap] });
  for (let vf = 0; vf < total; vf++) {
    const caps = [expCap(ExpType.ENDPOINT, true)];
    fn.vfs.push(labEndpoint({ vendor: 0xffff, device: 0xffff, bars: {}, caps, extCaps: [acsCap] }));
  }
  return fn;
}

/** A root port that keeps what is behind it from going around the IOMMU. */
export function isolatingPort(behind: [number, FakeFunction][]): LabFunction {
  return new LabFunction({
    vendor: 0x1b36,
    device: 0x000c,
    classCode: 0x06_0400,
    pcie: true,
    caps: [expCap(ExpType.ROOT_PORT)],
    extCaps: [acsCap],
    behind: new Map(behind),
  });
}

/** What `lab` is made of. */
export interface CoreLabOptions {
  /** On the root bus, by devfn; without this, one function behind a root port. */
  readonly functions?: [number, FakeFunction][];
  /** Parameters of vfio-pci. */
  readonly params?: Readonly<Record<string, string>>;
  readonly vfio?: VfioOptions;
  /** Names that are bound at once. */
  readonly bind?: readonly string[];
  /** Modules are loaded. */
  readonly load?: boolean;
  /** The host is another's: its clock and scheduler. */
  readonly host?: HostOptions;
}

/** A machine for a test. */
export class CoreLab implements AsyncDisposable {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly bus: PciBusType;
  readonly root: Process;
  readonly clock: VirtualClock;

  private constructor(host: Host, clock: VirtualClock, vfio: Vfio, bus: PciBusType) {
    this.host = host;
    this.clock = clock;
    this.vfio = vfio;
    this.bus = bus;
    this.root = host.spawn({ comm: 'root' });
  }

  static async create(options: CoreLabOptions = {}): Promise<CoreLab> {
    const { functions = [[0x08, labBridge([[0, everyBar()]])]], params = {}, bind = [], load = true } = options;
    const clock = options.host?.clock instanceof VirtualClock ? options.host.clock : new VirtualClock();
    const host = new Host({
      checked: true,
      clock,
      iommu: { aperture: [0n, 2n ** 39n - 1n], pageSizes: 0x1000n, coherent: true, msiIsolated: true, reserved: [] },
      ...options.host,
    });
    const vfio = new Vfio(host, options.vfio);
    defineVfioPci(vfio);
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(new Map(functions)));
    if (load) {
      if (vfio.options.container) await host.modules.modprobe('vfio_iommu_type1');
      await host.modules.modprobe('vfio_pci', params);
    }
    const lab = new CoreLab(host, clock, vfio, bus);
    for (const name of bind) await lab.bind(name);
    return lab;
  }

  pdev(name = NAME): PciDev {
    const found = this.bus.findDevice(name);
    const pdev = found && this.bus.find(0, Number.parseInt(name.slice(5, 7), 16), devfnOf(name));
    if (!pdev) throw new Error(`there is no ${name}`);
    return pdev;
  }

  /** Gives a function to a driver. */
  async bind(name = NAME, driver = 'vfio-pci'): Promise<PciCoreDevice> {
    await this.root.writeFile(`/sys/bus/pci/devices/${name}/driver_override`, driver);
    await this.root.writeFile(`/sys/bus/pci/drivers/${driver}/bind`, name);
    return this.device(name);
  }

  async unbind(name = NAME): Promise<void> {
    await this.root.writeFile(`/sys/bus/pci/devices/${name}/driver/unbind`, name);
  }

  /** The device of a function that is bound. */
  device(name = NAME): PciCoreDevice {
    const device = getDrvdata(this.pdev(name));
    if (device instanceof PciCoreDevice) return device;
    throw new Error(`${name} is not bound`);
  }

  /** Opens a function through its group. */
  async open(name = NAME, options: { process?: Process; options?: string } = {}): Promise<OpenFunction> {
    const { process = this.host.spawn({ comm: 'program' }), options: text = '' } = options;
    const group = await process.open(`/dev/vfio/${this.pdev(name).iommuGroup?.id}`, O.RDWR);
    const container = await process.open('/dev/vfio/vfio', O.RDWR);
    await process.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
    await process.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const fd = await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, encode(`${name}${text}\0`));
    return new OpenFunction(process, fd, group, container);
  }

  /** One more function for a process whose container has one already. */
  async openBeside(first: OpenFunction, name: string): Promise<OpenFunction> {
    const { process, container } = first;
    const id = this.pdev(name).iommuGroup?.id;
    const same = this.pdev(NAME).iommuGroup?.id === id;
    const group = same ? first.group : await process.open(`/dev/vfio/${id}`, O.RDWR);
    if (!same) await process.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
    const fd = await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, encode(`${name}\0`));
    return new OpenFunction(process, fd, group, container);
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.host[Symbol.asyncDispose]();
  }
}

/** A vendor's device that adds nothing. */
export class PlainDevice extends PciCoreDevice {
  override readonly driverName: string = 'plain';
}

/** Another VFIO driver for PCI functions beside vfio-pci, in the same machine. */
export async function plainDriver(lab: CoreLab): Promise<PciDriver> {
  const driver = new PciDriver({
    name: 'plain',
    bus: lab.bus,
    managesDma: true,
    probe: async (pdev) => {
      const device = await allocDevice(lab.vfio, PlainDevice, pdev, pdev);
      setDrvdata(pdev, device);
      await registerDevice(device);
    },
    remove: async (pdev) => {
      const device = lab.device(pdev.name);
      await unregisterDevice(device);
      await putDevice(device);
    },
  });
  await registerDriver(driver);
  return driver;
}

/** An open function. */
export class OpenFunction {
  readonly process: Process;
  readonly fd: number;
  readonly group: number;
  readonly container: number;

  constructor(process: Process, fd: number, group: number, container: number) {
    this.process = process;
    this.fd = fd;
    this.group = group;
    this.container = container;
  }

  async ioctl(request: number, argument: Uint8Array | number = 0): Promise<number> {
    return await this.process.ioctl(this.fd, request, argument);
  }

  async info(argsz = deviceInfo.size) {
    const bytes = new Uint8Array(Math.max(argsz, deviceInfo.size));
    bytes.set(deviceInfo.encode({ argsz }, 'little'));
    await this.ioctl(Request.DEVICE_GET_INFO, bytes);
    return { ...deviceInfo.decode(bytes, 'little'), bytes };
  }

  async region(index: number, argsz = 128) {
    const bytes = new Uint8Array(Math.max(argsz, regionInfo.size));
    bytes.set(regionInfo.encode({ argsz, index }, 'little'));
    await this.ioctl(Request.DEVICE_GET_REGION_INFO, bytes);
    return { ...regionInfo.decode(bytes, 'little'), bytes };
  }

  async read(index: number, offset: number, length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const count = await this.process.pread(this.fd, bytes, index * REGION_STRIDE + offset);
    return bytes.subarray(0, count);
  }

  async write(index: number, offset: number, bytes: readonly number[]): Promise<number> {
    return await this.process.pwrite(this.fd, Uint8Array.from(bytes), index * REGION_STRIDE + offset);
  }

  /** Writes the command register. */
  command(value: number): Promise<number> {
    return this.write(CONFIG, Reg.COMMAND, [value & 0xff, value >> 8]);
  }

  enableMemory(): Promise<number> {
    return this.command(Command.MEMORY | Command.IO);
  }

  async mmap(index: number, offset: number, length: number, shared = true): Promise<bigint> {
    const prot = Prot.READ | Prot.WRITE;
    return await this.process.mmap(this.fd, { offset: index * REGION_STRIDE + offset, length, prot, shared });
  }

  async feature(flags: number, data: readonly number[] = []): Promise<number> {
    const bytes = new Uint8Array(deviceFeature.size + data.length);
    bytes.set(deviceFeature.encode({ argsz: bytes.length, flags }, 'little'));
    bytes.set(data, deviceFeature.size);
    return await this.ioctl(Request.DEVICE_FEATURE, bytes);
  }

  setFeature(feature: number, data: readonly number[] = []): Promise<number> {
    return this.feature(feature | FeatureFlag.SET, data);
  }

  reset(): Promise<number> {
    return this.ioctl(Request.DEVICE_RESET);
  }

  /** @param room - entries that there is room for */
  async hotResetInfo(room: number, argsz = pciHotResetInfo.size + room * pciDependentDevice.size) {
    const bytes = new Uint8Array(Math.max(argsz, 12));
    bytes.set(pciHotResetInfo.encode({ argsz }, 'little'));
    let failed: unknown;
    try {
      await this.ioctl(Request.DEVICE_GET_PCI_HOT_RESET_INFO, bytes);
    } catch (error) {
      failed = error;
    }
    const { flags, count } = pciHotResetInfo.decode(bytes, 'little');
    const { size } = pciDependentDevice;
    const devices = Array.from({ length: failed ? 0 : count }, (_, at) =>
      pciDependentDevice.decode(bytes.subarray(12 + at * size, 12 + (at + 1) * size), 'little'),
    );
    return { flags, count, devices, failed };
  }

  async hotReset(groups: readonly number[], flags = 0, argsz?: number): Promise<number> {
    const bytes = new Uint8Array(pciHotReset.size + 4 * groups.length);
    bytes.set(pciHotReset.encode({ argsz: argsz ?? bytes.length, flags, count: groups.length }, 'little'));
    for (const [at, fd] of groups.entries()) bytes.set(int32(fd), 12 + 4 * at);
    return await this.ioctl(Request.DEVICE_PCI_HOT_RESET, bytes);
  }

  /** Closes what was opened, device first. */
  async close(): Promise<void> {
    for (const fd of [this.fd, this.group, this.container]) {
      if (this.process.files.has(fd)) await this.process.close(fd);
    }
  }
}

/** What an error with an errno looks like. */
export const errno = (code: string): object => expect.objectContaining({ code });

/** A function's own capability of SR-IOV, for tests that look at its registers. */
export function numVfs(fn: LabFunction): number {
  return fn.readConfig(fn.extCap(ExtCapId.SRIOV) + Sriov.NUM_VF, 2);
}

/** Power state as the function has it. */
export function pmState(fn: LabFunction): number {
  return fn.readConfig(fn.cap(CapId.PM) + 4, 2) & 3;
}

export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

export function encode(text: string): Uint8Array {
  return new TextEncoder().encode(text);
}

function devfnOf(name: string): number {
  return (Number.parseInt(name.slice(8, 10), 16) << 3) | Number.parseInt(name.slice(11), 16);
}

export { type FakeCap, LabFunction, labBridge, labEndpoint };
