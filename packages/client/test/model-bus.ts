// The bus of model devices and the driver that gives them to VFIO, as a module of a host.

import {
  allocDevice,
  putDevice,
  registerEmulatedIommuDev,
  registerGroupDev,
  unregisterGroupDev,
  type Vfio,
} from '@vfio/core';
import { Bus, Device, Driver, DriverData, type Host, type IommuGroup, Undo } from '@vfio/host';
import { ModelDevice, type ModelOptions, modelDefaults } from './model-device.js';

/** What the devices of a bus are made with. */
export interface ModelBusOptions extends Partial<ModelOptions> {
  /** Their class. */
  readonly Model?: typeof ModelDevice;
  /** They stand behind no IOMMU, and do DMA all the same. */
  readonly withoutIommu?: boolean;
}

/** One bus, its driver and its devices. */
export class ModelBus {
  readonly #host: Host;
  readonly #vfio: Vfio;
  readonly #options: ModelOptions;
  readonly #Model: typeof ModelDevice;
  readonly #behindIommu: boolean;
  readonly #bus = new Bus({ name: 'model' });
  readonly #devices = new Map<string, Device>();
  readonly #data = new DriverData<ModelDevice>();

  constructor(host: Host, vfio: Vfio, options: ModelBusOptions = {}) {
    const { Model = ModelDevice, withoutIommu = false, ...own } = options;
    this.#host = host;
    this.#vfio = vfio;
    this.#options = { ...modelDefaults, ...own };
    this.#Model = Model;
    this.#behindIommu = !this.#options.emulated && !withoutIommu;
  }

  /** Makes module `model` known. It has to be loaded after `addBus`. */
  define(): void {
    this.#host.modules.define({
      name: 'model',
      depends: this.#vfio.options.container ? ['vfio', 'vfio_iommu_type1'] : ['vfio'],
      parameters: { label: { type: 'charp', default: 'none', mode: 0o444 } },
      init: async ({ module, undo }) => {
        const driver = new Driver({
          name: 'model',
          bus: this.#bus,
          module,
          managesDma: true,
          probe: (dev) => this.#probe(dev),
          remove: (dev) => this.#remove(dev),
        });
        await this.#host.devices.driverRegister(driver);
        undo.add(() => this.#host.devices.driverUnregister(driver));
      },
    });
  }

  /** Puts the bus into the machine, until it is shut down. */
  async addBus(): Promise<void> {
    await this.#host.devices.busRegister(this.#bus);
    this.#host.atShutdown(() => this.#host.devices.busUnregister(this.#bus));
  }

  /** Puts a device on the bus, until the machine is shut down. */
  async addDevice(name: string, group?: IommuGroup): Promise<void> {
    const host = this.#host;
    const dev = new Device({ name, bus: this.#bus });
    host.devices.init(dev);
    await using undo = new Undo();
    undo.add(() => dev.put());
    await host.devices.add(dev);
    undo.keep();
    host.atShutdown(async () => {
      if (dev.iommuGroup) host.iommu.removeDevice(dev);
      await host.devices.unregister(dev);
    });
    // as many as the IOMMU has, up to these
    const place = { pasids: { max: 8 }, ...(group ? { group } : {}) };
    if (this.#behindIommu) host.iommu.probeDevice(dev, place);
    this.#devices.set(name, dev);
  }

  /** The parent device of that name. */
  parent(name: string): Device {
    const dev = this.#devices.get(name);
    if (!dev) throw new RangeError(`no device ${name}`);
    return dev;
  }

  /** What VFIO has of the device. */
  model(name: string): ModelDevice {
    return this.#data.get(this.parent(name));
  }

  async #probe(dev: Device): Promise<void> {
    await using failed = new Undo();
    const device = await allocDevice(this.#vfio, this.#Model, dev, this.#options);
    failed.add(() => putDevice(device));
    await (this.#options.emulated ? registerEmulatedIommuDev(device) : registerGroupDev(device));
    failed.keep();
    this.#data.set(dev, device);
  }

  async #remove(dev: Device): Promise<void> {
    const device = this.#data.get(dev);
    await unregisterGroupDev(device);
    await putDevice(device);
  }
}
