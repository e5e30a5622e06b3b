// A machine to measure on: a bus with devices behind an IOMMU, and a driver that has nothing to do.

import {
  allocDevice,
  groupStatus,
  type IommufdContext,
  iommufdPhysicalAttachIoas,
  iommufdPhysicalBind,
  iommufdPhysicalDetachIoas,
  iommufdPhysicalUnbind,
  putDevice,
  Request,
  registerEmulatedIommuDev,
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

/** A device without a single operation of its own but those that iommufd asks of everybody. */
export class IdleDevice extends VfioDevice {
  override readonly driverName = 'bench';

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
}

/** A device that pins pages of its user, who gives them back before what is mapped goes. */
class PinningDevice extends IdleDevice {
  override dmaUnmap(): void {}
}

/** What a lab is made with. */
export interface LabOptions {
  readonly checked: boolean;
  /** What stands behind the group: a container, or an iommufd in its place. */
  readonly behind?: 'container' | 'iommufd';
  /** The parent sits behind no IOMMU, and reaches memory by pinning. */
  readonly emulated?: boolean;
  /** Mappings that a container may have. */
  readonly mappings?: number;
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
  readonly vfio: Vfio;
  readonly bus: Bus;
  readonly parent: Device;
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
export async function createLab(options: LabOptions): Promise<Lab> {
  const { checked, emulated = false, behind = 'container', mappings } = options;
  const host = new Host({ checked, iommu });
  const vfio = new Vfio(host, { iommufd: behind === 'iommufd', deviceCdev: behind === 'iommufd' });
  await host.modules.modprobe('vfio_iommu_type1', mappings ? { dma_entry_limit: String(mappings) } : {});
  const bus = new Bus({ name: 'bench', match: (dev) => dev.name === parentName });
  await host.devices.busRegister(bus);
  const driver = await loadDriver(host, bus);
  const parent = new Device({ name: parentName, bus });
  await host.devices.register(parent);
  if (!emulated) host.iommu.probeDevice(parent);
  if (parent.driver !== driver) throw new Error('the parent was not bound');
  const process = host.spawn({ comm: 'bench' });
  return {
    host,
    vfio,
    bus,
    parent,
    process,
    async register() {
      const device = await allocDevice(vfio, emulated ? PinningDevice : IdleDevice, parent, undefined);
      await (emulated ? registerEmulatedIommuDev : registerGroupDev)(device);
      return device;
    },
    async unregister(device) {
      await unregisterGroupDev(device);
      await putDevice(device);
    },
    open: () => openPath(process, parent, behind),
    async close(path) {
      for (const fd of [path.device, path.group, path.container]) await process.close(fd);
    },
    async [Symbol.asyncDispose]() {
      await process.exit(0);
      if (!emulated) host.iommu.removeDevice(parent);
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

async function openPath(
  process: Process,
  parent: Device,
  behind: NonNullable<LabOptions['behind']>,
): Promise<OpenPath> {
  const container = await process.open(behind === 'iommufd' ? '/dev/iommu' : '/dev/vfio/vfio', O.RDWR);
  const group = await process.open(`/dev/vfio/${parent.iommuGroup?.id}`, O.RDWR);
  const status = groupStatus.encode({ argsz: groupStatus.size }, process.byteOrder);
  await process.ioctl(group, Request.GROUP_GET_STATUS, status);
  await process.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
  if (behind === 'container') await process.ioctl(container, Request.SET_IOMMU, type1v2);
  const name = new TextEncoder().encode(`${parent.name}\0`);
  return { container, group, device: await process.ioctl(group, Request.GROUP_GET_DEVICE_FD, name) };
}

function int32(value: number): Uint8Array {
  const bytes = Buffer.alloc(4);
  bytes.writeInt32LE(value);
  return bytes;
}
