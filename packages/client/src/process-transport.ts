// The transport inside the process that holds the machine.

import { EventFdFile, O, type Process, Prot } from '@vfio/host';
import type { Access, ClientMapping, ClientMemory, Transport } from './transport.js';

/** System calls of a process of a host. */
export class ProcessTransport implements Transport {
  readonly process: Process;

  constructor(process: Process) {
    this.process = process;
  }

  get byteOrder() {
    return this.process.byteOrder;
  }

  open(path: string): Promise<number> {
    return this.process.open(path, O.RDWR | O.CLOEXEC);
  }

  close(fd: number): Promise<void> {
    return this.process.close(fd);
  }

  ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): Promise<number> {
    return this.process.ioctl(fd, request, argument);
  }

  pread(fd: number, into: Uint8Array, offset: number | bigint): number | Promise<number> {
    return this.process.pread(fd, into, offset);
  }

  pwrite(fd: number, bytes: Uint8Array, offset: number | bigint): number | Promise<number> {
    return this.process.pwrite(fd, bytes, offset);
  }

  read(fd: number, into: Uint8Array): number | Promise<number> {
    return this.process.read(fd, into);
  }

  write(fd: number, bytes: Uint8Array): number | Promise<number> {
    return this.process.write(fd, bytes);
  }

  async mmap(fd: number, offset: number | bigint, length: number, access: Access): Promise<ClientMapping> {
    const { process } = this;
    const prot = (access.read ? Prot.READ : 0) | (access.write ? Prot.WRITE : 0);
    const address = await process.mmap(fd, { offset: Number(offset), length, prot, shared: true });
    return {
      address,
      length,
      load: (at, size) => process.mm.load(address + BigInt(at), size),
      store: (at, size, value) => process.mm.store(address + BigInt(at), size, value),
      unmap: once(() => process.mm.munmap(address, length)),
    };
  }

  allocate(length: number): ClientMemory {
    const { mm } = this.process;
    const address = mm.mmap({ length, prot: Prot.READ | Prot.WRITE });
    return {
      address,
      length,
      read: (offset, count) => mm.copyFrom(address + BigInt(offset), count),
      write: (offset, bytes) => mm.copyTo(address + BigInt(offset), bytes),
      free: once(() => mm.munmap(address, length)),
    };
  }

  eventfd(): number {
    return this.process.eventfd(0, { nonblock: true, cloexec: true });
  }

  takeEvents(eventfd: number): bigint {
    const file = this.process.files.get(eventfd);
    if (!(file instanceof EventFdFile)) throw new TypeError(`descriptor ${eventfd} is no eventfd`);
    return file.event.consume();
  }

  async readlink(path: string): Promise<string> {
    return this.process.readlink(path);
  }

  async readdir(path: string): Promise<string[]> {
    return this.process.readdir(path).map((entry) => entry.name);
  }
}

/** What is given back twice may be somebody else's by then. */
function once(fn: () => void): () => void {
  let done = false;
  return () => {
    if (done) return;
    done = true;
    fn();
  };
}
