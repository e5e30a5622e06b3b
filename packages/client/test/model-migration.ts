// Migration of the model device: its whole state is what its register region holds, behind a header of eight bytes.

import { checkPrecopyIoctl, type MigrationOps, MigState, migGetNextState, precopyInfo, VfioError } from '@vfio/core';
import { File, type IoctlCall, O, type UserBuffer } from '@vfio/host';
import type { ModelDevice } from './model-device.js';

const header = new TextEncoder().encode('VFIOMODL');

/** Bytes of the state that a stream carries behind the header. */
const stateBytes = 512;
/** Bytes of a complete image. */
export const imageSize = header.length + stateBytes;

/** One data file, of either direction. */
class DataFile extends File {
  readonly bytes: number[] = [];
  readonly #device: ModelDevice;
  #read = 0;
  #ended = false;

  constructor(device: ModelDevice, flags: number) {
    super({ flags, label: 'anon_inode:model_mig', seek: 'stream' });
    this.#device = device;
    device.host.faults.check('model_migration:file');
  }

  end(): void {
    this.#ended = true;
  }

  get remaining(): number {
    return this.bytes.length - this.#read;
  }

  override read(buffer: UserBuffer): number {
    this.#requireLive();
    const part = this.bytes.slice(this.#read, this.#read + buffer.length);
    if (part.length > buffer.bytes.length) throw new VfioError('EFAULT', 'the buffer ends early', { syscall: 'read' });
    buffer.bytes.set(part);
    this.#read += part.length;
    return part.length;
  }

  override write(buffer: UserBuffer): number {
    this.#requireLive();
    // takes half a kilobyte at most, as a file that is fed from a ring would: whoever writes has to go on
    const part = buffer.bytes.subarray(0, 300);
    this.bytes.push(...part);
    return part.length;
  }

  override ioctl(call: IoctlCall): number {
    const info = checkPrecopyIoctl(this.#device, call);
    this.#requireLive();
    if (!this.#device.copiesAhead) throw new VfioError('EINVAL', 'the device is in no state of pre-copy');
    info.initialBytes = BigInt(this.remaining);
    info.dirtyBytes = 3n;
    call.copyOut(precopyInfo.encode(info, call.order));
    return 0;
  }

  #requireLive(): void {
    if (this.#ended) throw new VfioError('ENODEV', 'the device left the state of this data file');
  }
}

/** The states, walked as the core says. */
export class ModelMigration implements MigrationOps {
  readonly #device: ModelDevice;
  #state: MigState = MigState.RUNNING;
  #file: DataFile | undefined;

  constructor(device: ModelDevice) {
    this.#device = device;
  }

  getState(): MigState {
    return this.#state;
  }

  /** In a state of pre-copy. */
  get copiesAhead(): boolean {
    return this.#state === MigState.PRE_COPY || this.#state === MigState.PRE_COPY_P2P;
  }

  getDataSize(): bigint {
    return BigInt(imageSize);
  }

  async setState(target: number): Promise<File | undefined> {
    let file: File | undefined;
    while (this.#state !== target) {
      const next = migGetNextState(this.#device, this.#state, target);
      file = await this.#step(next);
      this.#state = next;
    }
    return file;
  }

  async reset(): Promise<void> {
    await this.endFile();
    this.#state = MigState.RUNNING;
  }

  async endFile(): Promise<void> {
    const file = this.#file;
    this.#file = undefined;
    file?.end();
    await file?.put();
  }

  async #step(to: MigState): Promise<File | undefined> {
    const { PRE_COPY, PRE_COPY_P2P, STOP_COPY, RESUMING, STOP } = MigState;
    const copying = this.copiesAhead;
    if (to === STOP_COPY || to === PRE_COPY || to === PRE_COPY_P2P) {
      const file = copying ? undefined : this.#begin(O.RDONLY);
      if (file) file.bytes.push(...header);
      if (to === STOP_COPY) this.#file?.bytes.push(...this.#device.registers(0, stateBytes));
      return file?.get();
    }
    if (to === RESUMING) return this.#begin(O.WRONLY).get();
    if (this.#state === RESUMING && to === STOP) this.#load();
    if (copying || this.#state === STOP_COPY || this.#state === RESUMING) await this.endFile();
    return undefined;
  }

  #begin(flags: number): DataFile {
    this.#file = new DataFile(this.#device, flags);
    return this.#file;
  }

  #load(): void {
    const image = Uint8Array.from(this.#file?.bytes ?? []);
    const whole = image.length === imageSize && header.every((byte, i) => image[i] === byte);
    if (!whole) throw new VfioError('EINVAL', `${image.length} bytes are no image`);
    this.#device.setRegisters(0, image.subarray(header.length));
  }
}
