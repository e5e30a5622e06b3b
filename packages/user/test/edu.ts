/* The educational device as a client of the socket drives it. */
import { Command } from '../src/index.js';
import { concat, longs, type Message, type RawClient, turn, words } from './raw-client.js';

const CONFIG = 7;
const BAR = 0;
const COMMAND = 4;
/** Memory decoding and bus master. */
const ENABLE = 6;

const Reg = { ID: 0, INT_STATUS: 0x24, INT_RAISE: 0x60, INT_ACK: 0x64, SRC: 0x80, DST: 0x88, COUNT: 0x90, CMD: 0x98 };
const BUFFER = 0x40000;
const [RUN, OUTWARD] = [1, 2];

/** Its driver. */
export class EduDriver {
  readonly client: RawClient;

  private constructor(client: RawClient) {
    this.client = client;
  }

  static async start(client: RawClient): Promise<EduDriver> {
    await client.ask(Command.REGION_WRITE, concat(longs(COMMAND), words(CONFIG, 2), Uint8Array.of(ENABLE, 0)));
    return new EduDriver(client);
  }

  async id(): Promise<number> {
    const reply = await this.client.ask(Command.REGION_READ, concat(longs(Reg.ID), words(BAR, 4)));
    return new DataView(reply.buffer, reply.byteOffset).getUint32(16, true);
  }

  /** Raises its interrupt. */
  async raise(): Promise<void> {
    await this.client.ask(Command.REGION_WRITE, concat(longs(Reg.INT_RAISE), words(BAR, 4), words(1)));
  }

  async acknowledge(): Promise<void> {
    await this.client.ask(Command.REGION_WRITE, concat(longs(Reg.INT_ACK), words(BAR, 4), words(0xffff_ffff)));
  }

  /** Copies to its buffer, and waits until it is done. */
  async fetch(address: bigint, count: number): Promise<void> {
    await this.begin(address, BUFFER, count, RUN);
    await this.finish();
  }

  /** Copies from its buffer, and waits until it is done. */
  async put(address: bigint, count: number): Promise<void> {
    await this.begin(BUFFER, address, count, RUN | OUTWARD);
    await this.finish();
  }

  /** Starts to copy to its buffer. */
  beginFetch(address: bigint, count: number): Promise<void> {
    return this.begin(address, BUFFER, count, RUN);
  }

  /** Starts to copy from its buffer. */
  beginPut(address: bigint, count: number): Promise<void> {
    return this.begin(BUFFER, address, count, RUN | OUTWARD);
  }

  async begin(source: bigint | number, destination: bigint | number, count: number, command: number): Promise<void> {
    await this.#write(Reg.SRC, source);
    await this.#write(Reg.DST, destination);
    await this.#write(Reg.COUNT, count);
    await this.#write(Reg.CMD, command);
  }

  /** Whether a copy is under way. */
  async isBusy(): Promise<boolean> {
    const reply = await this.client.ask(Command.REGION_READ, concat(longs(Reg.CMD), words(BAR, 8)));
    return (reply[16]! & RUN) !== 0;
  }

  /** Waits until a copy is done. */
  async finish(): Promise<void> {
    for (let turns = 0; turns < 1000; turns++) {
      if (!(await this.isBusy())) return;
      await turn();
    }
    throw new Error('the copy does not end');
  }

  async #write(register: number, value: bigint | number): Promise<void> {
    await this.client.ask(Command.REGION_WRITE, concat(longs(register), words(BAR, 8), longs(value)));
  }
}

/** Address and count of a DMA message. */
export function dmaHead({ payload }: Message): [address: bigint, count: bigint] {
  const view = new DataView(payload.buffer, payload.byteOffset);
  return [view.getBigUint64(0, true), view.getBigUint64(8, true)];
}
