/*
 * Buses, as the driver core sees them: a set of devices, a set of drivers, and the rule which goes with which.
 */
import type { AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import { sysfsStreq } from '../sysfs/parse.js';
import type { DriverCoreHost } from './core-host.js';
import type { Device } from './device.js';
import type { Driver } from './driver.js';
import type { UeventEnv } from './uevents.js';

/** What listeners on a bus are told about. Source: include/linux/device/bus.h enum bus_notifier_event */
export type BusEvent =
  | 'add-device'
  | 'del-device'
  | 'removed-device'
  | 'bind-driver'
  | 'bound-driver'
  | 'unbind-driver'
  | 'unbound-driver'
  | 'driver-not-bound';

/** What a bus is made of. */
export interface BusOptions {
  readonly name: string;
  /**
   * Whether a driver may be bound to a device; always, when absent. A `SystemError` says that it is not known:
   * EPROBE_DEFER tries again later, and all of them let somebody bind by hand.
   */
  match?(dev: Device, drv: Driver): boolean;
  /** Instead of the driver's own; calls it. */
  probe?(dev: Device, drv: Driver): void | Promise<void>;
  /** Instead of the driver's own; calls it. */
  remove?(dev: Device, drv: Driver): void | Promise<void>;
  /** Adds variables to the uevents of its devices. */
  uevent?(dev: Device, env: UeventEnv): void;
  /** Files in the bus's own directory. */
  readonly groups?: readonly AttributeGroup[];
  /** Files in the directory of each of its devices. */
  readonly devGroups?: readonly AttributeGroup[];
  /** Files in the directory of each of its drivers, such as `new_id`. */
  driverGroups?(drv: Driver): readonly AttributeGroup[];
  /** Its devices have a file `driver_override`, for `match` to look at. */
  readonly driverOverride?: boolean;
  /** Probe and remove also need the lock of the device's parent. */
  readonly needParentLock?: boolean;
  /**
   * Prepares DMA before a driver probes, and claims it for the native driver unless that manages it itself.
   *
   * @throws EBUSY - somebody else owns the group of the device
   */
  dmaConfigure?(dev: Device, drv: Driver): void | Promise<void>;
  /** Takes that back. */
  dmaCleanup?(dev: Device): void;
}

/** What the driver core keeps about a registered bus. Source: drivers/base/base.h struct subsys_private */
export interface BusRecord {
  readonly host: DriverCoreHost;
  readonly sysfs: SysfsDir;
  readonly devicesDir: SysfsDir;
  readonly driversDir: SysfsDir;
  /** In the order in which they came; may change while somebody walks it. */
  readonly devices: Set<Device>;
  readonly drivers: Set<Driver>;
  readonly notifiers: Set<(event: BusEvent, dev: Device) => void>;
  autoprobe: boolean;
}

/** A bus; `DeviceCore.busRegister` makes it known. */
export class Bus {
  readonly name: string;
  readonly options: BusOptions;
  /** @internal set while it is registered */
  record: BusRecord | undefined;

  constructor(options: BusOptions) {
    this.name = options.name;
    this.options = options;
  }

  /** Its devices, in the order in which they came. */
  get devices(): readonly Device[] {
    return [...(this.record?.devices ?? [])];
  }

  /** Its drivers, in the order in which they came. */
  get drivers(): readonly Driver[] {
    return [...(this.record?.drivers ?? [])];
  }

  /**
   * Finds a device by its name.
   *
   * @param name - as it was written to a file: a newline may follow
   * @source drivers/base/bus.c bus_find_device_by_name()
   */
  findDevice(name: string): Device | undefined {
    return this.devices.find((dev) => sysfsStreq(dev.name, name));
  }

  /** Finds a driver by its name. */
  findDriver(name: string): Driver | undefined {
    return this.drivers.find((drv) => drv.name === name);
  }

  /**
   * Calls `fn` with what happens to the devices of the bus, until disposed of.
   *
   * @source drivers/base/bus.c bus_register_notifier()
   */
  subscribe(fn: (event: BusEvent, dev: Device) => void): Disposable {
    const notifier = (event: BusEvent, dev: Device) => fn(event, dev);
    const notifiers = this.record?.notifiers;
    notifiers?.add(notifier);
    return {
      [Symbol.dispose]: () => {
        notifiers?.delete(notifier);
      },
    };
  }

  /** @internal */
  notify(event: BusEvent, dev: Device): void {
    for (const notifier of [...(this.record?.notifiers ?? [])]) notifier(event, dev);
  }
}
