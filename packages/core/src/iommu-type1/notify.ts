/**
 * The devices of a container hear of memory that goes away. They answer by unpinning, which needs the container's lock, so
 * they are told while only the list of devices is held.
 */
import type { DmaUnmapListener } from '../iommu-driver.js';
import type { Type1State } from './state.js';

/**
 * Tells every device, newest first, that a mapping is about to go.
 *
 * Differs: the container's lock is given up before the list is taken, not after. The other way round a device that is
 * opened meanwhile, and one that unpins, wait for each other.
 *
 * @param iova - first byte of the mapping
 * @param size - its bytes
 * @source drivers/vfio/vfio_iommu_type1.c vfio_notify_dma_unmap()
 */
export async function notifyDmaUnmap(state: Type1State, iova: bigint, size: bigint): Promise<void> {
  using _list = await state.deviceListLock.lock();
  for (const device of state.devices) await device.dmaUnmap?.(iova, size);
}

/**
 * A device was opened. Only those that can be told of an unmap enter the list, for only they may pin.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_register_device()
 */
export async function registerDevice(state: Type1State, device: DmaUnmapListener): Promise<void> {
  if (!device.dmaUnmap) return;
  using _list = await state.deviceListLock.lock();
  using _held = await state.lock.lock();
  state.devices.unshift(device);
}

/**
 * A device was closed. Waits for a notification under way.
 *
 * @source drivers/vfio/vfio_iommu_type1.c vfio_iommu_type1_unregister_device()
 */
export async function unregisterDevice(state: Type1State, device: DmaUnmapListener): Promise<void> {
  if (!device.dmaUnmap) return;
  using _list = await state.deviceListLock.lock();
  using _held = await state.lock.lock();
  const index = state.devices.indexOf(device);
  if (index >= 0) state.devices.splice(index, 1);
}
