/* A host with module mdev, and parents for the tests. */
import { Device, DeviceClass, Host, type HostOptions, type Process, type Uevent, VirtualClock } from '@vfio/host';
import {
  defineMdev,
  type MdevBus,
  MdevDevice,
  MdevDriver,
  type MdevDriverOptions,
  type MdevParent,
  MdevType,
  mdevBus,
  mdevRegisterDriver,
  mdevRegisterParent,
  mdevUnregisterDriver,
  mdevUnregisterParent,
} from '../src/index.js';

export const UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
export const OTHER_UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002';

/** What a parent of the lab is made of. */
export interface ParentOptions {
  /** Of the device and its class. */
  readonly name?: string;
  /** Operations of its driver, and whether the core counts. */
  readonly driver?: Partial<MdevDriverOptions>;
  readonly types?: readonly MdevType[];
  /** An added device to be used instead of one of a class of its own. */
  readonly dev?: Device;
}

/** A registered parent with all that belongs to it. */
export interface LabParent extends AsyncDisposable {
  readonly parent: MdevParent;
  readonly dev: Device;
  readonly driver: MdevDriver;
  /** Directory of a type, by its sysfs name. */
  path(type: string): string;
  create(uuid: string, type?: string): Promise<number>;
  available(type?: string): Promise<string>;
  unregister(): Promise<void>;
}

/** A machine for a test. */
export interface Lab extends AsyncDisposable {
  readonly host: Host;
  readonly clock: VirtualClock;
  readonly bus: MdevBus;
  readonly root: Process;
  addParent(options?: ParentOptions): Promise<LabParent>;
  /** Names in a directory, sorted. */
  names(path: string): string[];
  exists(path: string): boolean;
  /** Writes to the file `remove` of a device. */
  remove(uuid: string, text?: string): Promise<number>;
  /** The device of that name, while it is on the bus. */
  device(uuid: string): MdevDevice;
  uevents(): readonly Uevent[];
}

export async function createLab(options: HostOptions = {}): Promise<Lab> {
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock, ...options });
  defineMdev(host);
  await host.modules.modprobe('mdev');
  const root = host.spawn({ comm: 'root' });
  const bus = mdevBus(host);
  const lab: Lab = {
    host,
    clock,
    bus,
    root,
    names: (path) =>
      root
        .readdir(path)
        .map(({ name }) => name)
        .sort(),
    exists: (path) => root.readdir(dirname(path)).some(({ name }) => name === basename(path)),
    remove: (uuid, text = '1') => root.writeFile(`/sys/bus/mdev/devices/${uuid}/remove`, text),
    device: (uuid) => {
      const found = bus.devices.find(({ name }) => name === uuid);
      if (!(found instanceof MdevDevice)) throw new Error(`no device ${uuid}`);
      return found;
    },
    uevents: () => host.uevents.emitted,
    addParent: (parentOptions = {}) => addParent(lab, parentOptions),
    [Symbol.asyncDispose]: () => host[Symbol.asyncDispose](),
  };
  return lab;
}

async function addParent(lab: Lab, options: ParentOptions): Promise<LabParent> {
  const { host, bus, root } = lab;
  const { name = 'card', types = [new MdevType('1'), new MdevType('2', 'Two of them')] } = options;
  const driver = new MdevDriver({
    name: `${name}_mdev`,
    bus,
    deviceApi: 'vfio-pci',
    maxInstances: 4,
    ...options.driver,
  });
  await mdevRegisterDriver(driver);
  const deviceClass = options.dev ? undefined : new DeviceClass(host, name);
  const dev = options.dev ?? new Device({ name, ...(deviceClass ? { class: deviceClass } : {}) });
  if (!options.dev) await host.devices.register(dev);
  const parent = await mdevRegisterParent(dev, driver, types);
  let registered = true;

  const path = (type: string) => `${dev.sysfs.path()}/mdev_supported_types/${dev.driverString()}-${type}`;
  const made: LabParent = {
    parent,
    dev,
    driver,
    path,
    create: (uuid, type = '1') => root.writeFile(`${path(type)}/create`, uuid),
    available: (type = '1') => root.readFile(`${path(type)}/available_instances`),
    async unregister() {
      registered = false;
      await mdevUnregisterParent(parent);
    },
    async [Symbol.asyncDispose]() {
      if (registered) await made.unregister();
      await mdevUnregisterDriver(driver);
      if (!options.dev) await host.devices.unregister(dev);
      await deviceClass?.destroy();
    },
  };
  return made;
}

/** Resolves when all that can happen without waiting for anything has happened. */
export function settled(): Promise<void> {
  return new Promise((resolve) => {
    setImmediate(resolve);
  });
}

/** A promise that is settled by hand. */
export function gate(): { readonly wait: Promise<void>; open(): void } {
  let open = () => {};
  const wait = new Promise<void>((resolve) => {
    open = resolve;
  });
  return { wait, open };
}

function dirname(path: string): string {
  return path.slice(0, path.lastIndexOf('/'));
}

function basename(path: string): string {
  return path.slice(path.lastIndexOf('/') + 1);
}
