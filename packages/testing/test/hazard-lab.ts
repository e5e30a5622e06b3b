// A machine with a bus on it, to be built once for each order of events that an exploration tries.

import { putDevice, Request, unregisterGroupDev, Vfio, VfioDevice } from '@vfio/core';
import { Bus, Device, Driver, Host, type IommuGroup, O, type Process, Undo } from '@vfio/host';
import type { ExplorerSeams } from '../src/explorer.js';

const iommu = {
  aperture: [0n, (1n << 48n) - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [],
} as const;

/** A device that lets others pass in the middle of each of its operations, and writes down when they begin. */
export class SlowDevice extends VfioDevice {
  readonly journal: string[] = [];

  async #step(name: string): Promise<void> {
    this.journal.push(name);
    await this.vfio.host.scheduler.switchPoint(name);
  }

  override openDevice(): Promise<void> {
    return this.#step('open');
  }

  override closeDevice(): Promise<void> {
    return this.#step('close');
  }
}

/** A machine for one run. Checked: its end throws if anything is left. */
export class HazardLab implements AsyncDisposable {
  readonly host: Host;
  readonly vfio: Vfio;
  readonly process: Process;
  readonly #bus = new Bus({ name: 'lab', match: () => true });
  readonly #driver = new Driver({ name: 'lab', bus: this.#bus, managesDma: true });
  readonly #parents: Device[] = [];

  private constructor(seams: ExplorerSeams) {
    this.host = new Host({ checked: true, iommu, ...seams });
    this.vfio = new Vfio(this.host);
    this.process = this.host.spawn({ comm: 'user' });
  }

  static async create(seams: ExplorerSeams): Promise<HazardLab> {
    const lab = new HazardLab(seams);
    await lab.host.modules.modprobe('vfio_iommu_type1');
    await lab.host.devices.busRegister(lab.#bus);
    await lab.host.devices.driverRegister(lab.#driver);
    return lab;
  }

  /** A device behind the IOMMU, in a group of its own unless one is given. */
  async addParent(name: string, group?: IommuGroup): Promise<Device> {
    await using undo = new Undo();
    const dev = new Device({ name, bus: this.#bus });
    this.host.devices.init(dev);
    undo.add(() => dev.put());
    await this.host.devices.add(dev);
    this.host.iommu.probeDevice(dev, group ? { group } : {});
    undo.keep();
    this.#parents.push(dev);
    return dev;
  }

  /** Ends a device as the `remove` of a driver does. */
  async remove(device: VfioDevice): Promise<void> {
    await unregisterGroupDev(device);
    await putDevice(device);
  }

  /** Opens a group and gives it a container with type1. */
  async openGroup(path: string, by = this.process): Promise<{ group: number; container: number }> {
    const group = await by.open(path, O.RDWR);
    const container = await by.open('/dev/vfio/vfio', O.RDWR);
    const argument = new Uint8Array(4);
    new DataView(argument.buffer).setInt32(0, container, true);
    await by.ioctl(group, Request.GROUP_SET_CONTAINER, argument);
    await by.ioctl(container, Request.SET_IOMMU, 3);
    return { group, container };
  }

  getDeviceFd(group: number, name: string, by = this.process): Promise<number> {
    return by.ioctl(group, Request.GROUP_GET_DEVICE_FD, new TextEncoder().encode(`${name}\0`));
  }

  /** Names in a directory, sorted. */
  names(path: string): string[] {
    return this.process
      .readdir(path)
      .map(({ name }) => name)
      .sort();
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.process.exit(0);
    for (const dev of this.#parents) {
      this.host.iommu.removeDevice(dev);
      await this.host.devices.unregister(dev);
    }
    await this.host.devices.driverUnregister(this.#driver);
    await this.host.devices.busUnregister(this.#bus);
    await this.host[Symbol.asyncDispose]();
  }
}
