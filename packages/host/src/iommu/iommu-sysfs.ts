/*
 * IOMMU units as devices: class `iommu`, where each has links to the devices behind it. Units of a machine that gives them no
 * name are not shown.
 */
import { DeviceClass } from '../drivers/class.js';
import type { DriverCoreHost } from '../drivers/core-host.js';
import { Device } from '../drivers/device.js';
import type { DeviceCore } from '../drivers/device-core.js';
import { Undo } from '../undo.js';
import type { Iommu } from './iommu.js';
import type { IommuUnit } from './unit.js';

/** What units need of a host to be devices. */
export interface IommuSysfsHost extends DriverCoreHost {
  readonly devices: DeviceCore;
  readonly iommu: Iommu;
  atShutdown(fn: () => Promise<void>): void;
}

/** The units of a host in sysfs. Source: drivers/iommu/iommu-sysfs.c */
export class IommuSysfs {
  readonly #host: IommuSysfsHost;
  #class: DeviceClass | undefined;

  constructor(host: IommuSysfsHost) {
    this.#host = host;
  }

  /**
   * Shows all units that have a name and are not shown yet; a bus does so before it puts devices behind them. They go when
   * the machine is shut down, after everything that was there later.
   *
   * @throws EEXIST - two of them have the same name
   * @throws ENOMEM - none of them has been added
   */
  async addUnits(): Promise<void> {
    const units = this.#host.iommu.units.filter(({ named, device }) => named && !device);
    if (units.length === 0) return;
    await using undo = new Undo();
    for (const unit of units) {
      await this.add(unit);
      undo.add(() => this.remove(unit));
    }
    undo.keep();
    this.#host.atShutdown(async () => {
      for (const unit of units) await this.remove(unit);
    });
  }

  /**
   * Shows a unit. Devices that are behind it already get no links.
   *
   * @throws EEXIST - there is one of that name
   * @throws ENOMEM
   * @source drivers/iommu/iommu-sysfs.c iommu_device_sysfs_add()
   */
  async add(unit: IommuUnit): Promise<void> {
    const { devices, faults } = this.#host;
    faults.check('iommu_device_sysfs_add:dev');
    this.#class ??= new DeviceClass(this.#host, 'iommu', { devGroups: [{ name: 'devices', attributes: [] }] });
    await using undo = new Undo();
    const device = new Device({ name: unit.name, class: this.#class, groups: unit.groups });
    devices.init(device);
    undo.add(() => device.put());
    await devices.add(device);
    undo.keep();
    unit.device = device;
  }

  /** Takes a unit out of sysfs again. Source: drivers/iommu/iommu-sysfs.c iommu_device_sysfs_remove() */
  async remove(unit: IommuUnit): Promise<void> {
    const { device } = unit;
    if (!device) return;
    unit.device = undefined;
    await this.#host.devices.unregister(device);
  }
}
