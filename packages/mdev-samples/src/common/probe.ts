/** How the samples take a mediated device, and give it back. */
import {
  allocDevice,
  putDevice,
  registerEmulatedIommuDev,
  unregisterGroupDev,
  type Vfio,
  type VfioDevice,
} from '@vfio/core';
import { Undo } from '@vfio/host';
import type { MdevDevice } from '@vfio/mdev';

/**
 * Makes the VFIO device of a mediated device and registers it.
 *
 * @throws what the `init` of `Type` throws; EINVAL, ENOMEM - as `allocDevice` and `registerEmulatedIommuDev`
 * @source samples/vfio-mdev/mtty.c mtty_probe(), mdpy.c mdpy_probe(), mbochs.c mbochs_probe()
 */
export async function probeSample<T extends VfioDevice, Options>(
  vfio: Vfio,
  Type: new (options: Options) => T,
  mdev: MdevDevice,
  options: Options,
): Promise<T> {
  await using undo = new Undo();
  const device = await allocDevice(vfio, Type, mdev, options);
  undo.add(() => putDevice(device));
  await registerEmulatedIommuDev(device);
  undo.keep();
  return device;
}

/**
 * Waits for the users of a device, and lets go of it.
 *
 * @source samples/vfio-mdev/mtty.c mtty_remove(), mdpy.c mdpy_remove(), mbochs.c mbochs_remove()
 */
export async function removeSample(device: VfioDevice): Promise<void> {
  await unregisterGroupDev(device);
  await putDevice(device);
}
