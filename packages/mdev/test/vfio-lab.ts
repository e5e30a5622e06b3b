/* Mediated devices with a VFIO device on them, and programs that use them. */
import {
  allocDevice,
  Extension,
  putDevice,
  Request,
  registerEmulatedIommuDev,
  unregisterGroupDev,
  Vfio,
  VfioDevice,
  VfioError,
} from '@vfio/core';
import { DriverData, O, type Process } from '@vfio/host';
import type { MdevDevice, MdevDriverOptions } from '../src/index.js';
import { createLab, type Lab } from './lab.js';

/** What happened, in order. */
export type Journal = string[];

interface TestOptions {
  readonly journal: Journal;
  /** Fails init with this. */
  readonly initFails?: 'ENOSPC';
}

/** A VFIO device that writes down what is asked of it. It can not pin. */
export class TestDevice extends VfioDevice {
  readonly journal: Journal;
  readonly options: TestOptions;

  constructor(options: TestOptions) {
    super();
    this.options = options;
    this.journal = options.journal;
  }

  override init(): void {
    this.journal.push('init');
    const code = this.options.initFails;
    if (code) throw new VfioError(code, 'init was told to fail');
  }

  override release(): void {
    this.journal.push('release');
  }

  override openDevice(): void {
    this.journal.push('open');
  }

  override closeDevice(): void {
    this.journal.push('close');
  }
}

/** A VFIO device that may pin, and is told when what it pinned goes away. */
export class PinningDevice extends TestDevice {
  override dmaUnmap(iova: bigint, length: bigint): void {
    this.journal.push(`unmap 0x${iova.toString(16)}+0x${length.toString(16)}`);
  }
}

/** A lab with VFIO and type1. */
export interface VfioLab extends Lab {
  readonly vfio: Vfio;
  readonly journal: Journal;
  /** Operations of a driver whose devices are of this class. */
  driver(Type?: typeof TestDevice, options?: Partial<TestOptions>): Partial<MdevDriverOptions>;
  vfioDevice(mdev: MdevDevice): TestDevice;
  /** Opens the device's group and puts it into a container, a new one unless one is given. */
  openGroup(uuid: string, container?: number, by?: Process): Promise<{ group: number; container: number }>;
  getDeviceFd(group: number, name: string, by?: Process): Promise<number>;
}

export const iommu = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
} as const;

export async function createVfioLab(): Promise<VfioLab> {
  const lab = await createLab({ iommu });
  const vfio = new Vfio(lab.host);
  await lab.host.modules.modprobe('vfio');
  await lab.host.modules.modprobe('vfio_iommu_type1');
  const journal: Journal = [];
  const devices = new DriverData<TestDevice>();
  return {
    ...lab,
    vfio,
    journal,
    driver: (Type = TestDevice, options = {}) => ({
      async probe(mdev) {
        const device = await allocDevice(vfio, Type, mdev, { journal, ...options });
        try {
          await registerEmulatedIommuDev(device);
        } catch (error) {
          await putDevice(device);
          throw error;
        }
        devices.set(mdev, device);
      },
      async remove(mdev) {
        journal.push('remove');
        const device = devices.get(mdev);
        await unregisterGroupDev(device);
        journal.push('no users');
        await putDevice(device);
      },
    }),
    vfioDevice: (mdev) => devices.get(mdev),
    async openGroup(uuid, into, by = lab.root) {
      const link = by.readlink(`/sys/bus/mdev/devices/${uuid}/iommu_group`);
      const group = await by.open(`/dev/vfio/${link.slice(link.lastIndexOf('/') + 1)}`, O.RDWR);
      const container = into ?? (await by.open('/dev/vfio/vfio', O.RDWR));
      await by.ioctl(group, Request.GROUP_SET_CONTAINER, int32(container));
      if (into === undefined) await by.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
      return { group, container };
    },
    getDeviceFd: (group, name, by = lab.root) => by.ioctl(group, Request.GROUP_GET_DEVICE_FD, cString(name)),
  };
}

export function int32(value: number): Uint8Array {
  const bytes = new Uint8Array(4);
  new DataView(bytes.buffer).setInt32(0, value, true);
  return bytes;
}

function cString(text: string): Uint8Array {
  return new TextEncoder().encode(`${text}\0`);
}
