// Where the regions of a device lie in its file. Users take it from region info; by convention most drivers agree.

/** Bytes from the start of one region to the start of the next. */
export const REGION_STRIDE = 2 ** 40;

/**
 * The region that a position of the device file lies in.
 *
 * @source include/linux/vfio_pci_core.h VFIO_PCI_OFFSET_TO_INDEX
 */
export function regionIndexAt(position: number): number {
  return Math.floor(position / REGION_STRIDE);
}

/** Bytes from the start of the region that a position lies in. */
export function regionOffsetAt(position: number): number {
  return position % REGION_STRIDE;
}

/**
 * Start of a region in the device file, as region info reports it.
 *
 * @source include/linux/vfio_pci_core.h VFIO_PCI_INDEX_TO_OFFSET
 */
export function regionStart(index: number): bigint {
  return BigInt(index) * BigInt(REGION_STRIDE);
}
