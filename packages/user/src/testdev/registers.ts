// Region 2: registers of which one starts something.

import { Errno } from '@vfio/host';
import { Reg, regionSizes, TestCommand } from './layout.js';
import type { TestRegion } from './memory.js';

/** What the commands do. */
export interface TestCommands {
  /** @returns 0, an errno, or EINPROGRESS for a copy that ends later */
  copy(request: {
    readonly address: bigint;
    readonly length: number;
    readonly offset: number;
    readonly store: boolean;
    readonly byMessage: boolean;
  }): number;
  /** @returns 0 or an errno */
  signal(vector: number): number;
  readonly isBusy: boolean;
  readonly dmaRegions: number;
}

/** Registers that take writes: what lies before the status, and the vector. */
const isWritable = (at: number) => at < Reg.STATUS || (at >= Reg.VECTOR && at < Reg.RESETS);
/** Bytes of all registers that hold something. */
const FILE_SIZE = Reg.DMA_REGIONS + 4;

/** The registers of one device. */
export class TestRegisters implements TestRegion {
  readonly size = regionSizes[2] ?? 0;
  readonly #bytes = new Uint8Array(FILE_SIZE);
  readonly #view = new DataView(this.#bytes.buffer);
  readonly #commands: TestCommands;

  constructor(commands: TestCommands) {
    this.#commands = commands;
  }

  read(offset: number, into: Uint8Array): void {
    this.#view.setUint32(Reg.DMA_REGIONS, this.#commands.dmaRegions, true);
    for (let i = 0; i < into.length; i++) into[i] = this.#bytes[offset + i] ?? 0;
  }

  write(offset: number, from: Uint8Array): void {
    for (const [i, byte] of from.entries()) if (isWritable(offset + i)) this.#bytes[offset + i] = byte;
    if (offset <= Reg.COMMAND && offset + from.length > Reg.COMMAND) this.#start();
  }

  /** A copy that took its time has ended. */
  complete(errno: number): void {
    this.#view.setUint32(Reg.STATUS, errno, true);
  }

  /** All but the count of resets is 0, which is one more. */
  reset(): void {
    const resets = this.#view.getUint32(Reg.RESETS, true);
    this.#bytes.fill(0);
    this.#view.setUint32(Reg.RESETS, resets + 1, true);
  }

  #start(): void {
    const status = this.#run(this.#view.getUint32(Reg.COMMAND, true));
    // the status is that of the copy which is under way
    if (!this.#commands.isBusy || status === Errno.EINPROGRESS) this.complete(status);
  }

  #run(command: number): number {
    switch (command) {
      case TestCommand.FETCH:
        return this.#copy(false, false);
      case TestCommand.STORE:
        return this.#copy(true, false);
      case TestCommand.FETCH_BY_MESSAGE:
        return this.#copy(false, true);
      case TestCommand.STORE_BY_MESSAGE:
        return this.#copy(true, true);
      case TestCommand.SIGNAL:
        return this.#commands.signal(this.#view.getUint32(Reg.VECTOR, true));
      default:
        return Errno.EINVAL;
    }
  }

  #copy(store: boolean, byMessage: boolean): number {
    return this.#commands.copy({
      address: this.#view.getBigUint64(Reg.ADDRESS, true),
      length: this.#view.getUint32(Reg.LENGTH, true),
      offset: this.#view.getUint32(Reg.OFFSET, true),
      store,
      byMessage,
    });
  }
}
