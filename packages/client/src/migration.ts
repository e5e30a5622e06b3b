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
} from '@vfio/core';
import { Descriptor, named } from './call.js';
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
    const count = await named('read', this.subject, () => this.transport.read(this.fd, bytes));
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

  /** Writes all of it. */
  async write(bytes: Uint8Array): Promise<void> {
    for (let done = 0; done < bytes.length; ) {
      const rest = bytes.subarray(done);
      done += await named('write', this.subject, () => this.transport.write(this.fd, rest));
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

  /** Stops the device and reads its whole state; it stays in STOP. */
  async save(): Promise<Uint8Array> {
    await using stream = await this.setState('STOP_COPY');
    if (!stream) throw new Error(`${this.#device.subject} made no stream`);
    const image = await stream.readAll();
    await this.setState('STOP');
    return image;
  }

  /** Loads a state that `save` read, on this device or another of its kind; it is left in STOP. */
  async load(image: Uint8Array): Promise<void> {
    await using stream = await this.setState('RESUMING');
    if (!stream) throw new Error(`${this.#device.subject} takes no stream`);
    await stream.write(image);
    await this.setState('STOP');
  }
}
