// What iommufd and device nodes answer is the core's business, whoever drives the device: the recorded scripts are played on
// a model of a function that says of itself what the recorded one did.

import { fileURLToPath } from 'node:url';
import {
  allocDevice,
  DeviceInfoFlag,
  deviceInfo,
  type IommufdContext,
  iommufdPhysicalAttachIoas,
  iommufdPhysicalBind,
  iommufdPhysicalDetachIoas,
  iommufdPhysicalPasidAttachIoas,
  iommufdPhysicalPasidDetachIoas,
  iommufdPhysicalUnbind,
  putDevice,
  Request,
  registerGroupDev,
  unregisterGroupDev,
  Vfio,
  VfioDevice,
  VfioError,
} from '@vfio/core';
import { Bus, Device, Driver, DriverData, Host, type IoctlCall, type UserBuffer, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type ReplayMachine, replayFile } from '../src/replay/replay.js';
import { formatReplay } from '../src/replay/report.js';

const scripts = fileURLToPath(new URL('../../../transcripts/scripts/iommufd/', import.meta.url));
/** VT-d without scalable mode. */
const iommu = {
  aperture: [0n, 2n ** 48n - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  maxPasids: 0,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
} as const;
/** The config space that the recorded function shows. */
const config = Buffer.from(
  '3412e811030110001000ff00000000000000a0fe000000000000000000000000000000000000000000000000f41a00110000000040000000000000000b010000',
  'hex',
);

class ModelFunction extends VfioDevice {
  override async ioctl(call: IoctlCall): Promise<number> {
    if (call.request !== Request.DEVICE_GET_INFO) throw new VfioError('ENOTTY', 'not asked for by the scripts');
    const info = { argsz: 24, flags: DeviceInfoFlag.PCI, numRegions: 9, numIrqs: 5 };
    call.copyOut(deviceInfo.encode(info, call.order));
    return 0;
  }
  override read({ bytes }: UserBuffer): number {
    bytes.set(config.subarray(0, bytes.length));
    return bytes.length;
  }
  override matchTokenUuid(): void {}
  override bindIommufd(context: IommufdContext): Promise<number> {
    return iommufdPhysicalBind(this, context);
  }
  override unbindIommufd(): Promise<void> {
    return iommufdPhysicalUnbind(this);
  }
  override attachIoas(ptId: number): Promise<number> {
    return iommufdPhysicalAttachIoas(this, ptId);
  }
  override detachIoas(): Promise<void> {
    return iommufdPhysicalDetachIoas(this);
  }
  override pasidAttachIoas(pasid: number, ptId: number): Promise<number> {
    return iommufdPhysicalPasidAttachIoas(this, pasid, ptId);
  }
  override pasidDetachIoas(pasid: number): Promise<void> {
    return iommufdPhysicalPasidDetachIoas(this, pasid);
  }
}

/** A machine with two functions, 00:01.0 and 00:02.0, in groups 0 and 1, and a driver that takes what it is told to. */
async function createMachine(): Promise<ReplayMachine> {
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, iommu });
  const vfio = new Vfio(host, { iommufd: true, deviceCdev: true });
  const match = (dev: Device, drv: Driver) => dev.driverOverride === drv.name;
  const bus = new Bus({ name: 'pci', driverOverride: true, match });
  await host.devices.busRegister(bus);
  const root = new Device({ name: 'pci0000:00' });
  await host.devices.register(root);
  const functions: Device[] = [];
  for (const name of ['0000:00:01.0', '0000:00:02.0']) {
    const dev = new Device({ name, bus, parent: root });
    await host.devices.register(dev);
    host.iommu.probeDevice(dev);
    functions.push(dev);
  }
  const data = new DriverData<ModelFunction>();
  const probe = async (dev: Device) => {
    const device = await allocDevice(vfio, ModelFunction, dev, undefined);
    await registerGroupDev(device);
    data.set(dev, device);
  };
  const remove = async (dev: Device) => {
    const device = data.get(dev);
    await unregisterGroupDev(device);
    await putDevice(device);
  };
  host.modules.define({
    name: 'vfio-pci',
    depends: ['vfio'],
    async init({ module, undo }) {
      const driver = new Driver({ name: 'vfio-pci', bus, module, managesDma: true, probe, remove });
      await host.devices.driverRegister(driver);
      undo.add(() => host.devices.driverUnregister(driver));
    },
  });
  for (const name of ['iommufd', 'vfio_iommu_type1', 'vfio-pci']) await host.modules.modprobe(name);
  host.atShutdown(async () => {
    for (const dev of functions.reverse()) {
      host.iommu.removeDevice(dev);
      await host.devices.unregister(dev);
    }
    await host.devices.unregister(root);
    await host.devices.busUnregister(bus);
  });
  const process = host.spawn({ comm: 'vfioscript' });
  return { process, clock, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
}

describe('Linux 7.2', () => {
  it.each(['iofd-cdev.vfs', 'iofd-compat.vfs', 'iofd-ioas.vfs'])('answers %s as this core does', async (name) => {
    const result = await replayFile(`${scripts}${name}`, { createMachine });
    expect(result.ok, formatReplay(result)).toBe(true);
    expect(result.same).toBe(result.steps);
  });
});
