// One client: its messages are found in the stream, handled in order, and answered in order. A command that takes its time
// holds up the commands behind it, but not replies to what the server itself has asked for.

import { Errno, isSystemError, type SystemError } from '@vfio/host';
import type { UnixSocket } from '@vfio/sys';
import { At, HEADER_BYTES, HeaderFlag } from '../wire/header.js';
import { Call } from './call.js';
import { Channel, type ChannelContext, type ChannelOwner } from './channel.js';

/** Whoever answers commands. */
export interface CommandHandler {
  /**
   * Answers a command: writes the reply, or throws.
   *
   * @returns a promise if it takes its time
   * @throws SystemError - its errno is the reply
   */
  handle(call: Call): void | Promise<void>;
  /**
   * A reply to a command of the server has arrived.
   *
   * @returns false if there was no such command
   */
  replied(view: DataView, at: number, size: number): boolean;
  /** The client is gone, or was sent away. */
  closed(): void;
  /** Something went wrong that no client can be blamed for. */
  bug(error: unknown): void;
}

/** What ends a connection: the client can not be understood any more. */
class Violation extends Error {
  override readonly name = 'Violation';
}

/**
 * Tells that the client has to leave, once what it was told has been sent; thrown after an error reply was written.
 */
export function violation(reason: string): Error {
  return new Violation(reason);
}

/** A connected client. */
export class Connection implements ChannelOwner {
  readonly channel: Channel;
  readonly #context: ChannelContext;
  readonly #handler: CommandHandler;
  readonly #longest: number;
  /** One at a time: commands are handled in order. */
  readonly #call: Call;
  /** A command is being answered that takes its time. */
  #busy: Disposable | undefined;
  /** Settles when the command under way has been answered. */
  #underWay: Promise<void> | undefined;
  /** Replies before this position of the stream have been handled, ahead of commands that wait. */
  #scanned = 0;
  /** Commands of the server that wait for a reply to be complete. */
  #postponed: Uint8Array[] = [];
  /** The client is to leave when everything was sent. */
  #leaving = false;
  #closed = false;

  constructor(context: ChannelContext, socket: UnixSocket, longest: number, handler: CommandHandler) {
    this.#context = context;
    this.#handler = handler;
    this.#longest = longest;
    this.channel = new Channel(context, socket, longest, this);
    this.#call = new Call(context.linux, this.channel.inbox, this.channel.outbox);
  }

  get wantsInput(): boolean {
    return !this.#leaving;
  }

  /** Handles what has arrived. */
  handle(): void {
    const { inbox, outbox } = this.channel;
    while (!this.#closed && !this.#leaving && this.#busy === undefined && !outbox.isCongested) {
      const at = inbox.start;
      const size = this.#messageAt(at);
      if (size === 0) break;
      this.#take(at, size);
      if (!this.#closed) inbox.advance(at + size);
    }
    if (this.#busy !== undefined && !this.#leaving) this.#scan();
    if (this.#leaving) this.close();
  }

  ended(): void {
    this.close();
  }

  /** Sends a command of the server: all of its bytes. */
  post(message: Uint8Array): void {
    if (!this.channel.isOpen) return;
    if (this.#call.isReplyOpen) {
      this.#postponed.push(message);
      return;
    }
    this.#put(message);
    this.channel.settle();
  }

  /** Sends the client away. The command under way goes on, and nobody hears of its result. */
  close(): void {
    if (this.#closed) return;
    this.#closed = true;
    this.channel.settle(); // what can be sent is sent
    this.channel.close();
    this.#call.closeFds();
    this.#handler.closed();
    void this.settled().then(() => this.channel[Symbol.dispose]());
  }

  /** Resolves when no command is under way any more. */
  async settled(): Promise<void> {
    await this.#underWay;
  }

  /**
   * Bytes of the message at a position, 0 if it is not complete. Its header is checked as soon as it is there.
   */
  #messageAt(at: number): number {
    const { inbox } = this.channel;
    const available = inbox.end - at;
    if (available < HEADER_BYTES) return 0;
    const { view } = inbox;
    const size = view.getUint32(at + At.size, true);
    const type = view.getUint32(at + At.flags, true) & HeaderFlag.TYPE_MASK;
    if (size < HEADER_BYTES || size > this.#longest || type > HeaderFlag.REPLY) {
      this.#refuse(at);
      return 0;
    }
    return available < size ? 0 : size;
  }

  /** The stream can not be trusted from a position on: says so, and is done with the client. */
  #refuse(at: number): void {
    const { inbox, outbox } = this.channel;
    const { view } = inbox;
    // one of its own: another command may be under way
    const refused = new Call(this.#context.linux, inbox, outbox);
    refused.begin(at, HEADER_BYTES, view.getUint16(at + At.id, true), view.getUint16(at + At.command, true), 0);
    refused.closeFds();
    refused.fail(Errno.EINVAL);
    this.#leaving = true;
  }

  #take(at: number, size: number): void {
    const { view } = this.channel.inbox;
    const flags = view.getUint32(at + At.flags, true);
    if ((flags & HeaderFlag.TYPE_MASK) === HeaderFlag.REPLY) {
      if (this.channel.inbox.streamPosition(at) >= this.#scanned) this.#reply(at, size);
      return;
    }
    this.#call.begin(at, size, view.getUint16(at + At.id, true), view.getUint16(at + At.command, true), flags);
    this.#answer(this.#call);
  }

  #answer(call: Call): void {
    let result: void | Promise<void>;
    try {
      call.checkFds();
      result = this.#handler.handle(call);
    } catch (error) {
      this.#failed(call, error);
      return;
    }
    if (result !== undefined) {
      this.#answerLater(call, result);
      return;
    }
    call.closeFds();
    call.succeed();
    if (this.#postponed.length > 0) this.#putPostponed();
  }

  #answerLater(call: Call, result: Promise<void>): void {
    this.channel.inbox.hold();
    this.#busy = this.#context.reactor.asynchronous();
    if (this.#postponed.length > 0) this.#putPostponed();
    this.#underWay = result.then(
      () => this.#answered(call),
      (error: unknown) => this.#answered(call, error),
    );
  }

  /** The command that took its time is done. */
  #answered(call: Call, ...error: [] | [error: unknown]): void {
    const { channel } = this;
    channel.inbox.release();
    this.#busy?.[Symbol.dispose]();
    this.#busy = undefined;
    this.#underWay = undefined;
    if (!channel.isOpen) {
      call.closeFds();
      return;
    }
    if (error.length > 0) {
      this.#failed(call, error[0]);
    } else {
      call.closeFds();
      call.succeed();
    }
    this.handle();
    channel.settle();
  }

  #failed(call: Call, error: unknown): void {
    call.closeFds();
    if (error instanceof Violation) {
      call.fail(Errno.EINVAL);
      this.#leaving = true;
      return;
    }
    if (!isSystemError(error)) this.#handler.bug(error);
    call.fail(isSystemError(error) ? errnoOf(error) : Errno.EIO);
    if (this.#postponed.length > 0) this.#putPostponed();
  }

  #reply(at: number, size: number): void {
    for (const fd of this.channel.inbox.takeFds(at)) this.#context.linux.calls.close(fd);
    if (!this.#handler.replied(this.channel.inbox.view, at, size)) this.#refuse(at);
  }

  /** Looks for replies behind commands that wait. */
  #scan(): void {
    const { inbox } = this.channel;
    let at = inbox.start;
    while (!this.#leaving) {
      const size = this.#messageAt(at);
      if (size === 0) break;
      if (inbox.streamPosition(at) < this.#scanned) {
        at += size;
        continue;
      }
      const type = inbox.view.getUint32(at + At.flags, true) & HeaderFlag.TYPE_MASK;
      if (type === HeaderFlag.REPLY) this.#reply(at, size);
      at += size;
    }
    this.#scanned = Math.max(this.#scanned, inbox.streamPosition(at));
  }

  #put(message: Uint8Array): void {
    const { outbox } = this.channel;
    const at = outbox.reserve(message.length);
    outbox.bytes.set(message, at);
    outbox.commit(message.length);
  }

  #putPostponed(): void {
    for (const message of this.#postponed.splice(0)) this.#put(message);
  }
}

/** Positive. What only kernels know is not sent. */
function errnoOf(error: SystemError): number {
  const errno = Math.abs(error.errno);
  return errno < 512 ? errno : Errno.EINVAL;
}
