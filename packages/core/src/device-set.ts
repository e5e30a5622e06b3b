// Device sets: devices that share a reset or a lock. Whoever opens first or closes last, binds, attaches or resets does
// so under the set's lock.

import { type Device, Mutex } from '@vfio/host';
import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import type { Vfio } from './vfio.js';

/** What devices of one set have in common; compared by identity. */
export type SetId = object | string | number | bigint | symbol;

/** The devices that have one key. Source: include/linux/vfio.h `struct vfio_device_set` */
export class DeviceSet {
  readonly setId: SetId;
  /** Held over first open and last close, bind, attach and hot reset of all members. */
  readonly lock: Mutex;
  /** Members, oldest first. */
  devices: readonly VfioDevice[] = [];
  /** Members counted under the map's lock, so that a set that is being joined can not vanish. */
  deviceCount = 1;

  constructor(vfio: Vfio, setId: SetId) {
    this.setId = setId;
    this.lock = new Mutex(vfio.host, 'vfio_device_set');
  }

  /**
   * Open files of all members; the lock must be held.
   *
   * @source drivers/vfio/vfio_main.c vfio_device_set_open_count()
   */
  openCount(): number {
    this.lock.assertHeld();
    return this.devices.reduce((sum, device) => sum + device.openCount, 0);
  }

  /**
   * The member whose parent is `dev`; the lock must be held.
   *
   * @source drivers/vfio/vfio_main.c vfio_find_device_in_devset()
   */
  find(dev: Device): VfioDevice | undefined {
    this.lock.assertHeld();
    return this.devices.find((device) => device.dev === dev);
  }
}

/**
 * Puts a device in the set that `setId` names, and makes the set on first use. A device without a set gets one of its
 * own at registration.
 *
 * @param setId - a slot, a bus, the device itself
 * @throws EINVAL - no key, or the device is in a set already
 * @throws ENOMEM - no memory for the set
 * @source drivers/vfio/vfio_main.c vfio_assign_device_set()
 */
export async function assignDeviceSet(device: VfioDevice, setId: SetId | null | undefined): Promise<void> {
  const { vfio } = device;
  const { log, faults, scheduler } = vfio.host;
  if (log.warnOn(setId === null || setId === undefined, 'vfio_assign_device_set: no key') || setId == null) {
    throw new VfioError('EINVAL', 'a device set needs a key');
  }
  if (log.warnOn(device.deviceSet !== undefined, 'vfio_assign_device_set: the device is in a set already')) {
    throw new VfioError('EINVAL', 'the device is in a set already');
  }
  let set = vfio.deviceSets.get(setId);
  if (set) set.deviceCount++;
  else {
    faults.check('vfio_assign_device_set:set');
    const fresh = new DeviceSet(vfio, setId);
    // the map is not locked while the new set is made: somebody else may have been quicker
    const turn = scheduler.switchPoint('vfio_assign_device_set');
    if (turn !== undefined) await turn;
    set = vfio.deviceSets.get(setId);
    if (set) set.deviceCount++;
    else {
      faults.check('vfio_assign_device_set:insert');
      vfio.deviceSets.set(setId, fresh);
      set = fresh;
    }
  }
  using _held = await set.lock.lock();
  device.deviceSet = set;
  set.devices = set.devices.concat(device);
}

/**
 * Takes a device out of its set; the last one takes the set along.
 *
 * @source drivers/vfio/vfio_main.c vfio_release_device_set()
 */
export async function releaseDeviceSet(device: VfioDevice): Promise<void> {
  const set = device.deviceSet;
  if (!set) return;
  {
    using _held = await set.lock.lock();
    set.devices = set.devices.filter((member) => member !== device);
  }
  device.deviceSet = undefined;
  set.deviceCount--;
  if (set.deviceCount === 0) device.vfio.deviceSets.delete(set.setId);
}
