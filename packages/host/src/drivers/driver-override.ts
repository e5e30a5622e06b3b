/*
 * The file `driver_override`: user space names the only driver that may have a device.
 */
import { SystemError } from '../errors.js';
import type { AttributeGroup } from '../sysfs/attribute.js';
import { cString } from '../sysfs/parse.js';
import type { Device } from './device.js';

/** Bytes that a text must stay below, so that it can be shown with a newline. */
const LIMIT = 4095;

/**
 * Names the only driver that may have a device, or none for the free choice.
 *
 * @param text - the name; what follows a newline is cut off, and an empty name takes the override away
 * @throws EINVAL - 4095 bytes or more
 * @throws ENOMEM
 * @source drivers/base/dd.c __device_set_driver_override()
 */
export function setDriverOverride(dev: Device, text: string): void {
  if (text.length >= LIMIT)
    throw new SystemError('EINVAL', `${text.length} bytes are too long for the name of a driver`);
  const [name = ''] = cString(text).split('\n', 1);
  if (name !== '') dev.host.faults.check('device_set_driver_override:name');
  dev.driverOverride = name === '' ? undefined : name;
}

/**
 * What a device's override says of a driver.
 *
 * @returns whether it names the driver; undefined when there is none
 * @source include/linux/device.h device_match_driver_override()
 */
export function matchDriverOverride(dev: Device, driverName: string): boolean | undefined {
  return dev.driverOverride === undefined ? undefined : dev.driverOverride === driverName;
}

/** The file, for devices of a bus that has it. */
export function driverOverrideGroup(dev: Device): AttributeGroup {
  return {
    attributes: [
      {
        name: 'driver_override',
        mode: 0o644,
        show: () => `${dev.driverOverride ?? '(null)'}\n`,
        store: (text) => setDriverOverride(dev, text),
      },
    ],
  };
}
