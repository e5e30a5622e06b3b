/*
 * /sys/bus: the directory of each bus, and the files that steer which driver gets which device.
 */
import { isSystemError, SystemError } from '../errors.js';
import type { Attribute } from '../sysfs/attribute.js';
import { Undo } from '../undo.js';
import type { Binder } from './binder.js';
import type { Bus, BusRecord } from './bus.js';
import type { DriverCoreHost } from './core-host.js';
import { synthUevent } from './synth-uevent.js';

/**
 * Makes a bus known.
 *
 * @throws EEXIST, ENOMEM
 * @source drivers/base/bus.c bus_register()
 */
export async function busRegister(host: DriverCoreHost, binder: Binder, bus: Bus): Promise<void> {
  await using undo = new Undo();
  host.faults.check('bus_register:memory');
  const sysfs = host.sysfs.bus.mkdir(bus.name);
  undo.add(() => sysfs.remove());
  const emit = busEmitter(host, bus);
  sysfs.addFile({
    name: 'uevent',
    mode: 0o200,
    store: (text) => synthUevent(host, text, sysfs.devpath(), emit),
  });
  const record: BusRecord = {
    host,
    sysfs,
    devicesDir: sysfs.mkdir('devices'),
    driversDir: sysfs.mkdir('drivers'),
    devices: new Set(),
    drivers: new Set(),
    notifiers: new Set(),
    autoprobe: true,
  };
  bus.record = record;
  undo.add(() => {
    bus.record = undefined;
  });
  sysfs.addFile(driversProbe(binder, bus));
  sysfs.addFile(driversAutoprobe(record));
  sysfs.addGroups(bus.options.groups ?? []);
  host.uevents.emit('add', { devpath: sysfs.devpath(), subsystem: 'bus' });
  undo.keep();
}

/**
 * Ends a bus.
 *
 * @source drivers/base/bus.c bus_unregister()
 */
export async function busUnregister(bus: Bus): Promise<void> {
  const { record } = bus;
  if (!record) return;
  record.host.uevents.emit('remove', { devpath: record.sysfs.devpath(), subsystem: 'bus' });
  record.sysfs.remove();
  await record.sysfs.drained();
  bus.record = undefined;
}

function busEmitter(host: DriverCoreHost, bus: Bus): Parameters<typeof synthUevent>[3] {
  return (action, fill) => {
    host.uevents.emit(action, { devpath: `/bus/${bus.name}`, subsystem: 'bus' }, fill);
  };
}

/** Source: drivers/base/bus.c drivers_probe_store() */
function driversProbe(binder: Binder, bus: Bus): Attribute {
  return {
    name: 'drivers_probe',
    mode: 0o200,
    store: async (text) => {
      const dev = bus.findDevice(text);
      if (!dev) throw new SystemError('ENODEV', `no such device on bus ${bus.name}`);
      dev.get();
      try {
        if (!dev.driver) {
          using _parent = bus.options.needParentLock ? await dev.parent?.lock.lock() : undefined;
          await binder.attach(dev);
        }
      } catch (error) {
        // Whatever was in the way, the writer is only told that it did not work.
        if (isSystemError(error)) throw new SystemError('EINVAL', error.reason, { cause: error });
        throw error;
      } finally {
        dev.put();
      }
    },
  };
}

/** Source: drivers/base/bus.c drivers_autoprobe_store() */
function driversAutoprobe(record: BusRecord): Attribute {
  return {
    name: 'drivers_autoprobe',
    mode: 0o644,
    show: () => `${record.autoprobe ? 1 : 0}\n`,
    store: (text) => {
      record.autoprobe = !text.startsWith('0');
    },
  };
}
