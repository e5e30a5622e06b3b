/*
 * Drivers, as the driver core sees them.
 */
import type { Module } from '../modules/module.js';
import type { AttributeGroup } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import type { Bus } from './bus.js';
import type { Device } from './device.js';

/** What a driver is made of. */
export interface DriverOptions {
  readonly name: string;
  readonly bus: Bus;
  /** The module it is in. */
  readonly module?: Module;
  /** Takes a device. A `SystemError` refuses it. */
  probe?(dev: Device): void | Promise<void>;
  /** Gives a device back; cannot refuse, but may take its time. */
  remove?(dev: Device): void | Promise<void>;
  /** Files in the driver's own directory. */
  readonly groups?: readonly AttributeGroup[];
  /** Files in the directory of a device while it is bound: there after `probe`, gone before `remove`. */
  readonly devGroups?: readonly AttributeGroup[];
  /** It does DMA only through VFIO or not at all (`driver_managed_dma`), so that the bus claims nothing for it. */
  readonly managesDma?: boolean;
  /** It has no files `bind` and `unbind`. */
  readonly suppressBindAttrs?: boolean;
}

/** What the driver core keeps about a registered driver. Source: drivers/base/base.h struct driver_private */
export interface DriverRecord {
  readonly sysfs: SysfsDir;
  /** What it is bound to, in the order in which that was probed. */
  readonly devices: Set<Device>;
}

/** A driver; `DeviceCore.driverRegister` makes it known. The driver of a bus may be a subclass with its id table. */
export class Driver {
  readonly name: string;
  readonly bus: Bus;
  readonly module: Module | undefined;
  readonly options: DriverOptions;
  /** @internal set while it is registered */
  record: DriverRecord | undefined;

  constructor(options: DriverOptions) {
    this.name = options.name;
    this.bus = options.bus;
    this.module = options.module;
    this.options = options;
  }

  /** The devices that it is bound to, in the order in which they were probed. */
  get devices(): readonly Device[] {
    return [...(this.record?.devices ?? [])];
  }

  /** Whether the bus leaves DMA alone when this driver probes. */
  get managesDma(): boolean {
    return this.options.managesDma ?? false;
  }
}
