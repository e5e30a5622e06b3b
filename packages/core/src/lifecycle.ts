// From nothing to an object and back: allocation, references, release. Registration, which makes the object visible,
// is in registration.ts.

import {
  Completion,
  Device,
  type DeviceClass,
  type DeviceOptions,
  type File,
  KernelBug,
  type Process,
  RefCount,
  Undo,
} from '@vfio/host';
import { VfioDevice } from './device.js';
import { openDeviceCdev } from './device-cdev.js';
import type { DeviceRecord } from './device-record.js';
import { releaseDeviceSet } from './device-set.js';
import { VfioError } from './errors.js';
import { poison } from './poison.js';
import { recordOf } from './references.js';
import type { Vfio } from './vfio.js';

/**
 * Makes a device: constructs it with the driver's options, gives it an index and runs its `init`. Nothing is visible
 * yet, and {@link putDevice} is the only way to end its life.
 *
 * @param Type - the driver's subclass
 * @param dev - the parent, the device that was probed
 * @param options - handed to the constructor
 * @returns the device, with one reference that belongs to the caller
 * @throws EINVAL - `Type` is no VfioDevice
 * @throws ENOMEM, ENOSPC - no memory, no index left
 * @throws whatever `init` throws; `release` is not called then
 * @source drivers/vfio/vfio_main.c _vfio_alloc_device()
 */
export async function allocDevice<O, D extends VfioDevice>(
  vfio: Vfio,
  Type: new (options: O) => D,
  dev: Device,
  options: O,
): Promise<D> {
  const subclass = Type.prototype instanceof VfioDevice;
  if (vfio.host.log.warnOn(!subclass, `vfio_alloc_device: ${Type.name} is too small to hold a vfio_device`)) {
    throw new VfioError('EINVAL', `${Type.name} does not extend VfioDevice`);
  }
  vfio.host.faults.check('vfio_alloc_device:memory');
  const device = new Type(options);
  await initRecord(vfio, device, dev, 'core');
  return device;
}

/**
 * Initialises a device whose structure somebody else made and will free: as {@link allocDevice}, but after its `release`
 * the object only becomes `released`, and its owner decides when it is gone.
 *
 * @throws EINVAL - the device has no `release`, or went through init before
 * @source drivers/vfio/vfio_main.c vfio_init_device() (v6.1)
 */
export async function initDevice(vfio: Vfio, device: VfioDevice, dev: Device): Promise<void> {
  if (!device.release) throw new VfioError('EINVAL', 'a pre-allocated device needs a release operation');
  if (device.state !== 'new') throw new VfioError('EINVAL', `the device is ${device.state} already`);
  await initRecord(vfio, device, dev, 'owner');
}

/**
 * The older model: the driver owns the memory, there is no `release`, and {@link uninitGroupDev} undoes it.
 *
 * @deprecated use {@link allocDevice}
 * @source drivers/vfio/vfio_main.c vfio_init_group_dev() (until v6.1)
 */
export async function initGroupDev(vfio: Vfio, device: VfioDevice, dev: Device): Promise<void> {
  if (device.state !== 'new') throw new VfioError('EINVAL', `the device is ${device.state} already`);
  await initRecord(vfio, device, dev, 'owner');
}

/**
 * Undoes {@link initGroupDev} of a device that nobody holds: leaves its device set and nothing else of the driver's.
 *
 * @deprecated use {@link putDevice}
 * @throws KernelBug - the device is registered or somebody holds it
 * @source drivers/vfio/vfio_main.c vfio_uninit_group_dev() (until v6.1)
 */
export async function uninitGroupDev(device: VfioDevice): Promise<void> {
  const record = recordOf(device);
  if (record.ownedBy !== 'owner' || record.registration.value > 0 || record.device.refCount > 1) {
    throw new KernelBug('refcount', 'uninitGroupDev of a device that is still referenced');
  }
  record.withoutRelease = true;
  record.device.put();
  await record.releasing;
}

/**
 * Takes one more reference on the object.
 *
 * @source include/linux/device.h get_device()
 */
export function getDevice<D extends VfioDevice>(device: D): D {
  recordOf(device).device.get();
  return device;
}

/**
 * Drops a reference. With the last one the device leaves its set, its index becomes free, `release` runs and the object
 * is freed, in this order.
 *
 * @returns when that is done; at once if others still hold the device
 * @source include/linux/vfio.h vfio_put_device()
 */
export async function putDevice(device: VfioDevice): Promise<void> {
  const record = recordOf(device);
  record.device.put();
  await record.releasing;
}

/**
 * Frees the object from within its own `release`, as drivers did before the core took it over: the last thing that a
 * `release` does with it. The core then leaves it alone.
 *
 * @throws KernelBug - called twice, or outside `release`
 * @source drivers/vfio/vfio_main.c vfio_free_device() (v6.1)
 */
export function freeDevice(device: VfioDevice): void {
  // all that is left of a device between this and the end of its release
  const { record } = device;
  if (record?.freedBy !== undefined)
    throw new KernelBug('double-free', `${record.name} was freed already`, { origin: record.freedBy });
  const known = recordOf(device);
  if (!known.inRelease) throw new KernelBug('double-free', `freeDevice(${known.name}) outside of its release`);
  free(device, known);
}

/** Ends the object; in checked mode nothing but its record can be touched from here on. */
function free(device: VfioDevice, record: DeviceRecord): void {
  const { checked } = record.vfio.host;
  // a stack takes as long to write down as the rest of the object's end
  record.freedBy = (checked && new Error('freed here').stack) || 'freed before';
  device.state = 'freed';
  if (checked) poison(device, record.name, record.freedBy, 'record');
}

/** What a device's own `struct device` is made of. There are many of them: one object, and no functions of its own. */
class OwnDevice implements DeviceOptions {
  readonly parent: Device;
  readonly class: DeviceClass;
  readonly #device: VfioDevice;

  constructor(device: VfioDevice, parent: Device, deviceClass: DeviceClass) {
    this.#device = device;
    this.parent = parent;
    this.class = deviceClass;
  }

  /** Names its registration references in reports. */
  describe(): string {
    return `${recordOf(this.#device).name} registration`;
  }

  open(_process: Process, flags: number): File {
    return openDeviceCdev(this.#device, flags);
  }

  release(): void {
    const record = recordOf(this.#device);
    const { lockdep } = record.vfio.host;
    record.releasing = lockdep.enter(`release ${record.name}`, () => dismantle(this.#device, record));
  }
}

async function initRecord(vfio: Vfio, device: VfioDevice, dev: Device, ownedBy: 'core' | 'owner'): Promise<void> {
  const { host } = vfio;
  await using undo = new Undo();
  const index = vfio.indexes.alloc();
  undo.add(() => vfio.indexes.free(index));
  const inode = vfio.pseudoFs.newInode();
  undo.add(() => inode.put());
  const name = `vfio${index}`;
  const own = new OwnDevice(device, dev, vfio.deviceClass);
  const record: DeviceRecord = {
    vfio,
    dev,
    index,
    name,
    inode,
    ownedBy,
    inRelease: false,
    cdevOpened: false,
    debugRoot: undefined,
    withoutRelease: false,
    registration: new RefCount(host, own),
    unregistered: new Completion(host, name),
    tracked: host.tracker.track('vfio-device', () => `${name} of ${dev.name}, ${device.state}`),
    device: new Device(own),
  };
  undo.add(() => record.tracked.release());
  device.record = record;
  undo.add(() => {
    device.record = undefined;
  });
  undo.add(() => releaseDeviceSet(device));
  if (device.init) await device.init();
  undo.keep();
  host.devices.init(record.device);
  device.state = 'allocated';
}

/** Source: drivers/vfio/vfio_main.c vfio_device_release() */
async function dismantle(device: VfioDevice, record: DeviceRecord): Promise<void> {
  const { vfio, name } = record;
  await releaseDeviceSet(device);
  vfio.indexes.free(record.index);
  try {
    record.inRelease = true;
    if (!record.withoutRelease) device.release?.();
  } finally {
    record.inRelease = false;
    record.inode.put();
    record.tracked.release();
    if (record.freedBy === undefined) {
      device.state = 'released';
      if (record.ownedBy === 'core') free(device, record);
    }
    if (record.freedBy !== undefined && vfio.host.checked) poison(device, name, record.freedBy);
  }
}
