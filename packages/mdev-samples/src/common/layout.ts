/** Where the regions of a sample lie in its device file: as those of vfio-pci, one every 2^40 bytes. */

/** Bytes from the start of one region to the start of the next. */
export const REGION_STRIDE = 2 ** 40;

/** Config space of every sample has one byte less than that of a PCI function. */
export const CONFIG_SPACE_SIZE = 0xff;

/** The region that a position of the device file lies in. */
export function regionIndexAt(position: number): number {
  return Math.floor(position / REGION_STRIDE);
}

/** Bytes from the start of the region that a position lies in. */
export function regionOffsetAt(position: number): number {
  return position - regionIndexAt(position) * REGION_STRIDE;
}

/** Start of a region in the device file, as region info reports it. */
export function regionStart(index: number): bigint {
  return BigInt(index) * BigInt(REGION_STRIDE);
}
