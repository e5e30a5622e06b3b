// Migration of a device: its states, and the streams that carry what it remembers.

import {
  deviceFeatureMigDataSize,
  deviceFeatureMigration,
  deviceFeatureMigState,
  Feature,
  MigrationFlag,
  MigState,
  precopyInfo,
  Request,
  VfioError,
} from '@vfio/core';
import { Descriptor } from './call.js';
import type { Device } from './device.js';
import type { Transport } from './transport.js';

/** Name of a state: `RUNNING`, `STOP_COPY`, ... */
export type MigStateName = keyof typeof MigState;

/** The name of a state, as the header has it. */
export function migStateName(state: number): MigStateName | undefined {
  for (const name of Object.keys(MigState) as MigStateName[]) if (MigState[name] === state) return name;
  return undefined;
}

/** What is still to come before a device can be stopped without much to copy. */
export interface PrecopyInfo {
  readonly flags: number;
  /** Bytes. */
  readonly initialBytes: bigint;
  readonly dirtyBytes: bigint;
}

/** The data file of a migration: read from it to save, write to it to resume. */
export class MigrationStream extends Descriptor {
  /** Reads up to `length` bytes; none at the end. */
  async read(length: number): Promise<Uint8Array> {
    const bytes = new Uint8Array(length);
    const count = await this.call('read', (fd) => this.transport.read(fd, bytes));
    return bytes.subarray(0, count);
  }

  /** Reads all that there is now. */
  async *chunks(length = 64 * 1024): AsyncGenerator<Uint8Array> {
    for (;;) {
      const bytes = await this.read(length);
      if (bytes.length === 0) return;
      yield bytes;
    }
  }

  /** Reads all that there is now, in one piece. */
  async readAll(): Promise<Uint8Array> {
    const parts: Uint8Array[] = [];
    for await (const part of this.chunks()) parts.push(part);
    return Buffer.concat(parts);
  }

  /**
   * Writes all of it.
   *
   * @throws VfioError - with the device's errno; EIO when it takes nothing and does not say why
   */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const rest = bytes.subarray(done);
      const count = await this.call('write', (fd) => this.transport.write(fd, rest));
      if (count === 0) {
        throw new VfioError('EIO', `${done} of ${bytes.length} bytes`, { syscall: 'write', subject: this.subject });
      }
      done += count;
    }
  }

  /** How much a pre-copy still has. */
  async precopyInfo(): Promise<PrecopyInfo> {
    const order = this.transport.byteOrder;
    const bytes = precopyInfo.encode({ argsz: precopyInfo.size }, order);
    await this.ioctl('VFIO_MIG_GET_PRECOPY_INFO', Request.MIG_GET_PRECOPY_INFO, bytes);
    const { flags, initialBytes, dirtyBytes } = precopyInfo.decode(bytes, order);
    return { flags, initialBytes, dirtyBytes };
  }
}

/** The migration features of a device. */
export class Migration {
  readonly #device: Device;

  constructor(device: Device) {
    this.#device = device;
  }

  get #transport(): Transport {
    return this.#device.transport;
  }

  /** What it can do; undefined if it can not migrate. */
  async capabilities(): Promise<{ stopCopy: boolean; p2p: boolean; preCopy: boolean } | undefined> {
    if (!(await this.#device.hasFeature(Feature.MIGRATION, 'get'))) return undefined;
    const bytes = await this.#device.getFeature(Feature.MIGRATION, deviceFeatureMigration.size);
    const flags = Number(deviceFeatureMigration.decode(bytes, this.#transport.byteOrder).flags);
    return {
      stopCopy: (flags & MigrationFlag.STOP_COPY) !== 0,
      p2p: (flags & MigrationFlag.P2P) !== 0,
      preCopy: (flags & MigrationFlag.PRE_COPY) !== 0,
    };
  }

  /** The present state. */
  async state(): Promise<MigStateName> {
    const bytes = await this.#device.getFeature(Feature.MIG_DEVICE_STATE, deviceFeatureMigState.size);
    const { deviceState } = deviceFeatureMigState.decode(bytes, this.#transport.byteOrder);
    const name = migStateName(deviceState);
    if (!name) throw new RangeError(`the device reports migration state ${deviceState}`);
    return name;
  }

  /**
   * Moves to a state.
   *
   * @returns the stream, when the move began one
   */
  async setState(state: MigStateName): Promise<MigrationStream | undefined> {
    const order = this.#transport.byteOrder;
    const value = deviceFeatureMigState.encode({ deviceState: MigState[state], dataFd: -1 }, order);
    const answer = await this.#device.setFeature(Feature.MIG_DEVICE_STATE, value);
    const { dataFd } = deviceFeatureMigState.decode(answer, order);
    if (dataFd < 0) return undefined;
    return new MigrationStream(this.#transport, dataFd, `${this.#device.subject} migration`);
  }

  /** An estimate of what a stop-copy would transfer, in bytes. */
  async dataSize(): Promise<bigint> {
    const bytes = await this.#device.getFeature(Feature.MIG_DATA_SIZE, deviceFeatureMigDataSize.size);
    return deviceFeatureMigDataSize.decode(bytes, this.#transport.byteOrder).stopCopyLength;
  }

  /** Asks for the second form of the pre-copy information, until the device is closed. */
  async enablePrecopyInfoV2(): Promise<void> {
    await this.#device.setFeature(Feature.MIG_PRECOPY_INFOv2, new Uint8Array(0));
  }

  /**
   * Stops the device and reads its whole state; it stays in STOP. For a device that runs or is stopped: one that copies
   * already does so through the stream that it began with.
   *
   * @throws TypeError - the move to STOP_COPY began no stream
   */
  async save(): Promise<Uint8Array> {
    await using stream = await this.#stream('STOP_COPY');
    const image = await stream.readAll();
    await this.setState('STOP');
    return image;
  }

  /**
   * Loads a state that `save` read, on this device or another of its kind; it is left in STOP.
   *
   * @throws VfioError - the device does not take the image; it is in ERROR or RESUMING then: reset it
   * @throws TypeError - the move to RESUMING began no stream
   */
  async load(image: Uint8Array): Promise<void> {
    await using stream = await this.#stream('RESUMING');
    await stream.write(image);
    await this.setState('STOP');
  }

  async #stream(state: MigStateName): Promise<MigrationStream> {
    const stream = await this.setState(state);
    if (!stream) throw new TypeError(`${this.#device.subject} was in ${state} or on its way there: no new stream`);
    return stream;
  }
}
