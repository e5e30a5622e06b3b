// Sending and receiving on a stream socket, with descriptors, out of native memory. Nothing here waits: what can not be done
// now is told, and a poller says when to try again.

import { Errno } from '@vfio/host';
import { Msg } from './constants.js';
import type { Linux } from './linux.js';
import { MessageHeader } from './message-header.js';

/** What {@link Transfer.receive} and {@link Transfer.send} answer when nothing could be moved now. */
export const NOT_NOW = -1;

/** Sends and receives; one is enough for any number of sockets. */
export class Transfer implements Disposable {
  readonly #linux: Linux;
  readonly #receiving: MessageHeader;
  readonly #sending: MessageHeader;

  constructor(linux: Linux) {
    this.#linux = linux;
    this.#receiving = new MessageHeader(linux);
    this.#sending = new MessageHeader(linux);
  }

  /** Whether the last {@link receive} has lost descriptors, for want of room in this process' table for instance. */
  get truncated(): boolean {
    return (this.#receiving.flags & Msg.CTRUNC) !== 0;
  }

  /**
   * Takes what is there, up to a call of the sender that brought descriptors.
   *
   * @param address - of native memory
   * @param fds - descriptors that arrive are added, and are the caller's to close
   * @returns bytes; 0 at the end of the stream; NOT_NOW if there are none yet
   * @throws SystemError - ECONNRESET and what else the socket says
   */
  receive(fd: number, address: number, length: number, fds: number[]): number {
    const header = this.#receiving;
    header.setBytes(address, length);
    header.setControl(true);
    const { calls } = this.#linux;
    const count = calls.recvmsg(fd, header.address, Msg.CMSG_CLOEXEC | Msg.DONTWAIT);
    if (count < 0) return this.#notNow('recvmsg', fd);
    if (header.hasControl) header.takeFds(fds);
    return count;
  }

  /**
   * Gives bytes away, as many as there is room for.
   *
   * @param fds - go along with the first byte; they stay the caller's
   * @returns bytes; NOT_NOW if there is no room yet
   * @throws SystemError - EPIPE, ECONNRESET and what else the socket says
   */
  send(fd: number, address: number, length: number, fds?: readonly number[]): number {
    const { calls } = this.#linux;
    const flags = Msg.NOSIGNAL | Msg.DONTWAIT;
    let count: number;
    if (fds === undefined || fds.length === 0) {
      count = calls.send(fd, address, length, flags);
    } else {
      const header = this.#sending;
      header.setBytes(address, length);
      header.setFds(fds);
      count = calls.sendmsg(fd, header.address, flags);
    }
    return count < 0 ? this.#notNow('sendmsg', fd) : count;
  }

  #notNow(syscall: string, fd: number): number {
    const errno = this.#linux.errno();
    if (errno === Errno.EAGAIN || errno === Errno.EINTR) return NOT_NOW;
    throw this.#linux.failure(syscall, fd);
  }

  [Symbol.dispose](): void {
    this.#receiving[Symbol.dispose]();
    this.#sending[Symbol.dispose]();
  }
}
