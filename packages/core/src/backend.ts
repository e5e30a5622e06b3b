// What stands behind an open device and keeps its user's memory: a container, or an iommufd. Chosen by the first open,
// kept until the last close, whatever happens to the group in between.

import type { AddressSpace } from '@vfio/host';
import type { VfioDevice } from './device.js';
import type { PinnedPage } from './iommu-driver.js';

/**
 * Steps that wait until locks are free that they want too: the last references of files, as a task puts them when it
 * returns to user space.
 */
export type Deferred = (() => Promise<void>)[];

/** Source: drivers/vfio/vfio.h vfio_device_has_container(), struct vfio_device.iommufd_access */
export interface DeviceBackend {
  /** The last close: gives back what the first open took. */
  release(device: VfioDevice, deferred: Deferred): Promise<void>;
  /** As {@link pinPages} of the device, whose arguments are checked. */
  pinPages(device: VfioDevice, iova: bigint, npage: number, prot: number): Promise<PinnedPage[]>;
  /** As {@link unpinPages} of the device. */
  unpinPages(device: VfioDevice, iova: bigint, npage: number): Promise<void>;
  /** As {@link dmaRw} of the device. */
  dmaRw(device: VfioDevice, iova: bigint, bytes: Uint8Array, write: boolean, caller?: AddressSpace): Promise<void>;
}
