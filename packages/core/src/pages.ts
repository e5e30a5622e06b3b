// What an emulated device does with its user's memory: pin pages of it, unpin them, copy from and to it.

import type { AddressSpace } from '@vfio/host';
import type { DeviceBackend } from './backend.js';
import type { VfioDevice } from './device.js';
import { assertDeviceOpen } from './device-open.js';
import { VfioError } from './errors.js';
import type { PinnedPage } from './iommu-driver.js';

/** Whether the device is closed, which each call of `caller` warns of. */
function warnClosed(device: VfioDevice, caller: string): boolean {
  return device.vfio.host.log.warnOn(!assertDeviceOpen(device), `${caller}: ${device.name} is not open`);
}

function backendOf(device: VfioDevice): DeviceBackend | undefined {
  return device.record?.opened?.backend;
}

/**
 * Pins pages of the user's memory, so that an emulated device can reach them until it unpins them.
 *
 * @param iova - first byte; the offset within its page is ignored
 * @param npage - pages, 512 at most
 * @param prot - Prot bits that the mapping must allow
 * @returns the pages, in order; all or nothing
 * @throws EINVAL - no pages, the device is not open or has no `dmaUnmap`, or a page is not mapped
 * @throws E2BIG - more than 512 pages
 * @throws ENOTTY - the IOMMU driver can not pin
 * @throws EACCES - a type1 container of version 1
 * @throws EPERM - the mapping does not allow the access
 * @throws EBUSY, EOVERFLOW, EFAULT, ENOMEM - as type1 finds the pages
 * @source drivers/vfio/vfio_main.c vfio_pin_pages()
 */
export async function pinPages(device: VfioDevice, iova: bigint, npage: number, prot: number): Promise<PinnedPage[]> {
  if (npage === 0) throw invalid(device, 'no pages');
  if (warnClosed(device, 'vfio_pin_pages')) throw invalid(device, 'the device is not open');
  if (!device.dmaUnmap) throw invalid(device, 'a device without dmaUnmap can not pin');
  const backend = backendOf(device);
  if (!backend) throw invalid(device, 'nothing to pin with');
  return await backend.pinPages(device, iova, npage, prot);
}

/**
 * Gives back pages that {@link pinPages} pinned. Stops at the first page that is not mapped.
 *
 * @source drivers/vfio/vfio_main.c vfio_unpin_pages()
 */
export async function unpinPages(device: VfioDevice, iova: bigint, npage: number): Promise<void> {
  const { log } = device.vfio.host;
  if (warnClosed(device, 'vfio_unpin_pages')) return;
  if (log.warnOn(!device.dmaUnmap, `vfio_unpin_pages: ${device.name} has no dma_unmap`)) return;
  await backendOf(device)?.unpinPages(device, iova, npage);
}

/**
 * Copies between `bytes` and the user's memory behind an IOVA, as the CPU does. May span adjacent mappings; what was
 * copied before an error stays.
 *
 * @param write - true: from `bytes` to the user's memory
 * @param caller - address space of the task that the device works for; undefined for work of its own
 * @throws EINVAL - no bytes, the device is not open, or the IOVA is not mapped
 * @throws EPERM - the mapping does not allow it, or its owner is gone
 * @throws EFAULT - the memory is not there, or belongs to another process than the caller's
 * @throws ENOTTY - the IOMMU driver can not copy
 * @source drivers/vfio/vfio_main.c vfio_dma_rw()
 */
export async function dmaRw(
  device: VfioDevice,
  iova: bigint,
  bytes: Uint8Array,
  write: boolean,
  caller?: AddressSpace,
): Promise<void> {
  if (bytes.length === 0) throw invalid(device, 'no bytes');
  if (!assertDeviceOpen(device)) throw invalid(device, 'the device is not open');
  const backend = backendOf(device);
  if (!backend) throw invalid(device, 'nothing behind the device');
  await backend.dmaRw(device, iova, bytes, write, caller);
}

function invalid(device: VfioDevice, reason: string): VfioError {
  return new VfioError('EINVAL', reason, { subject: device.name });
}
