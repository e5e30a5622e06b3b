import {
  Bus,
  Device,
  DeviceCore,
  Host,
  InterruptController,
  Iommu,
  type IommuOptions,
  PhysicalMemory,
  type Process,
  ProcessTable,
  Sysfs,
  Uevents,
  Vfs,
  VirtualClock,
} from '../src/index.js';

/** VT-d as QEMU has it. */
export const vtd: IommuOptions = {
  aperture: [0n, 2n ** 48n - 1n],
  pageSizes: 0x4020_1000n,
  coherent: true,
  enforceCoherency: false,
  msiIsolated: true,
  reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
};

/** A host with an IOMMU, a bus `pci` whose devices nobody has put behind it yet, and a process that sees /sys as its root. */
export class IommuLab {
  readonly clock = new VirtualClock();
  readonly host = new Host({ clock: this.clock, checked: true });
  readonly sysfs = new Sysfs(this.host);
  readonly memory = new PhysicalMemory(this.host);
  readonly irq = new InterruptController(this.host);
  readonly iommu: Iommu;
  readonly devices = new DeviceCore({
    ...this.host,
    sysfs: this.sysfs,
    devtmpfs: { add: () => ({ remove: () => {} }) },
    uevents: new Uevents(this.host),
  });
  readonly bus = new Bus({ name: 'pci' });
  readonly processes = new ProcessTable(this.host, { memory: this.memory, vfs: new Vfs(this.sysfs.root) });
  readonly root: Process = this.processes.spawn();

  private constructor(options: IommuOptions | undefined) {
    const { host, memory, sysfs, irq } = this;
    this.iommu = new Iommu({ seams: host, memory, sysfs, doorbell: irq }, options);
  }

  /** @param options - the first unit; 'none' for a host without */
  static async create(options: IommuOptions | 'none' = vtd): Promise<IommuLab> {
    const lab = new IommuLab(options === 'none' ? undefined : options);
    await lab.devices.busRegister(lab.bus);
    return lab;
  }

  /** A device in sysfs, on the bus. */
  async addDevice(name: string): Promise<Device> {
    const device = new Device({ name, bus: this.bus });
    await this.devices.register(device);
    return device;
  }

  /** The names in a directory, in order. */
  list(path: string): string[] {
    return this.root
      .readdir(path)
      .map(({ name }) => name)
      .filter((name) => name !== '.' && name !== '..')
      .sort();
  }

  /** Texts of the log. */
  get log(): string[] {
    return this.host.log.entries.map(({ dev, text }) => (dev === undefined ? text : `${dev}: ${text}`));
  }
}
