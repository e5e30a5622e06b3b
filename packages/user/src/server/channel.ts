// One socket with what has arrived and what is to be sent. It receives while its owner wants more, sends when there is room,
// and tells when the other side is gone.

import { isSystemError } from '@vfio/host';
import { type Linux, NOT_NOW, PollEvent, type Reactor, type Transfer, type UnixSocket, type Watcher } from '@vfio/sys';
import { Inbox } from './inbox.js';
import { Outbox } from './outbox.js';

/** What a channel needs of its surroundings. */
export interface ChannelContext {
  readonly linux: Linux;
  readonly reactor: Reactor;
  readonly transfer: Transfer;
}

/** Whoever handles the messages of a channel. */
export interface ChannelOwner {
  /** Whether more should be received now. */
  readonly wantsInput: boolean;
  /** Bytes have arrived, or what had to be sent was: handles what is there. */
  handle(): void;
  /** The other side is gone; nothing can be sent any more. */
  ended(): void;
}

/** A socket, while it is open. */
export class Channel implements Disposable {
  readonly inbox: Inbox;
  readonly outbox: Outbox;
  readonly #socket: UnixSocket;
  readonly #owner: ChannelOwner;
  readonly #watcher: Watcher;
  #interest: number = PollEvent.IN;
  #open = true;

  /**
   * @param socket - becomes the channel's
   * @param longest - bytes of the longest message, in both directions
   */
  constructor(context: ChannelContext, socket: UnixSocket, longest: number, owner: ChannelOwner) {
    const { linux, reactor, transfer } = context;
    this.#socket = socket;
    this.#owner = owner;
    this.inbox = new Inbox(linux, transfer, longest);
    this.outbox = new Outbox(linux, transfer, longest);
    this.#watcher = reactor.watch(socket.number, PollEvent.IN, (events) => this.#ready(events));
  }

  /** Whether nobody has closed it. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** Sends what is there, and from then on waits for what is of interest. To be called after each batch of work. */
  settle(): void {
    if (!this.#open) return;
    try {
      this.outbox.flush(this.#socket.number);
    } catch (error) {
      this.#fail(error);
      return;
    }
    const reads = this.#owner.wantsInput && this.inbox.hasRoom && !this.outbox.isCongested;
    const interest = (reads ? PollEvent.IN : 0) | (this.outbox.isEmpty ? 0 : PollEvent.OUT);
    if (interest === this.#interest) return;
    this.#interest = interest;
    this.#watcher.await(interest);
  }

  /** Closes the socket; what was not sent is lost. */
  close(): void {
    if (!this.#open) return;
    this.#open = false;
    this.#watcher.stop();
    this.#socket.close();
  }

  /** Gives the memory back when nobody works on messages any more, and closes descriptors that nobody took. */
  [Symbol.dispose](): void {
    this.close();
    this.inbox[Symbol.dispose]();
    this.outbox[Symbol.dispose]();
  }

  #ready(events: number): void {
    if ((events & PollEvent.IN) !== 0) {
      if (!this.#receive()) return;
    } else if ((events & (PollEvent.HUP | PollEvent.ERR)) !== 0) {
      this.#owner.ended();
      return;
    }
    this.#owner.handle();
    this.settle();
  }

  /** Returns false when the other side is gone. */
  #receive(): boolean {
    let count: number;
    try {
      count = this.inbox.receive(this.#socket.number);
    } catch (error) {
      this.#fail(error);
      return false;
    }
    if (count === 0) this.#owner.ended();
    return count > 0 || count === NOT_NOW;
  }

  #fail(error: unknown): void {
    if (!isSystemError(error)) throw error;
    this.#owner.ended();
  }
}
