/**
 * How the samples start and stop: each of them reserves character devices that it never uses, registers a driver and a
 * device of a class of its own, and makes that device the parent of its mediated devices.
 */
import { Device, DeviceClass, File, type Host, isSystemError, type Module, type ModuleSpec, Undo } from '@vfio/host';
import {
  defineMdev,
  type MdevBus,
  type MdevDriver,
  type MdevParent,
  type MdevType,
  mdevBus,
  mdevRegisterDriver,
  mdevRegisterParent,
  mdevUnregisterDriver,
  mdevUnregisterParent,
} from '@vfio/mdev';

/** What one sample makes of the common frame. */
export interface Sample {
  /** Of module, driver, class, parent device and character devices. */
  readonly name: string;
  /** MODULE_VERSION */
  readonly version?: string;
  readonly parameters?: NonNullable<ModuleSpec['parameters']>;
  readonly messages: SampleMessages;
  /** Called for each load of the module: what it returns starts with fresh pools. */
  create(bus: MdevBus, module: Module): SampleParts;
}

/** What a sample tells the kernel log of its coming and going. */
export interface SampleMessages {
  readonly loading?: string;
  major(major: number): string;
  readonly unloaded?: string;
}

/** What a loaded sample consists of. */
export interface SampleParts {
  readonly driver: MdevDriver;
  readonly types: readonly MdevType[];
}

/** A running sample, as `stop` needs it. */
interface Running {
  readonly driver: MdevDriver;
  readonly deviceClass: DeviceClass;
  readonly dev: Device;
  readonly parent: MdevParent;
  readonly region: Disposable;
}

/** Minors that each sample reserves. Source: include/linux/kdev_t.h MINORMASK */
const MINORS = 1 << 20;

/**
 * Makes a sample's module known to a host; `modprobe` starts it.
 *
 * @source samples/vfio-mdev/mtty.c mtty_dev_init(), mtty_dev_exit(), and their like in mdpy.c and mbochs.c
 */
export function defineSample(host: Host, sample: Sample): void {
  defineMdev(host);
  const { name, version, parameters, messages } = sample;
  host.modules.define({
    name,
    ...(version === undefined ? {} : { version }),
    ...(parameters === undefined ? {} : { parameters }),
    depends: ['mdev', 'vfio'],
    init: async ({ module, undo }) => {
      if (messages.loading) host.log.info(messages.loading);
      const running = await start(host, sample, sample.create(mdevBus(host), module));
      undo.add(async () => {
        await stop(host, running);
        if (messages.unloaded) host.log.info(messages.unloaded);
      });
    },
  });
}

async function start(host: Host, { name, messages }: Sample, parts: SampleParts): Promise<Running> {
  const { driver, types } = parts;
  await using undo = new Undo();
  const region = reserve(host, name, messages);
  undo.add(() => region[Symbol.dispose]());
  await mdevRegisterDriver(driver);
  undo.add(() => mdevUnregisterDriver(driver));
  const deviceClass = new DeviceClass(host, name);
  undo.add(() => deviceClass.destroy());
  const dev = new Device({ name, class: deviceClass });
  host.devices.init(dev);
  undo.add(() => dev.put());
  await host.devices.add(dev);
  undo.add(() => host.devices.del(dev));
  const parent = await mdevRegisterParent(dev, driver, types);
  undo.keep();
  return { driver, deviceClass, dev, parent, region };
}

/** Not quite the reverse: the class goes last. */
async function stop(host: Host, running: Running): Promise<void> {
  const { driver, deviceClass, dev, parent, region } = running;
  await mdevUnregisterParent(parent);
  await host.devices.unregister(dev);
  await mdevUnregisterDriver(driver);
  region[Symbol.dispose]();
  await deviceClass.destroy();
}

/** Takes a range of character devices; opening one of them succeeds, and the file can do nothing. */
function reserve(host: Host, name: string, messages: SampleMessages): Disposable {
  const major = host.chrdevs.registerMajor(name);
  const cdev = addCdev(host, name, major);
  host.log.info(messages.major(major));
  return {
    [Symbol.dispose]: () => {
      cdev?.remove();
      host.chrdevs.unregisterMajor(major);
    },
  };
}

/** A sample does not look whether this worked. */
function addCdev(host: Host, name: string, major: number): { remove(): void } | undefined {
  try {
    return host.chrdevs.add(
      major,
      0,
      MINORS,
      (_process, flags) => new IdleFile({ flags, label: name, seek: 'normal' }),
    );
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
}

/** A file without operations. */
class IdleFile extends File {}
