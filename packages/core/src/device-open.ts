// First open and last close of a device, whichever door its user came through. The lock of the device's set is held.

import { Undo } from '@vfio/host';
import type { Deferred, DeviceBackend } from './backend.js';
import type { VfioDevice } from './device.js';
import type { DeviceSet } from './device-set.js';
import { VfioError } from './errors.js';
import { recordOf } from './references.js';

/**
 * One more user of a device; the first one opens it.
 *
 * @param use - takes the backend that the first open chooses
 * @param deferred - steps for when the locks are free, also after a failure
 * @throws ENODEV - the driver's module is going
 * @throws whatever `use` and `openDevice` throw; all is as before then
 * @source drivers/vfio/vfio_main.c vfio_df_open()
 */
export async function dfOpen(device: VfioDevice, use: () => Promise<DeviceBackend>, deferred: Deferred): Promise<void> {
  device.openCount++;
  try {
    if (device.openCount === 1) await openFirst(device, use, deferred);
  } catch (error) {
    device.openCount--;
    throw error;
  }
}

/** Source: drivers/vfio/vfio_main.c vfio_df_device_first_open() */
async function openFirst(device: VfioDevice, use: () => Promise<DeviceBackend>, deferred: Deferred): Promise<void> {
  const record = recordOf(device);
  const module = device.dev.driver?.module;
  await using undo = new Undo();
  if (module) {
    if (!module.tryGet()) throw new VfioError('ENODEV', `module ${module.name} is going`, { syscall: 'open' });
    undo.add(() => module.put());
  }
  const backend = await use();
  undo.add(() => backend.release(device, deferred));
  // Differs: the last close gives back what this open took, whatever the group is set to by then.
  // It is in place before the driver's turn, which may reach the user's memory already
  record.opened = { backend, module };
  undo.add(() => {
    record.opened = undefined;
  });
  if (device.openDevice) await device.openDevice();
  undo.keep();
}

/**
 * One user less; the last one closes the device.
 *
 * @throws whatever `closeDevice` and `unbindIommufd` throw, a bug of the driver; everything is given back all the same
 * @source drivers/vfio/vfio_main.c vfio_df_close()
 */
export async function dfClose(device: VfioDevice, deferred: Deferred): Promise<void> {
  if (!assertDeviceOpen(device)) return;
  try {
    if (device.openCount === 1) await closeLast(device, deferred);
  } finally {
    device.openCount--;
  }
}

/** Source: drivers/vfio/vfio_main.c vfio_df_device_last_close() */
async function closeLast(device: VfioDevice, deferred: Deferred): Promise<void> {
  const record = recordOf(device);
  const { opened } = record;
  await using rest = new Undo();
  rest.add(() => {
    device.precopyInfoV2 = false;
    record.opened = undefined;
    opened?.module?.put();
  });
  rest.add(() => opened?.backend.release(device, deferred));
  if (device.closeDevice) await device.closeDevice();
}

/**
 * Whether somebody has the device open. Who calls without has a bug: the first time on a host is warned of.
 *
 * @source drivers/vfio/vfio_main.c vfio_assert_device_open()
 */
export function assertDeviceOpen(device: VfioDevice): boolean {
  const { log } = device.vfio.host;
  return !log.warnOnOnce(assertDeviceOpen, device.openCount === 0, `${device.name} is used and not open`);
}

/** The set of a registered device. */
export function setOf(device: VfioDevice): DeviceSet {
  if (!device.deviceSet) throw new TypeError(`${device.name} is in no device set`);
  return device.deviceSet;
}

/** Does what waited for the locks, each step also when one before it fails. */
export async function runDeferred(deferred: Deferred): Promise<void> {
  if (deferred.length === 0) return;
  await using steps = new Undo();
  // the first one runs first
  for (const step of deferred.splice(0).reverse()) steps.add(step);
}
