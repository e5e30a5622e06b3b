// What most requests are refused with.

import { VfioError } from '@vfio/core';

/** A request that makes no sense, with what was found. */
export function invalid(reason: string): VfioError {
  return new VfioError('EINVAL', reason);
}
