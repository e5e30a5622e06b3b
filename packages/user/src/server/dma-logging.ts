// DMA logging as it travels: ranges and bitmaps follow the structure, where VFIO has addresses of the caller's memory.

import type { Device } from '@vfio/client';
import {
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingRange,
  deviceFeatureDmaLoggingReport,
} from '@vfio/core';
import { invalid } from './refusal.js';

/** A range to log. */
interface LoggingRange {
  readonly iova: bigint;
  readonly length: bigint;
}

/** Bytes of page size and number, before the ranges. */
const startHead = deviceFeatureDmaLoggingControl.offsetOf('ranges');
/** A bitmap is made of these. */
const wordBits = 64n;

/**
 * The data of DMA_LOGGING_START.
 *
 * @returns ranges and page size
 * @throws VfioError EINVAL - the number of ranges is not what follows
 */
export function loggingRanges(data: Uint8Array): [LoggingRange[], bigint] {
  if (data.length < startHead) throw invalid(`${data.length} bytes do not hold a head`);
  const { pageSize, numRanges } = deviceFeatureDmaLoggingControl.decode(data.subarray(0, startHead), 'little');
  const { size } = deviceFeatureDmaLoggingRange;
  if (data.length !== startHead + numRanges * size) throw invalid(`${numRanges} ranges in ${data.length} bytes`);
  return [deviceFeatureDmaLoggingRange.decodeArray(data, 'little', startHead, numRanges), pageSize];
}

/**
 * The bitmap that answers DMA_LOGGING_REPORT, whole words of 64 bits.
 *
 * @param data - address, length, page size
 * @param most - bytes that the bitmap may have
 * @throws VfioError EINVAL - the page size is no power of two, or the bitmap too long
 */
export async function loggingBitmap(device: Device, data: Uint8Array, most: number): Promise<Uint8Array> {
  const { iova, length, pageSize } = deviceFeatureDmaLoggingReport.decode(data, 'little');
  if (pageSize === 0n || (pageSize & (pageSize - 1n)) !== 0n) throw invalid(`page size ${pageSize}`);
  const pages = (length + pageSize - 1n) / pageSize;
  const bytes = ((pages + wordBits - 1n) / wordBits) * (wordBits / 8n);
  if (bytes > BigInt(most)) throw invalid(`a bitmap of ${bytes} bytes`);
  const bits = new Uint8Array(Number(bytes));
  bits.set((await device.dmaLogging.report(iova, length, pageSize)).subarray(0, bits.length));
  return bits;
}
