// `struct msghdr` with one piece of bytes and room for descriptors: what sendmsg and recvmsg take. One is filled once and
// used for every call, so that a call allocates nothing.

import { SCM_MAX_FD, SCM_RIGHTS, SOL_SOCKET } from './constants.js';
import type { Linux } from './linux.js';
import type { NativeMemory } from './memory.js';

// The layout is that of 64-bit processes; the C libraries differ in padding only, which is 0 here.
/** `struct msghdr` and what it points to, one behind the other. */
const at = {
  iov: 16,
  iovlen: 24,
  control: 32,
  controllen: 40,
  flags: 48,
  /** `struct iovec` */
  base: 56,
  length: 64,
  /** `struct cmsghdr` */
  cmsg: 72,
} as const;
const msghdrBytes = 56;
const cmsg = { length: 0, level: 8, type: 12, data: 16 } as const;
const controlBytes = cmsg.data + Math.ceil((SCM_MAX_FD * 4) / 8) * 8;

/** The argument of sendmsg and recvmsg. */
export class MessageHeader implements Disposable {
  readonly #memory: NativeMemory;

  constructor(linux: Linux) {
    this.#memory = linux.memory(at.cmsg + controlBytes, 'a message header');
    const { view, address } = this.#memory;
    view.setBigUint64(at.iov, BigInt(address + msghdrBytes), true);
    view.setUint32(at.iovlen, 1, true);
  }

  /** Where it is. */
  get address(): number {
    return this.#memory.address;
  }

  /** MSG_ flags that recvmsg has set. */
  get flags(): number {
    return this.#memory.view.getUint32(at.flags, true);
  }

  /** Where bytes are taken from or put to. */
  setBytes(address: number, length: number): void {
    const { view } = this.#memory;
    // two halves, since a bigint for each message would be garbage
    view.setUint32(at.base, address % 2 ** 32, true);
    view.setUint32(at.base + 4, Math.floor(address / 2 ** 32), true);
    view.setUint32(at.length, length, true);
  }

  /** Makes room for descriptors that may arrive, or says that none go along. */
  setControl(room: boolean): void {
    this.#setControlLength(room ? controlBytes : 0);
  }

  /** Descriptors that go along. */
  setFds(fds: readonly number[]): void {
    const { view } = this.#memory;
    const length = cmsg.data + fds.length * 4;
    view.setUint32(at.cmsg + cmsg.length, length, true);
    view.setUint32(at.cmsg + cmsg.length + 4, 0, true);
    view.setUint32(at.cmsg + cmsg.level, SOL_SOCKET, true);
    view.setUint32(at.cmsg + cmsg.type, SCM_RIGHTS, true);
    for (const [i, fd] of fds.entries()) view.setInt32(at.cmsg + cmsg.data + i * 4, fd, true);
    this.#setControlLength(cmsg.data + Math.ceil((fds.length * 4) / 8) * 8);
  }

  /** Whether control messages have arrived. */
  get hasControl(): boolean {
    return this.#memory.view.getUint32(at.controllen, true) >= cmsg.data;
  }

  /** Adds the numbers of the descriptors that have arrived. */
  takeFds(into: number[]): void {
    const { view } = this.#memory;
    const end = at.cmsg + view.getUint32(at.controllen, true);
    for (let header = at.cmsg; header + cmsg.data <= end; ) {
      const length = view.getUint32(header + cmsg.length, true);
      if (length < cmsg.data || header + length > end) return;
      if (
        view.getInt32(header + cmsg.level, true) === SOL_SOCKET &&
        view.getInt32(header + cmsg.type, true) === SCM_RIGHTS
      ) {
        for (let fd = header + cmsg.data; fd + 4 <= header + length; fd += 4) into.push(view.getInt32(fd, true));
      }
      header += Math.ceil(length / 8) * 8;
    }
  }

  #setControlLength(length: number): void {
    const { view, address } = this.#memory;
    const base = length === 0 ? 0 : address + at.cmsg;
    view.setUint32(at.control, base % 2 ** 32, true);
    view.setUint32(at.control + 4, Math.floor(base / 2 ** 32), true);
    view.setUint32(at.controllen, length, true);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}
