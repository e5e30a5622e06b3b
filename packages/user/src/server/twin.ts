// The twin socket: where commands of the server travel if the client wants them apart from its own. Replies come back on it.

import { Errno } from '@vfio/host';
import type { UnixSocket } from '@vfio/sys';
import { At, HEADER_BYTES, HeaderFlag } from '../wire/header.js';
import { Call } from './call.js';
import { Channel, type ChannelContext, type ChannelOwner } from './channel.js';

/** Whoever sends commands. */
export interface TwinOwner {
  /** A reply has arrived; false if there was no such command. */
  replied(view: DataView, at: number, size: number): boolean;
  /** The client has closed it, or sends what is no reply: it can not be understood any more. */
  twinEnded(): void;
}

/** The server's end of a twin socket. */
export class Twin implements ChannelOwner, Disposable {
  readonly wantsInput = true;
  readonly #channel: Channel;
  readonly #context: ChannelContext;
  readonly #longest: number;
  readonly #owner: TwinOwner;

  /** @param socket - becomes this object's */
  constructor(context: ChannelContext, socket: UnixSocket, longest: number, owner: TwinOwner) {
    this.#context = context;
    this.#longest = longest;
    this.#owner = owner;
    this.#channel = new Channel(context, socket, longest, this);
  }

  /** Sends a command: all of its bytes. */
  post(message: Uint8Array): void {
    if (!this.#channel.isOpen) return;
    const { outbox } = this.#channel;
    const at = outbox.reserve(message.length);
    outbox.bytes.set(message, at);
    outbox.commit(message.length);
    this.#channel.settle();
  }

  handle(): void {
    const { inbox } = this.#channel;
    while (this.#channel.isOpen && inbox.end - inbox.start >= HEADER_BYTES) {
      const at = inbox.start;
      const size = inbox.view.getUint32(at + At.size, true);
      const type = inbox.view.getUint32(at + At.flags, true) & HeaderFlag.TYPE_MASK;
      if (size < HEADER_BYTES || size > this.#longest || type !== HeaderFlag.REPLY) {
        this.#refuse(at);
        return;
      }
      if (inbox.end - at < size) return;
      for (const fd of inbox.takeFds(at)) if (fd >= 0) this.#context.linux.calls.close(fd);
      if (!this.#owner.replied(inbox.view, at, size)) {
        this.#refuse(at);
        return;
      }
      inbox.advance(at + size);
    }
  }

  ended(): void {
    this.#owner.twinEnded();
  }

  [Symbol.dispose](): void {
    this.#channel[Symbol.dispose]();
  }

  /** Says that this is no reply; the client is sent away. */
  #refuse(at: number): void {
    const { inbox, outbox } = this.#channel;
    const { view } = inbox;
    const refused = new Call(this.#context.linux, inbox, outbox);
    refused.begin(at, HEADER_BYTES, view.getUint16(at + At.id, true), view.getUint16(at + At.command, true), 0);
    refused.closeFds();
    refused.fail(Errno.EINVAL);
    this.#channel.settle();
    this.#owner.twinEnded();
  }
}
