/*
 * Devices appear and disappear. Adding one is a ladder of steps, each of which can fail, and the device is announced
 * only when all are done; deleting one takes the steps back, with its driver's remove in the middle.
 */
import { KernelBug, SystemError } from '../errors.js';
import type { DeviceOpener } from '../fs/devtmpfs.js';
import type { Module } from '../modules/module.js';
import type { SysfsDir } from '../sysfs/dir.js';
import { Undo } from '../undo.js';
import { Binder } from './binder.js';
import type { Bus } from './bus.js';
import { busRegister, busUnregister } from './bus-core.js';
import type { DriverCoreHost } from './core-host.js';
import { Device, type DeviceOptions, deviceRecord } from './device.js';
import { devicePlace } from './device-place.js';
import { DeviceRecord } from './device-record.js';
import { announce, deviceNodeName, deviceUevent } from './device-uevent.js';
import type { Driver } from './driver.js';
import { driverRegister, driverUnregister } from './driver-core.js';
import { driverOverrideGroup } from './driver-override.js';
import { addPowerGroup } from './power.js';
import type { UeventAction } from './uevents.js';
import { WakeupSources } from './wakeup.js';

/** What the driver core can be told. */
export interface DeviceCoreOptions {
  /** Whether devices have a directory `power/`. Default: true; s390 kernels have none. */
  readonly powerManagement?: boolean;
}

/** The driver core of a host. Source: drivers/base/core.c */
export class DeviceCore {
  readonly #host: DriverCoreHost;
  readonly #binder: Binder;
  readonly #powerManagement: boolean;
  readonly #buses = new Map<string, Bus>();
  #wakeupSources: WakeupSources | undefined;

  constructor(host: DriverCoreHost, options: DeviceCoreOptions = {}) {
    this.#host = host;
    this.#binder = new Binder(host);
    this.#powerManagement = options.powerManagement ?? true;
  }

  /**
   * Begins the life of a device: one reference, a lock, nothing visible. Only `put` ends it.
   *
   * @throws KernelBug('driver') - it has begun already
   * @source drivers/base/core.c device_initialize()
   */
  init(dev: Device): void {
    if (dev.record) throw new KernelBug('driver', `device ${dev.name} is initialised twice`);
    dev.record = new DeviceRecord(this.#host, dev);
  }

  /**
   * Makes a device visible, announces it and looks for a driver, whose refusal is not a failure of this. On failure
   * all is as before, and the caller still has its reference. (A bug in a driver surfaces here too; then it is added.)
   *
   * @throws EINVAL - no name
   * @throws EEXIST - there is one of that name at that place
   * @throws ENOENT - the parent is not added
   * @throws ENOMEM
   * @source drivers/base/core.c device_add()
   */
  add(dev: Device): Promise<void> {
    return this.#host.lockdep.enter(`device_add ${dev.name}`, () => this.#add(dev));
  }

  /**
   * Takes a device away: its files first, so that nobody comes any more, then its driver, whose remove may take its
   * time, in the end its directory. The references stay.
   *
   * @source drivers/base/core.c device_del()
   */
  del(dev: Device): Promise<void> {
    return this.#host.lockdep.enter(`device_del ${dev.name}`, () => this.#del(dev));
  }

  /**
   * `init` and `add`. When it fails the caller still has a reference to put.
   *
   * @throws as `add`
   * @source drivers/base/core.c device_register()
   */
  async register(dev: Device): Promise<void> {
    this.init(dev);
    await this.add(dev);
  }

  /**
   * `del` and `put`.
   *
   * @source drivers/base/core.c device_unregister()
   */
  async unregister(dev: Device): Promise<void> {
    await this.del(dev);
    dev.put();
  }

  /**
   * Makes a directory below /sys/devices that is there to be the parent of others.
   *
   * @param module - its owner, to which it gets a link
   * @throws as `add`
   * @source drivers/base/core.c __root_device_register()
   */
  async rootDeviceRegister(name: string, module?: Module): Promise<Device> {
    await using undo = new Undo();
    const dev = new Device({ name, noPower: true });
    this.init(dev);
    undo.add(() => dev.put());
    await this.add(dev);
    undo.add(() => this.del(dev));
    if (module) dev.sysfs.addLink('module', module.sysfs);
    undo.keep();
    return dev;
  }

  /**
   * Sends a uevent about a device. One that is on no bus and in no class sends none.
   *
   * @param env - variables of this event, before the device's own
   * @throws ENOMEM - the variables do not fit
   * @source lib/kobject_uevent.c kobject_uevent_env()
   */
  uevent(dev: Device, action: UeventAction, env: Readonly<Record<string, string>> = {}): void {
    deviceUevent(dev, action, env);
  }

  /**
   * Binds a device to one driver, whether or not they match.
   *
   * @throws EBUSY - it is bound
   * @throws ENODEV - it is going, or the driver says so
   * @throws EAGAIN - the driver wants to be asked later (EPROBE_DEFER)
   * @throws what else the probe threw
   * @source drivers/base/dd.c device_driver_attach()
   */
  async attachDriver(dev: Device, drv: Driver): Promise<void> {
    await this.#host.lockdep.enter(`device_driver_attach ${dev.name}`, () => this.#binder.driverAttach(drv, dev));
  }

  /**
   * Looks for a driver for a device that has none.
   *
   * @returns whether it has one now
   * @throws what was in the way of a driver that matches, other than its own refusal
   * @source drivers/base/dd.c device_attach()
   */
  async attach(dev: Device): Promise<boolean> {
    return await this.#host.lockdep.enter(`device_attach ${dev.name}`, () => this.#binder.attach(dev));
  }

  /**
   * Takes the driver off a device, and waits for its remove.
   *
   * @source drivers/base/dd.c device_release_driver()
   */
  async releaseDriver(dev: Device): Promise<void> {
    await this.#host.lockdep.enter(`device_release_driver ${dev.name}`, () => this.#binder.release(dev));
  }

  /**
   * Takes the driver off a device and looks for another.
   *
   * @throws as `attach`
   * @source drivers/base/bus.c device_reprobe()
   */
  async reprobe(dev: Device): Promise<void> {
    await this.releaseDriver(dev);
    await this.attach(dev);
  }

  /** Devices whose driver wants to be asked later. */
  get deferred(): readonly Device[] {
    return this.#binder.deferred.devices;
  }

  /**
   * Waits until the devices that are due to be asked again have been.
   *
   * @source drivers/base/dd.c wait_for_device_probe()
   */
  async settle(): Promise<void> {
    await this.#binder.deferred.settle();
  }

  /**
   * Makes a bus known: /sys/bus/<name>.
   *
   * @throws EEXIST - there is one of that name
   * @throws ENOMEM
   * @source drivers/base/bus.c bus_register()
   */
  async busRegister(bus: Bus): Promise<void> {
    await busRegister(this.#host, this.#binder, bus);
    this.#buses.set(bus.name, bus);
  }

  /**
   * Ends a bus; its devices and drivers are gone before.
   *
   * @source drivers/base/bus.c bus_unregister()
   */
  async busUnregister(bus: Bus): Promise<void> {
    this.#buses.delete(bus.name);
    await busUnregister(bus);
  }

  /**
   * What could wake the machine up; class `wakeup` comes with the first who asks.
   *
   * @throws ENOMEM
   */
  get wakeupSources(): WakeupSources {
    this.#wakeupSources ??= new WakeupSources(this.#host, this);
    return this.#wakeupSources;
  }

  /** Finds a bus by its name. */
  findBus(name: string): Bus | undefined {
    return this.#buses.get(name);
  }

  /**
   * Makes a driver known, and offers it the devices of its bus that have none, unless that is switched off
   * (`drivers_autoprobe`).
   *
   * @throws EINVAL - the bus is not registered
   * @throws EBUSY - the bus has a driver of that name
   * @throws ENOMEM
   * @source drivers/base/driver.c driver_register()
   */
  async driverRegister(drv: Driver): Promise<void> {
    await this.#host.lockdep.enter(`driver_register ${drv.name}`, () => driverRegister(this.#host, this.#binder, drv));
  }

  /**
   * Ends a driver: it is taken off its devices, last first, and forgotten.
   *
   * @source drivers/base/driver.c driver_unregister()
   */
  async driverUnregister(drv: Driver): Promise<void> {
    await this.#host.lockdep.enter(`driver_unregister ${drv.name}`, () =>
      driverUnregister(this.#host, this.#binder, drv),
    );
  }

  async #add(dev: Device): Promise<void> {
    const host = this.#host;
    const record = deviceRecord(dev);
    if (record.sysfs) throw new KernelBug('driver', `device ${dev.name} is added twice`);
    if (dev.name === '') throw new SystemError('EINVAL', 'a device needs a name');
    dev.name = dev.name.replaceAll('/', '!');
    const { parent } = dev;
    await using undo = new Undo();
    host.faults.check('device_add:private');
    parent?.get();
    undo.add(() => parent?.put());

    const place = devicePlace(host.sysfs, dev);
    undo.add(() => place.leave());
    const dir = place.dir.mkdir(dev.name);
    record.sysfs = dir;
    undo.add(async () => {
      dir.remove();
      if (dir.draining) await dir.drained();
      record.sysfs = undefined;
    });
    undo.add(() => announce(dev, 'remove'));
    dir.addLazyFile('uevent', record);
    this.#addClassLinks(dev, dir, undo);
    dir.addGroups([...(dev.class?.options.devGroups ?? []), ...(dev.options.groups ?? [])]);
    this.#addToBus(dev, dir, undo);
    if (this.#powerManagement && !dev.options.noPower) addPowerGroup(dir, dev);
    this.#addNode(dev, dir, undo);

    dev.bus?.notify('add-device', dev);
    announce(dev, 'add');
    undo.keep();
    record.place = place;
    try {
      if (dev.bus?.record?.autoprobe) await this.#binder.tryAttach(dev);
    } finally {
      // Somebody may have deleted it while its driver was busy.
      if (record.sysfs) {
        if (parent) deviceRecord(parent).addChild(dev);
        dev.class?.members.add(dev);
      }
    }
  }

  /** Source: drivers/base/core.c device_add_class_symlinks() */
  #addClassLinks(dev: Device, dir: SysfsDir, undo: Undo): void {
    const { class: deviceClass, parent } = dev;
    if (!deviceClass) return;
    dir.addLink('subsystem', deviceClass.sysfs);
    if (parent) dir.addLink('device', parent.sysfs);
    deviceClass.sysfs.addLink(dev.name, dir);
    undo.add(() => deviceClass.sysfs.removeEntry(dev.name));
  }

  /** Source: drivers/base/bus.c bus_add_device() */
  #addToBus(dev: Device, dir: SysfsDir, undo: Undo): void {
    const { bus } = dev;
    if (!bus) return;
    const { record } = bus;
    if (!record) throw new SystemError('EINVAL', `bus ${bus.name} is not registered`);
    dir.addGroups(bus.options.devGroups ?? []);
    if (bus.options.driverOverride) dir.addGroup(driverOverrideGroup(dev));
    record.devicesDir.addLink(dev.name, dir);
    undo.add(() => record.devicesDir.removeEntry(dev.name));
    dir.addLink('subsystem', record.sysfs);
    record.devices.add(dev);
    dev.get();
    undo.add(() => {
      record.devices.delete(dev);
      dev.put();
    });
  }

  /** The node in /dev, the file `dev` and the link in /sys/dev/char. */
  #addNode(dev: Device, dir: SysfsDir, undo: Undo): void {
    const { devt } = dev;
    if (!devt || devt.major === 0) return;
    const numbers = `${devt.major}:${devt.minor}`;
    const { devChar } = this.#host.sysfs;
    const record = deviceRecord(dev);
    dir.addLazyFile('dev', record);
    devChar.addLink(numbers, dir);
    undo.add(() => devChar.removeEntry(numbers));
    const { name, mode } = deviceNodeName(dev);
    // Differs: Linux goes on without a node when there is no memory for it.
    const opener = opens(dev.options) ? { opener: dev.options } : {};
    const node = this.#host.devtmpfs.add({ path: name, mode: mode ?? 0o600, ...devt, ...opener });
    record.node = node;
    undo.add(() => {
      node.remove();
      record.node = undefined;
    });
  }

  async #del(dev: Device): Promise<void> {
    const record = deviceRecord(dev);
    const dir = dev.sysfs;
    const { bus, parent, class: deviceClass } = dev;
    {
      using _held = await record.lock.lock();
      record.dead = true;
    }
    bus?.notify('del-device', dev);
    dir.removeEntry('power');
    if (parent) deviceRecord(parent).removeChild(dev);
    if (record.node && dev.devt) {
      record.node.remove();
      record.node = undefined;
      this.#host.sysfs.devChar.removeEntry(`${dev.devt.major}:${dev.devt.minor}`);
      dir.removeEntry('dev');
    }
    if (deviceClass) {
      for (const link of ['device', 'subsystem']) dir.removeEntry(link);
      deviceClass.sysfs.removeEntry(dev.name);
      deviceClass.members.delete(dev);
    }
    dir.removeEntry('uevent');
    dir.removeGroups(dev.options.groups ?? []);
    dir.removeGroups(deviceClass?.options.devGroups ?? []);
    if (dir.draining) await dir.drained();
    try {
      if (bus) await this.#removeFromBus(dev, bus, dir);
    } finally {
      await this.#removeDir(dev, dir);
    }
  }

  /** What is left when the driver is gone. */
  async #removeDir(dev: Device, dir: SysfsDir): Promise<void> {
    const { bus, parent } = dev;
    if (dev.wakeup) await dev.wakeup.disable();
    this.#binder.deferred.remove(dev);
    bus?.notify('removed-device', dev);
    announce(dev, 'remove');
    dir.remove();
    if (dir.draining) await dir.drained();
    const record = deviceRecord(dev);
    record.sysfs = undefined;
    record.place?.leave();
    record.place = undefined;
    if (bus) dev.put();
    parent?.put();
  }

  /** Source: drivers/base/bus.c bus_remove_device() */
  async #removeFromBus(dev: Device, bus: Bus, dir: SysfsDir): Promise<void> {
    dir.removeEntry('subsystem');
    bus.record?.devicesDir.removeEntry(dev.name);
    if (bus.options.driverOverride) dir.removeGroup(driverOverrideGroup(dev));
    dir.removeGroups(bus.options.devGroups ?? []);
    if (dir.draining) await dir.drained();
    bus.record?.devices.delete(dev);
    await this.#binder.release(dev);
  }
}

/** Whether a device opens its node itself. */
function opens(options: DeviceOptions): options is DeviceOptions & DeviceOpener {
  return options.open !== undefined;
}
