// The functions of the C library that are called, with their types. They are looked up in the process itself, as the
// library's file has another name in each distribution. Addresses are numbers: a process has less than 2^53 bytes.

import { SystemError } from '@vfio/host';

/** A C function of 64-bit Linux: integers are passed as they are, a negative result means that `errno` tells why. */
export interface Calls {
  socket(domain: number, type: number, protocol: number): number;
  socketpair(domain: number, type: number, protocol: number, into: number): number;
  bind(fd: number, address: number, length: number): number;
  connect(fd: number, address: number, length: number): number;
  listen(fd: number, backlog: number): number;
  accept4(fd: number, address: number, length: number, flags: number): number;
  shutdown(fd: number, how: number): number;
  getsockopt(fd: number, level: number, option: number, value: number, length: number): number;
  setsockopt(fd: number, level: number, option: number, value: number, length: number): number;
  sendmsg(fd: number, message: number, flags: number): number;
  recvmsg(fd: number, message: number, flags: number): number;
  send(fd: number, bytes: number, length: number, flags: number): number;
  memfd_create(name: string, flags: number): number;
  /** The address; all ones when it failed, which does not fit a number. */
  mmap(at: number, length: number, prot: number, flags: number, fd: number, offset: number): number | bigint;
  munmap(address: number, length: number): number;
  eventfd(initial: number, flags: number): number;
  epoll_create1(flags: number): number;
  epoll_ctl(epoll: number, operation: number, fd: number, event: number): number;
  epoll_wait(epoll: number, events: number, most: number, timeoutMs: number): number;
  poll(list: number, count: number, timeoutMs: number): number;
  read(fd: number, into: number, length: number): number;
  write(fd: number, from: number, length: number): number;
  pread(fd: number, into: Uint8Array, length: number, offset: number): number;
  pwrite(fd: number, from: Uint8Array, length: number, offset: number): number;
  ftruncate(fd: number, length: number): number;
  fcntl(fd: number, command: number, argument: number): number;
  close(fd: number): number;
  syscall(number: number, a: number, b: number, c: number, d: number, e: number, f: number): number;
}

/** The calls and what goes with them. */
export interface Library {
  readonly calls: Calls;
  /** Why the last call failed; to be read before anything else is called. */
  errno(): number;
  /** The bytes at an address. They must stay mapped as long as anybody can reach the buffer. */
  view(address: number, length: number): ArrayBuffer;
  /** Has the event loop call `fn` whenever a descriptor can be read. */
  watch(fd: number, fn: () => void): Watch;
}

/** A descriptor that the event loop looks at. */
export interface Watch {
  stop(): void;
  /** Whether it keeps the process running. */
  ref(): void;
  unref(): void;
}

const prototypes: Readonly<Record<keyof Calls, readonly [result: string, ...parameters: string[]]>> = {
  socket: ['int', 'int', 'int', 'int'],
  socketpair: ['int', 'int', 'int', 'int', 'uintptr_t'],
  bind: ['int', 'int', 'uintptr_t', 'uint32_t'],
  connect: ['int', 'int', 'uintptr_t', 'uint32_t'],
  listen: ['int', 'int', 'int'],
  accept4: ['int', 'int', 'uintptr_t', 'uintptr_t', 'int'],
  shutdown: ['int', 'int', 'int'],
  getsockopt: ['int', 'int', 'int', 'int', 'uintptr_t', 'uintptr_t'],
  setsockopt: ['int', 'int', 'int', 'int', 'uintptr_t', 'uint32_t'],
  sendmsg: ['long', 'int', 'uintptr_t', 'int'],
  recvmsg: ['long', 'int', 'uintptr_t', 'int'],
  send: ['long', 'int', 'uintptr_t', 'size_t', 'int'],
  memfd_create: ['int', 'str', 'uint'],
  mmap: ['uintptr_t', 'uintptr_t', 'size_t', 'int', 'int', 'int', 'int64_t'],
  munmap: ['int', 'uintptr_t', 'size_t'],
  eventfd: ['int', 'uint', 'int'],
  epoll_create1: ['int', 'int'],
  epoll_ctl: ['int', 'int', 'int', 'int', 'uintptr_t'],
  epoll_wait: ['int', 'int', 'uintptr_t', 'int', 'int'],
  poll: ['int', 'uintptr_t', 'uint64_t', 'int'],
  read: ['long', 'int', 'uintptr_t', 'size_t'],
  write: ['long', 'int', 'uintptr_t', 'size_t'],
  pread: ['long', 'int', 'void *', 'size_t', 'int64_t'],
  pwrite: ['long', 'int', 'void *', 'size_t', 'int64_t'],
  ftruncate: ['int', 'int', 'int64_t'],
  // the rest of their parameters is variable, which makes no difference to integers on x86-64 and arm64
  fcntl: ['int', 'int', 'int', 'long'],
  close: ['int', 'int'],
  syscall: ['long', 'long', 'long', 'long', 'long', 'long', 'long', 'long'],
};

const architectures: readonly string[] = ['x64', 'arm64'];

/**
 * Finds the calls.
 *
 * @throws SystemError ENOSYS - not Linux on x86-64 or arm64, or koffi is not installed for it
 */
export async function loadLibrary(): Promise<Library> {
  const { platform, arch } = process;
  if (platform !== 'linux' || !architectures.includes(arch)) {
    throw new SystemError(
      'ENOSYS',
      `these system calls are those of Linux on x64 and arm64, this is ${platform} ${arch}`,
    );
  }
  // when it is wanted, not when this package is imported: it brings a binary that not every platform has
  const koffi = await import('koffi').catch((cause: unknown) => {
    throw new SystemError('ENOSYS', `koffi can not be loaded on ${platform} ${arch}`, { cause });
  });
  const libc = koffi.load(null);
  const call = (name: keyof Calls) => {
    const [result, ...parameters] = prototypes[name];
    return libc.func(name, result, parameters);
  };
  return {
    calls: {
      socket: call('socket'),
      socketpair: call('socketpair'),
      bind: call('bind'),
      connect: call('connect'),
      listen: call('listen'),
      accept4: call('accept4'),
      shutdown: call('shutdown'),
      getsockopt: call('getsockopt'),
      setsockopt: call('setsockopt'),
      sendmsg: call('sendmsg'),
      recvmsg: call('recvmsg'),
      send: call('send'),
      memfd_create: call('memfd_create'),
      mmap: call('mmap'),
      munmap: call('munmap'),
      eventfd: call('eventfd'),
      epoll_create1: call('epoll_create1'),
      epoll_ctl: call('epoll_ctl'),
      epoll_wait: call('epoll_wait'),
      poll: call('poll'),
      read: call('read'),
      write: call('write'),
      pread: call('pread'),
      pwrite: call('pwrite'),
      ftruncate: call('ftruncate'),
      fcntl: call('fcntl'),
      close: call('close'),
      syscall: call('syscall'),
    },
    errno: () => koffi.errno(),
    view: (address, length) => koffi.view(BigInt(address), length),
    watch: (fd, fn) => {
      const handle = koffi.node.poll(fd, { readable: true }, fn);
      return {
        stop: () => {
          handle.stop();
          handle.close();
        },
        ref: () => handle.ref(),
        unref: () => handle.unref(),
      };
    },
  };
}
