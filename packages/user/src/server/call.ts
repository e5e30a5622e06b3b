// A command under way: where its bytes are, the descriptors that came with it, and its reply.

import { VfioError } from '@vfio/core';
import type { Linux, NativeMemory } from '@vfio/sys';
import { HEADER_BYTES, HeaderFlag, writeHeader } from '../wire/header.js';
import type { Inbox } from './inbox.js';
import { LOST } from './inbox.js';
import type { Outbox } from './outbox.js';

const none: readonly number[] = [];
const nothing = () => {};

/** One command, from its arrival to its reply. The object of a command that was answered at once serves for the next one. */
export class Call {
  readonly #linux: Linux;
  readonly #inbox: Inbox;
  readonly #outbox: Outbox;
  #id = 0;
  #command = 0;
  #flags = 0;
  #at = 0;
  #length = 0;
  #fds: readonly number[] = none;
  /** Bytes of the reply's payload, once it was begun. */
  #reply = -1;
  #replyFds: readonly number[] = none;
  #replySent: () => void = nothing;

  constructor(linux: Linux, inbox: Inbox, outbox: Outbox) {
    this.#linux = linux;
    this.#inbox = inbox;
    this.#outbox = outbox;
  }

  /** Begins with the message at a position of the inbox, which is complete. */
  begin(at: number, size: number, id: number, command: number, flags: number): void {
    this.#id = id;
    this.#command = command;
    this.#flags = flags;
    this.#at = at + HEADER_BYTES;
    this.#length = size - HEADER_BYTES;
    this.#fds = this.#inbox.takeFds(at);
    this.#reply = -1;
    this.#replyFds = none;
  }

  get command(): number {
    return this.#command;
  }

  /** Where the message is; positions are those of the inbox. */
  get view(): DataView {
    return this.#inbox.view;
  }

  /** Position of the payload. */
  get at(): number {
    return this.#at;
  }

  /** Bytes of the payload. */
  get length(): number {
    return this.#length;
  }

  /** The payload, or a part of it; in place, and there until the command is answered. */
  payload(from = 0, length = this.#length - from): Uint8Array {
    return this.#inbox.bytes.subarray(this.#at + from, this.#at + from + length);
  }

  /** How many descriptors came with it. */
  get fdCount(): number {
    return this.#fds.length;
  }

  /** Takes the descriptors, which are the caller's to close from then on. */
  takeFds(): readonly number[] {
    const fds = this.#fds;
    this.#fds = none;
    return fds;
  }

  /**
   * Whether all descriptors of the message have arrived.
   *
   * @throws VfioError EMFILE - some were lost on the way: this process has no room for them
   */
  checkFds(): void {
    if (this.#fds.length > 0 && this.#fds[0] === LOST) {
      this.#fds = none;
      throw new VfioError('EMFILE', 'descriptors of the message were lost');
    }
  }

  /** Closes descriptors that nobody took. */
  closeFds(): void {
    for (const fd of this.takeFds()) if (fd !== LOST) this.#linux.calls.close(fd);
  }

  /** Where the reply is written; to be asked after `openReply`. */
  get replyView(): DataView {
    return this.#outbox.view;
  }

  get replyBytes(): Uint8Array {
    return this.#outbox.bytes;
  }

  /**
   * Begins the reply.
   *
   * @param length - bytes of its payload, all of which the caller writes
   * @returns position of the payload
   */
  openReply(length: number): number {
    const at = this.#outbox.reserve(HEADER_BYTES + length);
    this.#reply = length;
    return at + HEADER_BYTES;
  }

  /** Whether a reply was begun and is neither sent nor given up: nothing else may be put into the outbox. */
  get isReplyOpen(): boolean {
    return this.#reply >= 0;
  }

  /** A reply of these bytes. */
  replyWith(payload: Uint8Array): void {
    const at = this.openReply(payload.length);
    this.replyBytes.set(payload, at);
  }

  /** Sends descriptors with the reply; `sent` is called when they need not stay open any more. */
  attachFds(fds: readonly number[], sent: () => void = nothing): void {
    this.#replyFds = fds;
    this.#replySent = sent;
  }

  /**
   * Somebody goes on writing to a reply that was begun, and will take his time: the memory is his, and the reply has to be
   * begun again.
   */
  giveReplyAway(): NativeMemory {
    this.#reply = -1;
    return this.#outbox.giveAway();
  }

  /** Sends the reply, an empty one if none was begun. */
  succeed(): void {
    const length = this.#reply < 0 ? 0 : this.#reply;
    const size = HEADER_BYTES + length;
    this.#reply = -1;
    const fds = this.#replyFds;
    const sent = this.#replySent;
    this.#replyFds = none;
    this.#replySent = nothing;
    if ((this.#flags & HeaderFlag.NO_REPLY) !== 0) {
      if (fds.length > 0) sent();
      return;
    }
    const at = this.#outbox.reserve(size);
    writeHeader(this.#outbox.view, at, this.#id, this.#command, size, HeaderFlag.REPLY);
    if (fds.length > 0) this.#outbox.commitWithFds(size, fds, sent);
    else this.#outbox.commit(size);
  }

  /**
   * Sends an error instead.
   *
   * @param errno - positive
   */
  fail(errno: number): void {
    this.#reply = -1;
    if (this.#replyFds.length > 0) this.#replySent();
    this.#replyFds = none;
    this.#replySent = nothing;
    if ((this.#flags & HeaderFlag.NO_REPLY) !== 0) return;
    const at = this.#outbox.reserve(HEADER_BYTES);
    const flags = HeaderFlag.REPLY | HeaderFlag.ERROR;
    writeHeader(this.#outbox.view, at, this.#id, this.#command, HEADER_BYTES, flags, errno);
    this.#outbox.commit(HEADER_BYTES);
  }
}
