// Memory of the client that is reached by messages: commands of the server, and what becomes of their replies. Nobody is
// held up by them: whoever reads or writes gets a promise, and commands of the client are answered meanwhile.

import { VfioError } from '@vfio/core';
import { type Clock, type ClockTimer, type ErrnoCode, errnoName } from '@vfio/host';
import { At, Command, HEADER_BYTES, HeaderFlag, writeHeader } from '../wire/header.js';

/** Head of a payload: address and count, 64 bits each. */
const head = { address: 0, count: 8, bytes: 16 } as const;
/** The same of a client that counts with 32 bits, as QEMU did before 11. */
const shortHead = { count: 8, bytes: 12 } as const;

/** Commands that may be out at a time; more wait for their turn. */
const mostOut = 16;
/** A client that takes longer will not answer. */
const patienceMs = 10_000;

/** A command that waits for its reply. */
interface Outstanding {
  readonly command: number;
  readonly address: bigint;
  /** What a read fills; the data of a write. */
  readonly bytes: Uint8Array;
  readonly timer: ClockTimer;
  readonly done: () => void;
  readonly fail: (error: VfioError) => void;
  /** Nobody wants the result any more. */
  given: boolean;
}

/** A part of an access that waits to be sent. */
interface Waiting {
  readonly command: number;
  readonly address: bigint;
  readonly bytes: Uint8Array;
  readonly done: () => void;
  readonly fail: (error: VfioError) => void;
}

/** What the client said of itself, and how it is reached. */
export interface DmaMessagesOptions {
  readonly clock: Clock;
  /** Most bytes of data in a message. */
  readonly most: number;
  /** Sends a message. */
  readonly post: (message: Uint8Array) => void;
}

/** Reads and writes by messages. */
export class DmaMessages {
  readonly #clock: Clock;
  readonly #most: number;
  readonly #post: (message: Uint8Array) => void;
  readonly #out = new Map<number, Outstanding>();
  readonly #waiting: Waiting[] = [];
  #nextId = 0;
  #closed = false;

  constructor({ clock, most, post }: DmaMessagesOptions) {
    this.#clock = clock;
    this.#most = most;
    this.#post = post;
  }

  /** How many commands are out. */
  get outstanding(): number {
    return this.#out.size;
  }

  /**
   * Fills `into` from the client's memory.
   *
   * @throws VfioError - the errno of the client; EIO for a reply that is none; ETIMEDOUT; ECONNRESET when the client goes
   */
  read(address: bigint, into: Uint8Array): Promise<void> {
    return this.#access(Command.DMA_READ, address, into);
  }

  /**
   * Writes `from` to the client's memory. The bytes have to stay what they are until this is done.
   *
   * @throws as {@link read}
   */
  write(address: bigint, from: Uint8Array): Promise<void> {
    return this.#access(Command.DMA_WRITE, address, from);
  }

  /**
   * A reply has arrived.
   *
   * @param at - position of its header
   * @param size - bytes, with the header
   * @returns false if no such command is out
   */
  replied(view: DataView, at: number, size: number): boolean {
    const id = view.getUint16(at + At.id, true);
    const outstanding = this.#out.get(id);
    if (outstanding === undefined || outstanding.command !== view.getUint16(at + At.command, true)) return false;
    this.#out.delete(id);
    outstanding.timer.cancel();
    if (!outstanding.given) settle(outstanding, view, at, size);
    this.#sendWaiting();
    return true;
  }

  /** Ends all accesses to a range that is not mapped any more; what the client answers to them does not matter. */
  cancel(address: bigint, size: bigint): void {
    const within = (one: { address: bigint; bytes: Uint8Array }) =>
      one.address < address + size && one.address + BigInt(one.bytes.length) > address;
    this.#give(within, () => new VfioError('EFAULT', `memory at 0x${address.toString(16)} was unmapped`));
  }

  /** The client is gone: everything fails. */
  close(): void {
    this.#closed = true;
    this.#give(
      () => true,
      () => new VfioError('ECONNRESET', 'the client is gone'),
    );
    for (const { timer } of this.#out.values()) timer.cancel();
    this.#out.clear();
  }

  /** All parts of an access; the first failure is the failure of the whole, when nothing of it is out any more. */
  async #access(command: number, address: bigint, bytes: Uint8Array): Promise<void> {
    const parts: Promise<void>[] = [];
    for (let done = 0; done < bytes.length; done += this.#most) {
      parts.push(this.#part(command, address + BigInt(done), bytes.subarray(done, done + this.#most)));
    }
    for (const result of await Promise.allSettled(parts)) if (result.status === 'rejected') throw result.reason;
  }

  #part(command: number, address: bigint, bytes: Uint8Array): Promise<void> {
    if (this.#closed) return Promise.reject(new VfioError('ECONNRESET', 'the client is gone'));
    return new Promise((done, fail) => {
      this.#waiting.push({ command, address, bytes, done, fail });
      this.#sendWaiting();
    });
  }

  #sendWaiting(): void {
    while (this.#out.size < mostOut) {
      const next = this.#waiting.shift();
      if (next === undefined) return;
      this.#send(next);
    }
  }

  #send({ command, address, bytes, done, fail }: Waiting): void {
    const id = this.#freeId();
    const timer = this.#clock.setTimer(patienceMs, () => this.#late(id));
    this.#out.set(id, { command, address, bytes, timer, done, fail, given: false });
    const data = command === Command.DMA_WRITE ? bytes.length : 0;
    const message = new Uint8Array(HEADER_BYTES + head.bytes + data);
    const view = new DataView(message.buffer);
    writeHeader(view, 0, id, command, message.length, HeaderFlag.COMMAND);
    view.setBigUint64(HEADER_BYTES + head.address, address, true);
    view.setBigUint64(HEADER_BYTES + head.count, BigInt(bytes.length), true);
    if (data > 0) message.set(bytes, HEADER_BYTES + head.bytes);
    this.#post(message);
  }

  /** Nobody waits any longer; a reply that comes later still is one, as nobody else gets its id. */
  #late(id: number): void {
    const outstanding = this.#out.get(id);
    if (outstanding === undefined || outstanding.given) return;
    outstanding.given = true;
    outstanding.fail(new VfioError('ETIMEDOUT', `no reply to a DMA message for ${patienceMs} ms`));
  }

  /** Fails accesses. Most often there are none, and so no error is made. */
  #give(which: (one: Waiting | Outstanding) => boolean, error: () => VfioError): void {
    for (const one of this.#waiting.splice(0)) {
      if (which(one)) one.fail(error());
      else this.#waiting.push(one);
    }
    for (const one of this.#out.values()) {
      if (one.given || !which(one)) continue;
      one.given = true;
      one.fail(error());
    }
  }

  #freeId(): number {
    while (this.#out.has(this.#nextId)) this.#nextId = (this.#nextId + 1) % 2 ** 16;
    const id = this.#nextId;
    this.#nextId = (id + 1) % 2 ** 16;
    return id;
  }
}

/** What a reply says of the command. */
function settle(outstanding: Outstanding, view: DataView, at: number, size: number): void {
  const { command, address, bytes, done, fail } = outstanding;
  const wrong = (reason: string) => fail(new VfioError('EIO', `a reply that is none: ${reason}`));
  if ((view.getUint32(at + At.flags, true) & HeaderFlag.ERROR) !== 0) {
    const code: ErrnoCode = errnoName(view.getUint32(at + At.error, true)) ?? 'EIO';
    fail(new VfioError(code, 'the client refused a DMA message'));
    return;
  }
  const payload = at + HEADER_BYTES;
  const length = size - HEADER_BYTES;
  const isRead = command === Command.DMA_READ;
  // QEMU before 11 answers a write with the header alone
  if (!isRead && length === 0) {
    done();
    return;
  }
  const data = isRead ? bytes.length : 0;
  const isShort = isRead && length === shortHead.bytes + data;
  if (!isShort && length !== head.bytes + data) {
    wrong(`${length} bytes`);
    return;
  }
  const count = isShort
    ? BigInt(view.getUint32(payload + shortHead.count, true))
    : view.getBigUint64(payload + head.count, true);
  if (view.getBigUint64(payload + head.address, true) !== address || count !== BigInt(bytes.length)) {
    wrong('of another address or count');
    return;
  }
  if (isRead) {
    const from = payload + (isShort ? shortHead.bytes : head.bytes);
    bytes.set(new Uint8Array(view.buffer, view.byteOffset + from, data));
  }
  done();
}
