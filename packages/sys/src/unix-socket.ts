// UNIX stream sockets: made, bound to paths, connected.

import { fchmodSync, lstatSync, unlinkSync } from 'node:fs';
import { isSystemError, SystemError } from '@vfio/host';
import { Af, Fcntl, Shut, SOL_SOCKET, So, Sock } from './constants.js';
import { Fd } from './fd.js';
import type { Linux } from './linux.js';
import type { NativeMemory } from './memory.js';

/** `struct sockaddr_un`: family, path. */
const pathAt = 2;
/** Bytes of a path, its NUL included. Source: include/uapi/linux/un.h */
const UNIX_PATH_MAX = 108;
const addressBytes = pathAt + UNIX_PATH_MAX;

const streamSocket = Sock.STREAM | Sock.NONBLOCK | Sock.CLOEXEC;

/** A connected socket; calls on it never wait. */
export class UnixSocket extends Fd {
  /** Ends one direction or both: the other side reads to the end of what was sent. */
  shutdown(how: number): void {
    this.linux.check(this.linux.calls.shutdown(this.number, how), 'shutdown', this.number);
  }

  /** Ends what this side sends. */
  endWriting(): void {
    this.shutdown(Shut.WR);
  }
}

/** A socket that others connect to. */
export class UnixListener extends Fd {
  /** The path that goes when this is closed. */
  readonly #path: string | undefined;

  constructor(linux: Linux, number: number, path: string | undefined) {
    super(linux, number, path === undefined ? 'listening socket' : `listening socket ${path}`);
    this.#path = path;
  }

  /**
   * The next one who has connected.
   *
   * @returns undefined if nobody has
   * @throws SystemError EMFILE, ENFILE, ENOMEM - there is no room for another descriptor
   */
  accept(): UnixSocket | undefined {
    const { calls } = this.linux;
    const number = calls.accept4(this.number, 0, 0, Sock.NONBLOCK | Sock.CLOEXEC);
    if (number >= 0) return new UnixSocket(this.linux, number, 'accepted socket');
    const failure = this.linux.failure('accept4', this.number);
    // nobody is there, or was for a moment
    if (isSystemError(failure, 'EAGAIN') || isSystemError(failure, 'ECONNABORTED')) return undefined;
    throw failure;
  }

  /** Closes it; a path that it made goes too. */
  override close(): void {
    const wasOpen = this.isOpen;
    super.close();
    if (!wasOpen || this.#path === undefined) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // somebody else was faster
    }
  }
}

/** Writes a path as an address, which must stay as long as it is used. */
function addressOf(linux: Linux, path: string): NativeMemory {
  const bytes = new TextEncoder().encode(path);
  if (bytes.length === 0 || bytes.length >= UNIX_PATH_MAX || bytes.includes(0)) {
    throw new SystemError('EINVAL', `a path of ${bytes.length} bytes is no address of a socket`, { subject: path });
  }
  const memory = linux.memory(addressBytes, 'an address');
  memory.view.setUint16(0, Af.UNIX, true);
  memory.bytes.set(bytes, pathAt);
  return memory;
}

/**
 * A socket at a path, which its owner may use and nobody else. One that nobody listens at any more is replaced.
 *
 * @throws SystemError EADDRINUSE - somebody listens there, or the path is something else than a socket
 * @throws SystemError - EINVAL for a path that is too long; ENOENT, EACCES as the directory says
 */
export function listenUnix(linux: Linux, path: string, backlog = 16): UnixListener {
  const { calls } = linux;
  using address = addressOf(linux, path);
  removeStale(linux, path, address);
  const number = linux.check(calls.socket(Af.UNIX, streamSocket, 0), 'socket');
  // the path is this listener's from the bind on
  const unbound = new Fd(linux, number, 'socket');
  try {
    // the mode of the socket becomes the mode of the path, which so is never open to others, whatever the umask
    fchmodSync(number, 0o600);
    linux.check(calls.bind(number, address.address, addressBytes), 'bind', path);
  } catch (error) {
    unbound.close();
    throw error;
  }
  const listener = new UnixListener(linux, unbound.release(), path);
  try {
    linux.check(calls.listen(number, backlog), 'listen', path);
    return listener;
  } catch (error) {
    listener.close();
    throw error;
  }
}

/** Takes a socket away that nobody listens at. */
function removeStale(linux: Linux, path: string, address: NativeMemory): void {
  if (!lstatSync(path, { throwIfNoEntry: false })?.isSocket()) return;
  const { calls } = linux;
  using probe = new Fd(linux, linux.check(calls.socket(Af.UNIX, streamSocket, 0), 'socket'), 'socket');
  if (calls.connect(probe.number, address.address, addressBytes) < 0) {
    if (isSystemError(linux.failure('connect', path), 'ECONNREFUSED')) unlinkSync(path);
  }
}

/**
 * A socket that somebody else has bound and listens at.
 *
 * @throws SystemError EBADF - the descriptor is not open
 * @throws SystemError EINVAL - nobody listens at it
 */
export function adoptListener(linux: Linux, number: number): UnixListener {
  using value = linux.memory(8, 'a socket option');
  value.view.setUint32(4, 4, true);
  const { calls } = linux;
  const result = calls.getsockopt(number, SOL_SOCKET, So.ACCEPTCONN, value.address, value.address + 4);
  linux.check(result, 'getsockopt', number);
  if (value.view.getUint32(0, true) === 0) {
    throw new SystemError('EINVAL', 'the socket does not listen', { subject: `descriptor ${number}` });
  }
  setNonblocking(linux, number);
  return new UnixListener(linux, number, undefined);
}

/** A socket that somebody else has connected. */
export function adoptSocket(linux: Linux, number: number): UnixSocket {
  setNonblocking(linux, number);
  return new UnixSocket(linux, number, 'socket');
}

function setNonblocking(linux: Linux, number: number): void {
  const flags = linux.check(linux.calls.fcntl(number, Fcntl.GETFL, 0), 'fcntl', number);
  linux.check(linux.calls.fcntl(number, Fcntl.SETFL, flags | Sock.NONBLOCK), 'fcntl', number);
}

/**
 * Connects to a path.
 *
 * @throws SystemError - ENOENT, ECONNREFUSED, EACCES; EAGAIN when more wait than the listener allows
 */
export function connectUnix(linux: Linux, path: string): UnixSocket {
  const { calls } = linux;
  using address = addressOf(linux, path);
  const socket = new UnixSocket(linux, linux.check(calls.socket(Af.UNIX, streamSocket, 0), 'socket'), 'socket');
  try {
    linux.check(calls.connect(socket.number, address.address, addressBytes), 'connect', path);
    return socket;
  } catch (error) {
    socket.close();
    throw error;
  }
}

/** Two sockets that are connected with each other. */
export function socketPair(linux: Linux): [UnixSocket, UnixSocket] {
  using memory = linux.memory(8, 'a pair of descriptors');
  linux.check(linux.calls.socketpair(Af.UNIX, streamSocket, 0, memory.address), 'socketpair');
  const { view } = memory;
  return [
    new UnixSocket(linux, view.getInt32(0, true), 'socket of a pair'),
    new UnixSocket(linux, view.getInt32(4, true), 'socket of a pair'),
  ];
}
