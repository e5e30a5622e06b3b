/** How the samples are tried. */
import type { ExerciseTarget } from '@vfio/core';
import { isSystemError } from '@vfio/host';

/** The driver that a mediated device is bound to; undefined for what is no mediated device. */
export function mdevDriverOf({ address, process }: ExerciseTarget): string | undefined {
  try {
    const link = process.readlink(`/sys/bus/mdev/devices/${address}/driver`);
    return link.slice(link.lastIndexOf('/') + 1);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
}
