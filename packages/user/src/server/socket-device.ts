// What VFIO has no words for and vfio-user has: a device may know its client's memory, and ask to be rung rather than written
// to. Most devices want neither; one that does says so by a mark, and the server looks for it.

import { DeviceFile, type VfioDevice } from '@vfio/core';
import type { Process } from '@vfio/host';

/** The mark. */
export const socketDevice: unique symbol = Symbol.for('vfio.user.SocketDevice');

/** The client of a device, as far as the device has to do with it. */
export interface SocketClient {
  /** DMA regions that it has mapped. */
  readonly dmaRegions: number;
  /**
   * Fills `into` from its memory by messages, also where a descriptor of it is known.
   *
   * @throws VfioError - the errno of the client; EIO, ETIMEDOUT, ECONNRESET
   */
  readMemory(address: bigint, into: Uint8Array): Promise<void>;
  /** Writes `from`, which stays as it is until this is done, to its memory by messages; as {@link readMemory}. */
  writeMemory(address: bigint, from: Uint8Array): Promise<void>;
}

/** A place in a region where an eventfd stands for a write. */
export interface Doorbell {
  readonly offset: number;
  /** Bytes of the write; 0 for any. */
  readonly size: number;
  /** The only value that is meant; any without it. */
  readonly datamatch?: bigint;
  /** Doorbells of a region with the same number share an eventfd. */
  readonly wire: number;
}

/** A device that has to do with its client. */
export interface SocketDevice {
  readonly [socketDevice]: true;
  /** A client has opened it, or is gone. */
  setClient(client: SocketClient | undefined): void;
  /** Doorbells of a region. */
  doorbells(region: number): readonly Doorbell[];
  /** A wire of a region has been rung. */
  ring(region: number, wire: number): void;
}

/** The device behind a descriptor, if it has to do with its client. */
export function socketDeviceOf(process: Process, fd: number): SocketDevice | undefined {
  const file = process.files.get(fd);
  return file instanceof DeviceFile && marked(file.user.device) ? file.user.device : undefined;
}

function marked(device: VfioDevice): device is VfioDevice & SocketDevice {
  return socketDevice in device;
}
