// DMA logging of a device: which memory it wrote to.

import {
  deviceFeatureDmaLoggingControl,
  deviceFeatureDmaLoggingRange,
  deviceFeatureDmaLoggingReport,
  Feature,
} from '@vfio/core';
import type { Device } from './device.js';
import { bitmapBytes, bitmapOf, Scratch } from './scratch.js';

/** The DMA logging features of a device. */
export class DmaLogging {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  /**
   * Starts to log.
   *
   * @param pageSize - bytes, a wish
   * @returns the granularity that the device chose, in bytes
   */
  async start(ranges: readonly { iova: bigint; length: bigint }[], pageSize: bigint): Promise<bigint> {
    const { transport } = this.#device;
    const order = transport.byteOrder;
    const { size } = deviceFeatureDmaLoggingRange;
    using memory = new Scratch(transport, ranges.length * size);
    const list = new Uint8Array(ranges.length * size);
    for (const [i, range] of ranges.entries()) list.set(deviceFeatureDmaLoggingRange.encode(range, order), i * size);
    memory.write(list);
    const control = { pageSize, numRanges: ranges.length, ranges: memory.address };
    const answer = await this.#device.setFeature(
      Feature.DMA_LOGGING_START,
      deviceFeatureDmaLoggingControl.encode(control, order),
    );
    return deviceFeatureDmaLoggingControl.decode(answer, order).pageSize;
  }

  async stop(): Promise<void> {
    await this.#device.setFeature(Feature.DMA_LOGGING_STOP, new Uint8Array(0));
  }

  /** Reports and forgets: bit k%8 of byte k/8 is the page at `iova + k * pageSize`. */
  async report(iova: bigint, length: bigint, pageSize: bigint): Promise<Uint8Array> {
    const { transport } = this.#device;
    using memory = new Scratch(transport, bitmapBytes(length, pageSize));
    const value = deviceFeatureDmaLoggingReport.encode(
      { iova, length, pageSize, bitmap: memory.address },
      transport.byteOrder,
    );
    await this.#device.getFeature(Feature.DMA_LOGGING_REPORT, value.length, value);
    return bitmapOf(memory.bytes(), transport.byteOrder);
  }
}
