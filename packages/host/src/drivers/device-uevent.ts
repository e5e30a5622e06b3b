/*
 * The uevents of devices: what is in them, who hears of them, and the file `uevent`.
 */
import { isSystemError } from '../errors.js';
import type { Attribute } from '../sysfs/attribute.js';
import type { DeviceNodeName } from './class.js';
import { type Device, deviceRecord } from './device.js';
import { synthUevent } from './synth-uevent.js';
import { type UeventAction, UeventEnv } from './uevents.js';

/**
 * Name and mode of a device's node.
 *
 * @source drivers/base/core.c device_get_devnode()
 */
export function deviceNodeName(dev: Device): DeviceNodeName {
  const given = dev.options.devnode?.(dev) ?? dev.class?.options.devnode?.(dev);
  return given ?? { name: dev.name.replaceAll('!', '/') };
}

/**
 * Sends a uevent about a device. A device that is on no bus and in no class sends none.
 *
 * @param extra - variables of this event, before the device's own
 * @throws ENOMEM - the variables do not fit
 * @source lib/kobject_uevent.c kobject_uevent_env()
 */
export function deviceUevent(dev: Device, action: UeventAction, extra: Readonly<Record<string, string>> = {}): void {
  send(dev, action, (env) => {
    for (const [key, value] of Object.entries(extra)) env.addUeventVar(key, value);
  });
}

/** As `deviceUevent`, for steps that go on without it: what keeps a message from being sent is only logged. */
export function announce(dev: Device, action: UeventAction): void {
  try {
    deviceUevent(dev, action);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    dev.host.log.debug(`uevent '${action}' is not sent: ${error.message}`, dev.logName());
  }
}

/** The file `uevent` of a device. Source: drivers/base/core.c uevent_show(), uevent_store() */
export function ueventAttribute(dev: Device): Attribute {
  return {
    name: 'uevent',
    mode: 0o644,
    show: () => {
      const env = new UeventEnv(dev.host);
      try {
        if (dev.bus ?? dev.class) fillDeviceEnv(dev, env);
      } catch (error) {
        // Who reads sees an empty file then, not the error.
        if (isSystemError(error)) return '';
        throw error;
      }
      return env.variables.map(([key, value]) => `${key}=${value}\n`).join('');
    },
    store: (text) => {
      synthUevent(dev.host, text, dev.sysfs.devpath(), (action, fill) => send(dev, action, fill));
    },
  };
}

function send(dev: Device, action: UeventAction, fill: (env: UeventEnv) => void): void {
  const { host, sysfs } = deviceRecord(dev);
  const subsystem = (dev.bus ?? dev.class)?.name;
  if (!sysfs || subsystem === undefined) return;
  host.uevents.emit(action, { devpath: sysfs.devpath(), subsystem }, (env) => {
    fill(env);
    fillDeviceEnv(dev, env);
  });
}

/** Source: drivers/base/core.c dev_uevent() */
function fillDeviceEnv(dev: Device, env: UeventEnv): void {
  if (dev.devt && dev.devt.major !== 0) {
    env.addUeventVar('MAJOR', dev.devt.major);
    env.addUeventVar('MINOR', dev.devt.minor);
    const { name, mode } = deviceNodeName(dev);
    env.addUeventVar('DEVNAME', name);
    if (mode !== undefined && mode !== 0) env.addUeventVar('DEVMODE', `0${(mode & 0o777).toString(8)}`);
  }
  if (dev.driver) env.addUeventVar('DRIVER', dev.driver.name);
  dev.options.uevent?.(dev, env);
  dev.bus?.options.uevent?.(dev, env);
  dev.class?.options.uevent?.(dev, env);
}
