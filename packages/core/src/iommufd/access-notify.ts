/** Telling accesses that a range goes. */
import type { IoPagetable } from './io-pagetable.js';

/**
 * Asks every access of an address space to let go of a range. Each stays alive meanwhile; no lock is held.
 *
 * @source drivers/iommu/iommufd/device.c iommufd_access_notify_unmap()
 */
export async function notifyUnmap(iopt: IoPagetable, iova: bigint, length: bigint): Promise<void> {
  for (const access of [...iopt.accesses]) {
    const { objects } = access.context;
    if (!iopt.accesses.has(access) || !objects.lock(access)) continue;
    try {
      await access.ops.unmap?.(iova, length);
    } finally {
      objects.put(access);
    }
  }
}
