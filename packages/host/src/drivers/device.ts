/*
 * Devices, as the driver core sees them: a name, a place below a parent, a bus or a class, maybe a driver, and a
 * life that is counted in references.
 */
import { KernelBug } from '../errors.js';
import type { File } from '../fs/file.js';
import type { DeviceNumber } from '../fs/vfs-node.js';
import type { IommuGroup } from '../iommu/group.js';
import type { Process } from '../process/process.js';
import type { Mutex } from '../sync/mutex.js';
import type { AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Bus } from './bus.js';
import type { DeviceClass, DeviceNodeName } from './class.js';
import type { DriverCoreHost } from './core-host.js';
import type { DeviceRecord } from './device-record.js';
import type { Driver } from './driver.js';
import type { RuntimePm } from './runtime-pm.js';
import type { UeventEnv } from './uevents.js';
import type { DeviceWakeup } from './wakeup.js';

/** What a device is made of. */
export interface DeviceOptions {
  /** May also be set later, before the device is added. */
  readonly name?: string;
  readonly parent?: Device;
  readonly bus?: Bus;
  readonly class?: DeviceClass;
  /** Files in its directory, there before it is announced. */
  readonly groups?: readonly AttributeGroup[];
  /** Numbers of its node in /dev; without them it has none. */
  readonly devt?: DeviceNumber;
  /** Name and mode of the node, instead of what its class says. */
  devnode?(dev: Device): DeviceNodeName | undefined;
  /** Opens the node. Absent: whoever has its numbers answers, else ENXIO. */
  open?(process: Process, flags: number): File | Promise<File>;
  /** Adds what the firmware says of it to its uevents (`OF_NAME`), before the bus does. */
  uevent?(dev: Device, env: UeventEnv): void;
  /** The last reference is gone. */
  release?(dev: Device): void;
  /** It has no directory `power/`, as on systems without power management. */
  readonly noPower?: boolean;
  /** The caches see what it writes to memory. Default: true. */
  readonly dmaCoherent?: boolean;
}

/** A device. `DeviceCore.init` begins its life, with one reference. */
export class Device {
  name: string;
  readonly parent: Device | undefined;
  readonly bus: Bus | undefined;
  readonly class: DeviceClass | undefined;
  /** Numbers of its node; who decides late sets them before the device is added. */
  devt: DeviceNumber | undefined;
  readonly options: DeviceOptions;
  /** Set from the beginning of probe to the end of remove. */
  driver: Driver | undefined;
  iommuGroup: IommuGroup | undefined;
  dmaCoherent: boolean;
  /** What `driver_override` says. */
  driverOverride: string | undefined;
  /** Whether it is suspended while nobody uses it; set by its bus before it is added, or not at all. */
  pm: RuntimePm | undefined;
  /** Whether it may wake the machine up; set by its bus before it is added, for one that can. */
  wakeup: DeviceWakeup | undefined;
  /** @internal whose data the driver put on it */
  drvdata: { clear(dev: Device): void } | undefined;
  /** @internal set by init */
  record: DeviceRecord | undefined;

  constructor(options: DeviceOptions = {}) {
    this.name = options.name ?? '';
    this.parent = options.parent;
    this.bus = options.bus;
    this.class = options.class;
    this.devt = options.devt;
    this.dmaCoherent = options.dmaCoherent ?? true;
    this.options = options;
  }

  /** The host it is on. */
  get host(): DriverCoreHost {
    return deviceRecord(this).host;
  }

  /** Held around probe and remove. */
  get lock(): Mutex {
    return deviceRecord(this).lock;
  }

  /** Its directory, while it is added. */
  get sysfs(): SysfsDir {
    const { sysfs } = deviceRecord(this);
    if (!sysfs) throw new KernelBug('driver', `device ${this.name} is not added`);
    return sysfs;
  }

  /** Whether it is added. */
  get registered(): boolean {
    return this.record?.sysfs !== undefined;
  }

  /** How many references there are. */
  get refCount(): number {
    return deviceRecord(this).kref.count;
  }

  /**
   * Takes a reference.
   *
   * @source drivers/base/core.c get_device()
   */
  get(): this {
    deviceRecord(this).kref.get();
    return this;
  }

  /**
   * Gives a reference back; the last one calls `release`.
   *
   * @source drivers/base/core.c put_device()
   */
  put(): void {
    deviceRecord(this).kref.put();
  }

  /** The devices below it, in the order in which they came. */
  children(): Device[] {
    return [...(this.record?.children ?? [])];
  }

  /**
   * What messages about it begin with: its driver's name, else that of its bus, else that of its class, else nothing.
   *
   * @source drivers/base/core.c dev_driver_string()
   */
  driverString(): string {
    return this.driver?.name ?? this.bus?.name ?? this.class?.name ?? '';
  }

  /** What stands before a message about it in the log. */
  logName(): string {
    return `${this.driverString()} ${this.name}`;
  }
}

/** @internal what the core keeps of a device that went through init */
export function deviceRecord(dev: Device): DeviceRecord {
  if (!dev.record) throw new KernelBug('driver', `device '${dev.name}' is not initialised`);
  return dev.record;
}
