// A machine with model devices on it, for tests of the client and of the conformance suite.

import {
  allocDevice,
  putDevice,
  registerEmulatedIommuDev,
  registerGroupDev,
  unregisterGroupDev,
  Vfio,
} from '@vfio/core';
import { Bus, Device, Driver, DriverData, Host, type HostOptions, Undo, VirtualClock } from '@vfio/host';
import { ProcessTransport, VfioClient } from '../src/index.js';
import { ModelDevice, type ModelOptions, modelDefaults } from './model-device.js';

const iommu = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
} as const;

/** What a lab is made with, beside what its devices are. */
export interface LabOptions extends Partial<ModelOptions> {
  /** How many devices there are: `model0`, `model1`, ... Default: 1. */
  readonly devices?: number;
  /** All of them in one IOMMU group. */
  readonly oneGroup?: boolean;
  readonly host?: HostOptions;
  /** CONFIG_IOMMUFD_DRIVER. */
  readonly iovaBitmap?: boolean;
  /** Class of the devices. */
  readonly Model?: typeof ModelDevice;
}

/** A machine for a test. */
export interface Lab extends AsyncDisposable {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly clock: VirtualClock;
  /** A client in a process of root. */
  readonly client: VfioClient;
  /** The device behind an address. */
  model(address?: string): ModelDevice;
  /** Takes a device from its driver, as an administrator does. */
  unbind(address?: string): Promise<number>;
  bind(address?: string): Promise<number>;
}

/** Makes a machine. */
export async function createLab(options: LabOptions = {}): Promise<Lab> {
  const {
    devices = 1,
    oneGroup = false,
    host: hostOptions,
    iovaBitmap = true,
    Model = ModelDevice,
    ...model
  } = options;
  const made: ModelOptions = { ...modelDefaults, ...model };
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, iommu, ...hostOptions });
  const vfio = new Vfio(host, { iovaBitmap });
  const bus = new Bus({ name: 'model' });
  await host.devices.busRegister(bus);
  host.atShutdown(() => host.devices.busUnregister(bus));
  const data = new DriverData<ModelDevice>();
  host.modules.define({
    name: 'model',
    depends: ['vfio', 'vfio_iommu_type1'],
    init: async ({ module, undo }) => {
      const driver = new Driver({
        name: 'model',
        bus,
        module,
        managesDma: true,
        async probe(dev) {
          await using failed = new Undo();
          const device = await allocDevice(vfio, Model, dev, made);
          failed.add(() => putDevice(device));
          await (made.emulated ? registerEmulatedIommuDev(device) : registerGroupDev(device));
          failed.keep();
          data.set(dev, device);
        },
        async remove(dev) {
          const device = data.get(dev);
          await unregisterGroupDev(device);
          await putDevice(device);
        },
      });
      await host.devices.driverRegister(driver);
      undo.add(() => host.devices.driverUnregister(driver));
    },
  });
  const parents = new Map<string, Device>();
  for (let i = 0; i < devices; i++) {
    const dev = new Device({ name: `model${i}`, bus });
    host.devices.init(dev);
    await host.devices.add(dev);
    const group = oneGroup ? parents.get('model0')?.iommuGroup : undefined;
    if (!made.emulated) host.iommu.probeDevice(dev, group ? { group } : {});
    host.atShutdown(async () => {
      if (dev.iommuGroup) host.iommu.removeDevice(dev);
      await host.devices.unregister(dev);
    });
    parents.set(dev.name, dev);
  }
  await host.modules.modprobe('model');
  const parent = (address: string): Device => {
    const dev = parents.get(address);
    if (!dev) throw new RangeError(`no device ${address}`);
    return dev;
  };
  return {
    host,
    vfio,
    clock,
    client: new VfioClient(new ProcessTransport(host.spawn({ comm: 'client' }))),
    model: (address = 'model0') => data.get(parent(address)),
    unbind: (address = 'model0') => host.init.writeFile('/sys/bus/model/drivers/model/unbind', address),
    bind: (address = 'model0') => host.init.writeFile('/sys/bus/model/drivers/model/bind', address),
    [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
  };
}

/** What a failed request looks like. */
export interface Failure {
  readonly code: string;
  readonly errno: number;
  readonly syscall: string;
  readonly subject: string;
  readonly message: string;
}

/** What a promise was rejected with. */
export async function failureOf(promise: Promise<unknown>): Promise<Failure> {
  try {
    await promise;
  } catch (error) {
    return error as Failure;
  }
  throw new Error('it did not fail');
}
