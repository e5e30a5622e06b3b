// The iommufd operations of drivers whose devices do DMA by themselves: bind, attach, detach, unbind, also by PASID. Such
// drivers register with registerGroupDev.

import type { VfioDevice } from './device.js';
import { setOf } from './device-open.js';
import { VfioError } from './errors.js';
import { deviceAttach, deviceDetach, deviceReplace } from './iommufd/attach.js';
import type { IommufdContext } from './iommufd/context.js';
import { deviceBind, deviceUnbind, type IommufdDevice } from './iommufd/device.js';
import { recordOf } from './references.js';

/** Ids of PASIDs are kept in a table of numbers that are positive in 32 bits. */
const maxPasid = 0x7fff_ffff;

/** What a device is bound to. */
export interface PhysicalBinding {
  readonly device: IommufdDevice;
  /** The device itself is attached. */
  attached: boolean;
  /** PASIDs that are attached. */
  readonly pasids: Set<number>;
}

function warnUnbound(device: VfioDevice, caller: string): PhysicalBinding | undefined {
  setOf(device).lock.assertHeld();
  const { physical } = recordOf(device);
  device.vfio.host.log.warnOn(!physical, `${caller}: ${device.name} is not bound`);
  return physical;
}

function unbound(device: VfioDevice): VfioError {
  return new VfioError('EINVAL', 'the device is not bound to an iommufd', { subject: device.name });
}

/**
 * `bindIommufd` of a physical device: the context becomes the owner of its DMA.
 *
 * @returns the id of the device
 * @throws EINVAL - DMA of the device is not coherent with caches
 * @throws ENODEV, EPERM, EBUSY, ENOMEM, ENOSPC - as `deviceBind` of the iommufd says
 * @source drivers/vfio/iommufd.c vfio_iommufd_physical_bind()
 */
export async function iommufdPhysicalBind(device: VfioDevice, context: IommufdContext): Promise<number> {
  setOf(device).lock.assertHeld();
  const bound = await deviceBind(context, device.dev);
  recordOf(device).physical = { device: bound, attached: false, pasids: new Set() };
  return bound.id;
}

/**
 * `unbindIommufd` of a physical device: detaches every PASID and the device, and gives up the ownership.
 *
 * @source drivers/vfio/iommufd.c vfio_iommufd_physical_unbind()
 */
export async function iommufdPhysicalUnbind(device: VfioDevice): Promise<void> {
  const binding = warnUnbound(device, 'vfio_iommufd_physical_unbind');
  if (!binding) return;
  for (const pasid of binding.pasids) await deviceDetach(binding.device, pasid);
  if (binding.attached) await deviceDetach(binding.device);
  recordOf(device).physical = undefined;
  await deviceUnbind(binding.device);
}

/**
 * `attachIoas` of a physical device. One that is attached moves, and stays where it is if that fails.
 *
 * @returns id of the page table in use
 * @throws ENOENT, EINVAL, EBUSY, EADDRINUSE, EFAULT, ENOMEM - as `deviceAttach` of the iommufd says
 * @source drivers/vfio/iommufd.c vfio_iommufd_physical_attach_ioas()
 */
export async function iommufdPhysicalAttachIoas(device: VfioDevice, ptId: number): Promise<number> {
  const binding = warnUnbound(device, 'vfio_iommufd_physical_attach_ioas');
  if (!binding) throw unbound(device);
  const change = binding.attached ? deviceReplace : deviceAttach;
  const id = await change(binding.device, ptId);
  binding.attached = true;
  return id;
}

/**
 * `detachIoas` of a physical device; does nothing with one that is not attached.
 *
 * @source drivers/vfio/iommufd.c vfio_iommufd_physical_detach_ioas()
 */
export async function iommufdPhysicalDetachIoas(device: VfioDevice): Promise<void> {
  const binding = warnUnbound(device, 'vfio_iommufd_physical_detach_ioas');
  if (!binding?.attached) return;
  await deviceDetach(binding.device);
  binding.attached = false;
}

/**
 * `pasidAttachIoas` of a physical device, as {@link iommufdPhysicalAttachIoas}.
 *
 * @throws ENOSPC - no PASID can be that big
 * @source drivers/vfio/iommufd.c vfio_iommufd_physical_pasid_attach_ioas()
 */
export async function iommufdPhysicalPasidAttachIoas(device: VfioDevice, pasid: number, ptId: number): Promise<number> {
  const binding = warnUnbound(device, 'vfio_iommufd_physical_pasid_attach_ioas');
  if (!binding) throw unbound(device);
  if (binding.pasids.has(pasid)) return await deviceReplace(binding.device, ptId, pasid);
  if (pasid > maxPasid) throw new VfioError('ENOSPC', `PASID ${pasid}`, { subject: device.name });
  const id = await deviceAttach(binding.device, ptId, pasid);
  binding.pasids.add(pasid);
  return id;
}

/** Source: drivers/vfio/iommufd.c vfio_iommufd_physical_pasid_detach_ioas() */
export async function iommufdPhysicalPasidDetachIoas(device: VfioDevice, pasid: number): Promise<void> {
  const binding = warnUnbound(device, 'vfio_iommufd_physical_pasid_detach_ioas');
  if (!binding?.pasids.has(pasid)) return;
  await deviceDetach(binding.device, pasid);
  binding.pasids.delete(pasid);
}
