// A machine to measure on: a bus with devices behind an IOMMU, and a driver that has nothing to do.

import {
  allocDevice,
  groupStatus,
  putDevice,
  Request,
  registerGroupDev,
  unregisterGroupDev,
  Vfio,
  VfioDevice,
} from '@vfio/core';
import { Bus, Device, Driver, Host, type IommuOptions, O, type Process } from '@vfio/host';

const iommu: IommuOptions = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [],
};

/** A device without a single operation of its own. */
class IdleDevice extends VfioDevice {
  override readonly driverName = 'bench';
}

/** Descriptors of an open device. */
export interface OpenPath {
  readonly container: number;
  readonly group: number;
  readonly device: number;
}

/** A host with VFIO, a parent device in an IOMMU group, and root's process. */
export interface Lab extends AsyncDisposable {
  readonly host: Host;
  readonly process: Process;
  /** A registered device on the parent. */
  register(): Promise<VfioDevice>;
  unregister(device: VfioDevice): Promise<void>;
  /** Container, group and device, as every program opens them. */
  open(): Promise<OpenPath>;
  close(path: OpenPath): Promise<void>;
}

const parentName = 'bench0';
const type1v2 = 3;

/** Brings a machine up. */
export async function createLab(checked: boolean): Promise<Lab> {
  const host = new Host({ checked, iommu });
  const vfio = new Vfio(host);
  await host.modules.modprobe('vfio_iommu_type1');
  const bus = new Bus({ name: 'bench', match: () => true });
  await host.devices.busRegister(bus);
  const driver = await loadDriver(host, bus);
  const parent = new Device({ name: parentName, bus });
  await host.devices.register(parent);
  host.iommu.probeDevice(parent);
  if (parent.driver !== driver) throw new Error('the parent was not bound');
  const process = host.spawn({ comm: 'bench' });
  return {
    host,
    process,
    async register() {
      const device = await allocDevice(vfio, IdleDevice, parent, undefined);
      await registerGroupDev(device);
      return device;
    },
    async unregister(device) {
      await unregisterGroupDev(device);
      await putDevice(device);
    },
    open: () => openPath(process, parent),
    async close(path) {
      for (const fd of [path.device, path.group, path.container]) await process.close(fd);
    },
    async [Symbol.asyncDispose]() {
      await process.exit(0);
      host.iommu.removeDevice(parent);
      await host.devices.unregister(parent);
      await host.modules.rmmod('bench');
      await host.devices.busUnregister(bus);
      await host[Symbol.asyncDispose]();
    },
  };
}

async function loadDriver(host: Host, bus: Bus): Promise<Driver> {
  let driver: Driver | undefined;
  host.modules.define({
    name: 'bench',
    depends: ['vfio'],
    async init({ module, undo }) {
      const registered = new Driver({ name: 'bench', bus, module, managesDma: true });
      await host.devices.driverRegister(registered);
      undo.add(() => host.devices.driverUnregister(registered));
      driver = registered;
    },
  });
  await host.modules.modprobe('bench');
  if (!driver) throw new Error('the driver was not registered');
  return driver;
}

async function openPath(process: Process, parent: Device): Promise<OpenPath> {
  const container = await process.open('/dev/vfio/vfio', O.RDWR);
  const group = await process.open(`/dev/vfio/${parent.iommuGroup?.id}`, O.RDWR);
  const status = groupStatus.encode({ argsz: groupStatus.size }, process.byteOrder);
  await process.ioctl(group, Request.GROUP_GET_STATUS, status);
  await process.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
  await process.ioctl(container, Request.SET_IOMMU, type1v2);
  const name = new TextEncoder().encode(`${parent.name}\0`);
  return { container, group, device: await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, name) };
}

function int32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
