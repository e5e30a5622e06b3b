// A machine with model devices on it, for tests of the client and of the conformance suite.

import { type IommufdOptions, isVfioError, Vfio } from '@vfio/core';
import { type FaultStep, Host, type HostOptions, VirtualClock } from '@vfio/host';
import { expect } from 'vitest';
import { type Device, ProcessTransport, VfioClient } from '../src/index.js';
import { ModelBus, type ModelBusOptions } from './model-bus.js';
import type { ModelDevice } from './model-device.js';

const iommu = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
} as const;

/** What a lab is made with, beside what its devices are. */
export interface LabOptions extends ModelBusOptions {
  /** How many devices there are: `model0`, `model1`, ... Default: 1. */
  readonly devices?: number;
  /** All of them in one IOMMU group. */
  readonly oneGroup?: boolean;
  readonly host?: HostOptions;
  /** CONFIG_IOMMUFD and CONFIG_VFIO_DEVICE_CDEV; an object says what the hardware can do. */
  readonly iommufd?: boolean | IommufdOptions;
  /** CONFIG_VFIO_NOIOMMU, with its parameter on. */
  readonly noiommu?: boolean;
  /** CONFIG_IOMMUFD_DRIVER. */
  readonly iovaBitmap?: boolean;
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
  const { devices = 1, oneGroup = false, host: hostOptions, iovaBitmap = true, ...others } = options;
  const { iommufd = false, noiommu = false, ...model } = others;
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, iommu, ...hostOptions });
  const vfio = new Vfio(host, { iovaBitmap, iommufd, deviceCdev: iommufd !== false, noiommu });
  const bus = new ModelBus(host, vfio, model);
  bus.define();
  await bus.addBus();
  for (let i = 0; i < devices; i++) {
    await bus.addDevice(`model${i}`, i > 0 && oneGroup ? bus.parent('model0').iommuGroup : undefined);
  }
  if (noiommu) await host.modules.modprobe('vfio', { enable_unsafe_noiommu_mode: '1' });
  await host.modules.modprobe('model');
  return {
    host,
    vfio,
    clock,
    client: new VfioClient(new ProcessTransport(host.spawn({ comm: 'client' }))),
    model: (address = 'model0') => bus.model(address),
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

/**
 * Opens `model0` and closes it again, once for each step of the kernel that can fail and with that step failing. After
 * the first open, which leaves for good the domain that a group is blocked with, nothing may be left.
 *
 * @returns how many steps there are
 */
export async function failEveryStep(
  create: () => Promise<Lab>,
  open: (client: VfioClient) => Promise<Device>,
): Promise<number> {
  let steps: readonly FaultStep[] = [];
  for (let failAt = -1; failAt < steps.length; failAt++) {
    await using lab = await create();
    const { faults, tracker } = lab.host;
    const process = lab.host.spawn();
    const client = new VfioClient(new ProcessTransport(process));
    await (await open(client)).close();
    const alive = tracker.leaks().length;
    const recording = faults.record();
    const arm = failAt < 0 ? undefined : faults.failAt(failAt);
    const failure: unknown = await open(client).then(
      (device) => device.close(),
      (reason: unknown) => reason,
    );
    recording.stop();
    if (failAt < 0) steps = recording.steps;
    const step = steps[failAt];
    expect(arm?.step).toBe(step?.name);
    expect(failure === undefined || isVfioError(failure, step?.code)).toBe(true);
    expect([process.files.descriptors(), lab.model().openCount], step?.name).toEqual([[], 0]);
    expect(tracker.leaks().slice(alive), step?.name).toEqual([]);
  }
  return steps.length;
}
