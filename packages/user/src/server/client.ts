// A client, from its first message to its last: what it may ask for when, and who answers.

import { VfioError } from '@vfio/core';
import { isSystemError } from '@vfio/host';
import { socketPair, type UnixSocket } from '@vfio/sys';
import type { Capabilities } from '../wire/capabilities.js';
import { Command } from '../wire/header.js';
import type { Call } from './call.js';
import type { ChannelContext } from './channel.js';
import { type CommandHandler, Connection, violation } from './connection.js';
import type { IrqContext } from './irqs.js';
import { longestMessage } from './limits.js';
import { type Agreement, negotiate } from './negotiation.js';
import { type ServedDevice, Session } from './session.js';
import { Twin, type TwinOwner } from './twin.js';

/** A connected client, and the device while it has it. */
export class Client implements CommandHandler, TwinOwner {
  /** Resolves when the client is gone and the device is closed. */
  readonly ended: Promise<void>;
  readonly #connection: Connection;
  readonly #context: ChannelContext & IrqContext;
  readonly #device: ServedDevice;
  readonly #own: Capabilities;
  readonly #onBug: (error: unknown) => void;
  #session: Session | undefined;
  #twin: Twin | undefined;
  /** What the client has said of itself; undefined before it has. */
  #theirs: Capabilities | undefined;
  #end: () => void = () => {};

  constructor(
    context: ChannelContext & IrqContext,
    socket: UnixSocket,
    device: ServedDevice,
    own: Capabilities,
    onBug: (error: unknown) => void,
  ) {
    this.#context = context;
    this.#device = device;
    this.#own = own;
    this.#onBug = onBug;
    this.ended = new Promise((resolve) => {
      this.#end = resolve;
    });
    this.#connection = new Connection(context, socket, longestMessage(own), this);
  }

  /** Sends the client away. */
  close(): void {
    this.#connection.close();
  }

  handle(call: Call): void | Promise<void> {
    const session = this.#session;
    if (session === undefined) return this.#begin(call);
    const most = this.#own.maxDataXferSize;
    switch (call.command) {
      case Command.REGION_READ:
        return session.regions.read(call, most);
      case Command.REGION_WRITE:
        return session.regions.write(call, most);
      case Command.DEVICE_GET_INFO:
        return session.info(call);
      case Command.DEVICE_GET_REGION_INFO:
        return session.regions.info(call);
      case Command.DEVICE_GET_REGION_IO_FDS:
        return session.ioFds.answer(call, (index) => session.regions.sizeOf(index));
      case Command.DEVICE_GET_IRQ_INFO:
        return session.irqs.info(call);
      case Command.DEVICE_SET_IRQS:
        return session.irqs.set(call);
      case Command.DMA_MAP:
        return session.memory.map(call);
      case Command.DMA_UNMAP:
        return session.memory.unmap(call);
      case Command.DEVICE_RESET:
        return session.reset();
      case Command.DEVICE_FEATURE:
        return session.features.feature(call, most);
      case Command.MIG_DATA_READ:
        return session.features.read(call, most);
      case Command.MIG_DATA_WRITE:
        return session.features.write(call, most);
      case Command.REGION_WRITE_MULTI:
        if (this.#own.writeMultiple && this.#theirs?.writeMultiple === true) return session.regions.writeMulti(call);
        break;
      default:
        break;
    }
    throw new VfioError('EINVAL', `command ${call.command} can not be asked for`);
  }

  replied(view: DataView, at: number, size: number): boolean {
    return this.#session?.messages.replied(view, at, size) ?? false;
  }

  twinEnded(): void {
    this.#connection.close();
  }

  closed(): void {
    this.#twin?.[Symbol.dispose]();
    // whoever waits for the client's memory would wait for ever
    this.#session?.messages.close();
    void this.#close();
  }

  bug(error: unknown): void {
    this.#onBug(error);
  }

  /** Before anything else, versions and capabilities are exchanged; the device is opened on the way. */
  #begin(call: Call): Promise<void> {
    if (call.command !== Command.VERSION || call.fdCount > 0) throw violation('the first message is no VERSION');
    return this.#open(call, negotiate(call, this.#own));
  }

  async #open(call: Call, { theirs, twin, reply }: Agreement): Promise<void> {
    const post = (message: Uint8Array) => (this.#twin ?? this.#connection).post(message);
    this.#session = await Session.open(this.#device, this.#context, { own: this.#own, theirs, post });
    this.#theirs = theirs;
    call.replyWith(reply);
    if (twin) this.#addTwin(call);
  }

  /** Commands of the server get a socket of their own. */
  #addTwin(call: Call): void {
    const [mine, theirs] = socketPair(this.#context.linux);
    this.#twin = new Twin(this.#context, mine, longestMessage(this.#own), this);
    call.attachFds([theirs.number], () => theirs.close());
  }

  /** The client is gone: when its last command is done, the device is closed. */
  async #close(): Promise<void> {
    try {
      await this.#connection.settled();
      await this.#session?.close();
    } catch (error) {
      if (!isSystemError(error)) this.#onBug(error);
    } finally {
      this.#session = undefined;
      this.#end();
    }
  }
}
