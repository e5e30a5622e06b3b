/*
 * Where a buffer and a register meet. Variant drivers look with this whether an access touches what they present differently.
 */

/** What a buffer and a register share. */
export interface RangeIntersection {
  /** Bytes from the start of the buffer. */
  readonly bufferOffset: number;
  readonly count: number;
  /** Bytes from the start of the register. */
  readonly registerOffset: number;
}

/**
 * Whether a buffer of `count` bytes for position `start` touches a register of `size` bytes at `register`, and how.
 *
 * @returns undefined - it does not
 * @source drivers/vfio/pci/vfio_pci_config.c vfio_pci_core_range_intersect_range()
 */
export function rangeIntersectRange(
  start: number,
  count: number,
  register: number,
  size: number,
): RangeIntersection | undefined {
  if (start <= register && start + count > register) {
    return {
      bufferOffset: register - start,
      count: Math.min(size, start + count - register),
      registerOffset: 0,
    };
  }
  if (start > register && start < register + size) {
    return {
      bufferOffset: 0,
      count: Math.min(count, register + size - start),
      registerOffset: start - register,
    };
  }
  return undefined;
}
