/* A client that can send anything: bytes in any pieces, any descriptors, and sees what comes back as it is. */
import {
  adoptSocket,
  connectUnix,
  Fd,
  type Linux,
  type NativeMemory,
  NOT_NOW,
  Transfer,
  type UnixSocket,
} from '@vfio/sys';
import { Command, HEADER_BYTES, HeaderFlag } from '../src/index.js';
import { writeHeader } from '../src/wire/header.js';

/** A message as it arrived. */
export interface Message {
  readonly id: number;
  readonly command: number;
  readonly flags: number;
  readonly errno: number;
  readonly payload: Uint8Array;
  /** Closed with the client, unless somebody closes them before. */
  readonly fds: readonly Fd[];
}

/** How a message is sent. */
export interface SendOptions {
  readonly id?: number;
  /** Beside the type, which is that of a command. */
  readonly flags?: number;
  readonly fds?: readonly number[];
}

/** Turns of the event loop after which a server that has not answered will not. */
const patience = 20_000;
/** Turns after which a server that says nothing has nothing to say. */
const silence = 40;

/** A message: header and payload. */
export function message(
  command: number,
  payload: Uint8Array = new Uint8Array(0),
  options: SendOptions = {},
): Uint8Array {
  const bytes = new Uint8Array(HEADER_BYTES + payload.length);
  const view = new DataView(bytes.buffer);
  writeHeader(view, 0, options.id ?? 0x1234, command, bytes.length, HeaderFlag.COMMAND | (options.flags ?? 0));
  bytes.set(payload, HEADER_BYTES);
  return bytes;
}

/** Bytes one behind the other. */
export function concat(...parts: readonly Uint8Array[]): Uint8Array {
  return Uint8Array.from(Buffer.concat(parts));
}

/** 32-bit numbers, little endian. */
export function words(...values: readonly number[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 4);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setUint32(i * 4, value, true);
  return bytes;
}

/** 64-bit numbers, little endian. */
export function longs(...values: readonly (bigint | number)[]): Uint8Array {
  const bytes = new Uint8Array(values.length * 8);
  const view = new DataView(bytes.buffer);
  for (const [i, value] of values.entries()) view.setBigUint64(i * 8, BigInt(value), true);
  return bytes;
}

/** The payload of VERSION. */
export function version(json?: string, major = 0, minor = 1): Uint8Array {
  const head = new Uint8Array(4);
  new DataView(head.buffer).setUint16(0, major, true);
  new DataView(head.buffer).setUint16(2, minor, true);
  return json === undefined ? head : concat(head, new TextEncoder().encode(`${json}\0`));
}

/** A turn of the event loop. */
export function turn(): Promise<void> {
  return new Promise((resolve) => setImmediate(resolve));
}

/** A connected client. */
export class RawClient implements Disposable {
  readonly socket: UnixSocket;
  readonly #linux: Linux;
  readonly #transfer: Transfer;
  readonly #memory: NativeMemory;
  readonly #received: Fd[] = [];
  #bytes: Uint8Array = new Uint8Array(0);
  readonly #fds: number[] = [];
  #ended = false;

  constructor(linux: Linux, socket: UnixSocket, room = 4 << 20) {
    this.#linux = linux;
    this.socket = socket;
    this.#transfer = new Transfer(linux);
    this.#memory = linux.memory(room, 'a client');
  }

  static connect(linux: Linux, path: string): RawClient {
    return new RawClient(linux, connectUnix(linux, path));
  }

  /** A client that has exchanged versions. */
  static async open(linux: Linux, path: string, json?: string): Promise<RawClient> {
    const client = RawClient.connect(linux, path);
    const reply = await client.request(Command.VERSION, version(json));
    if (reply.errno !== 0) throw new Error(`VERSION: errno ${reply.errno}`);
    return client;
  }

  /** A client on a socket that it was given: the twin of another one. */
  static adopt(linux: Linux, fd: Fd): RawClient {
    return new RawClient(linux, adoptSocket(linux, fd.release()));
  }

  /** Sends bytes, waiting for room. */
  async send(bytes: Uint8Array, fds?: readonly number[]): Promise<void> {
    for (let done = 0, turns = 0; done < bytes.length; turns++) {
      const part = bytes.subarray(done, done + this.#memory.length);
      this.#memory.bytes.set(part);
      const now = done === 0 ? fds : undefined;
      const count = this.#transfer.send(this.socket.number, this.#memory.address, part.length, now);
      if (count !== NOT_NOW) done += count;
      else if (turns > patience) throw new Error('the server does not read');
      else await turn();
    }
  }

  /** Sends as much as goes; returns how much that was. */
  sendNow(bytes: Uint8Array): number {
    this.#memory.bytes.set(bytes);
    return this.#transfer.send(this.socket.number, this.#memory.address, bytes.length);
  }

  /** Sends a message and waits for the next one. */
  async request(command: number, payload?: Uint8Array, options: SendOptions = {}): Promise<Message> {
    await this.send(message(command, payload, options), options.fds);
    return await this.receive();
  }

  /** As `request`, of which nothing is expected but that it succeeds; returns the payload. */
  async ask(command: number, payload?: Uint8Array, options: SendOptions = {}): Promise<Uint8Array> {
    const reply = await this.request(command, payload, options);
    if (reply.errno !== 0) throw new Error(`command ${command}: errno ${reply.errno}`);
    return reply.payload;
  }

  /** As `request`, of which the errno is wanted: 0 if it succeeds. */
  async errno(command: number, payload?: Uint8Array, options: SendOptions = {}): Promise<number> {
    return (await this.request(command, payload, options)).errno;
  }

  /** The next message. */
  async receive(): Promise<Message> {
    for (let turns = 0; turns < patience; turns++) {
      const found = this.#next();
      if (found !== undefined) return found;
      if (this.#ended) throw new Error('the server has closed the connection');
      if (!this.#take()) await turn();
    }
    throw new Error('the server does not answer');
  }

  /** Whether the server closes the connection, without another message. */
  async ends(): Promise<boolean> {
    for (let turns = 0; turns < patience; turns++) {
      if (this.#ended) return this.#bytes.length === 0;
      if (!this.#take()) await turn();
    }
    return false;
  }

  /** Whether nothing comes for a while. */
  async isSilent(): Promise<boolean> {
    for (let turns = 0; turns < silence; turns++) {
      this.#take();
      if (this.#ended || this.#bytes.length > 0) return false;
      await turn();
    }
    return true;
  }

  [Symbol.dispose](): void {
    this.socket.close();
    for (const fd of this.#received) fd.close();
    for (const fd of this.#fds) this.#linux.calls.close(fd);
    this.#transfer[Symbol.dispose]();
    this.#memory[Symbol.dispose]();
  }

  #take(): boolean {
    let count: number;
    try {
      count = this.#transfer.receive(this.socket.number, this.#memory.address, this.#memory.length, this.#fds);
    } catch {
      count = 0; // reset is an end, too
    }
    if (count === 0) this.#ended = true;
    if (count > 0) this.#bytes = concat(this.#bytes, this.#memory.bytes.subarray(0, count));
    return count > 0;
  }

  #next(): Message | undefined {
    if (this.#bytes.length < HEADER_BYTES) return undefined;
    const view = new DataView(this.#bytes.buffer, this.#bytes.byteOffset, this.#bytes.length);
    const size = view.getUint32(4, true);
    if (this.#bytes.length < size) return undefined;
    const fds = this.#fds.splice(0).map((fd) => new Fd(this.#linux, fd, 'received'));
    this.#received.push(...fds);
    const found: Message = {
      id: view.getUint16(0, true),
      command: view.getUint16(2, true),
      flags: view.getUint32(8, true),
      errno: view.getUint32(12, true),
      payload: this.#bytes.slice(HEADER_BYTES, size),
      fds,
    };
    this.#bytes = this.#bytes.slice(size);
    return found;
  }
}
