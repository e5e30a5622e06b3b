/*
 * The directory of each driver below its bus, with the files by which somebody binds and unbinds by hand.
 */
import { SystemError } from '../errors.js';
import type { Attribute } from '../sysfs/attribute.js';
import type { SysfsDir } from '../sysfs/dir.js';
import { Undo } from '../undo.js';
import type { Binder } from './binder.js';
import type { DriverCoreHost } from './core-host.js';
import type { Driver } from './driver.js';
import { synthUevent } from './synth-uevent.js';

/**
 * Makes a driver known, and offers it the devices of its bus.
 *
 * @throws EINVAL - the bus is not registered
 * @throws EBUSY - the bus has a driver of that name
 * @throws ENOMEM
 * @source drivers/base/driver.c driver_register(), drivers/base/bus.c bus_add_driver()
 */
export async function driverRegister(host: DriverCoreHost, binder: Binder, drv: Driver): Promise<void> {
  const bus = drv.bus.record;
  if (!bus) {
    host.log.err(`Driver '${drv.name}' was unable to register with bus_type '${drv.bus.name}'`);
    throw new SystemError('EINVAL', `bus ${drv.bus.name} is not registered`);
  }
  if (drv.bus.findDriver(drv.name)) {
    host.log.err(`Error: Driver '${drv.name}' is already registered, aborting...`);
    throw new SystemError('EBUSY', `bus ${drv.bus.name} has a driver ${drv.name}`);
  }
  await using undo = new Undo();
  host.faults.check('bus_add_driver:private');
  const dir = bus.driversDir.mkdir(drv.name);
  undo.add(async () => {
    dir.remove();
    await dir.drained();
  });
  drv.record = { sysfs: dir, devices: new Set() };
  undo.add(() => {
    drv.record = undefined;
  });
  bus.drivers.add(drv);
  undo.add(async () => {
    bus.drivers.delete(drv);
    await binder.detachDriver(drv);
  });
  if (bus.autoprobe) await binder.attachDriver(drv);
  if (drv.module) {
    const { module } = drv;
    dir.addLink('module', module.sysfs);
    module.addDriver(driverLinkName(drv), dir);
    undo.add(() => module.removeDriver(driverLinkName(drv)));
  }
  // Differs: Linux goes on without these files when there is no memory for them.
  dir.addFile(ueventFile(host, dir));
  dir.addGroups(drv.bus.options.driverGroups?.(drv) ?? []);
  if (!drv.options.suppressBindAttrs) {
    dir.addFile(unbindFile(binder, drv));
    dir.addFile(bindFile(binder, drv));
  }
  dir.addGroups(drv.options.groups ?? []);
  host.uevents.emit('add', { devpath: dir.devpath(), subsystem: 'drivers' });
  undo.keep();
}

/**
 * Ends a driver. Nobody gets in by its files before it is taken off its devices.
 *
 * @source drivers/base/driver.c driver_unregister(), drivers/base/bus.c bus_remove_driver()
 */
export async function driverUnregister(host: DriverCoreHost, binder: Binder, drv: Driver): Promise<void> {
  const { record } = drv;
  if (!record) {
    host.log.warnOn(true, 'Unexpected driver unregister!');
    return;
  }
  const dir = record.sysfs;
  dir.removeGroups(drv.options.groups ?? []);
  for (const file of ['bind', 'unbind']) dir.removeEntry(file);
  dir.removeGroups(drv.bus.options.driverGroups?.(drv) ?? []);
  dir.removeEntry('uevent');
  await dir.drained();
  drv.bus.record?.drivers.delete(drv);
  await binder.detachDriver(drv);
  drv.module?.removeDriver(driverLinkName(drv));
  host.uevents.emit('remove', { devpath: dir.devpath(), subsystem: 'drivers' });
  dir.remove();
  drv.record = undefined;
}

function driverLinkName(drv: Driver): string {
  return `${drv.bus.name}:${drv.name}`;
}

function ueventFile(host: DriverCoreHost, dir: SysfsDir): Attribute {
  return {
    name: 'uevent',
    mode: 0o200,
    store: (text) => {
      synthUevent(host, text, dir.devpath(), (action, fill) => {
        host.uevents.emit(action, { devpath: dir.devpath(), subsystem: 'drivers' }, fill);
      });
    },
  };
}

/** Source: drivers/base/bus.c bind_store() */
function bindFile(binder: Binder, drv: Driver): Attribute {
  return {
    name: 'bind',
    mode: 0o200,
    store: async (text) => {
      const dev = drv.bus.findDevice(text);
      if (!dev || !binder.mayBind(drv, dev)) {
        throw new SystemError('ENODEV', `no device for driver ${drv.name} of that name`);
      }
      dev.get();
      try {
        await binder.driverAttach(drv, dev);
      } finally {
        dev.put();
      }
    },
  };
}

/** Source: drivers/base/bus.c unbind_store() */
function unbindFile(binder: Binder, drv: Driver): Attribute {
  return {
    name: 'unbind',
    mode: 0o200,
    store: async (text) => {
      const dev = drv.bus.findDevice(text);
      if (!dev || dev.driver !== drv) throw new SystemError('ENODEV', `no device of driver ${drv.name} of that name`);
      dev.get();
      try {
        await binder.release(dev);
      } finally {
        dev.put();
      }
    },
  };
}
