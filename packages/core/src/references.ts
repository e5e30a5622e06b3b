// References on a device: whoever delivers something to it, or has it open, holds a registration reference, and
// unregister waits for all of them.

import { VfioDevice } from './device.js';
import type { DeviceRecord } from './device-record.js';

/**
 * Takes a registration reference, for somebody who delivers events to the device on his own account.
 *
 * @returns false once the device is unregistered, for ever
 * @source drivers/vfio/vfio_main.c vfio_device_try_get_registration()
 */
export function tryGetRegistration(device: VfioDevice): boolean {
  const record = recordOf(device);
  if (!record.registration.incNotZero()) return false;
  const what = () => `registration of ${record.name}`;
  record.users ??= [];
  record.users.push(record.vfio.host.tracker.track('reference', what, tryGetRegistration));
  return true;
}

/**
 * Drops a registration reference.
 *
 * @source drivers/vfio/vfio_main.c vfio_device_put_registration()
 */
export function putRegistration(device: VfioDevice): void {
  const record = recordOf(device);
  // one reference is like another: the youngest stands for the one that goes
  record.users?.pop()?.release();
  dropRegistration(record);
}

/** Drops a reference that was not taken by `tryGetRegistration`: the one of being registered. */
export function dropRegistration(record: DeviceRecord): void {
  if (record.registration.decAndTest()) record.unregistered.complete();
}

/** @deprecated the name until v6.1 of {@link tryGetRegistration} */
export const deviceTryGet = tryGetRegistration;

/** @deprecated the name until v6.1 of {@link putRegistration} */
export const devicePut = putRegistration;

/** What the core keeps about a device; a caller that has not initialised it has a bug. */
export function recordOf(device: VfioDevice): DeviceRecord {
  // first of all: a device that was freed says so itself, and is no VfioDevice any more
  const { record } = device;
  if (!(device instanceof VfioDevice) || !record) {
    throw new TypeError('the device has not been through allocDevice or initDevice');
  }
  return record;
}
