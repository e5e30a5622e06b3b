// How a client reaches a kernel: system calls on descriptors, and memory that the kernel can address. In process it is a
// Process of a host; another door implements the same interface.

import type { ByteOrder } from '@vfio/host';

/** Memory of the caller that can be mapped for DMA. Give it back with `free`. */
export interface ClientMemory {
  /** Address in the caller's address space. */
  readonly address: bigint;
  /** Bytes. */
  readonly length: number;
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
  /** Gives it back; a second call does nothing. */
  free(): void;
}

/** A mapping of a part of a file into the caller's memory; each access is one access of the CPU. */
export interface ClientMapping {
  readonly address: bigint;
  readonly length: number;
  /** Size is 1, 2, 4 or 8 bytes. */
  load(offset: number, size: 1 | 2 | 4 | 8): bigint;
  store(offset: number, size: 1 | 2 | 4 | 8, value: bigint): void;
  /** Takes the mapping away; a second call does nothing. */
  unmap(): void;
}

/** What may be done with a mapping. */
export interface Access {
  readonly read: boolean;
  readonly write: boolean;
}

/**
 * System calls, as a client of VFIO makes them. Failures are errors with `code`, `errno` and `syscall`.
 */
export interface Transport {
  /** Byte order of the structures that the kernel expects. */
  readonly byteOrder: ByteOrder;
  open(path: string): Promise<number>;
  close(fd: number): Promise<void>;
  /** Bytes are the structure, read and written in place; a number is the argument itself. */
  ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): Promise<number>;
  pread(fd: number, into: Uint8Array, offset: number | bigint): number | Promise<number>;
  pwrite(fd: number, bytes: Uint8Array, offset: number | bigint): number | Promise<number>;
  read(fd: number, into: Uint8Array): number | Promise<number>;
  write(fd: number, bytes: Uint8Array): number | Promise<number>;
  mmap(fd: number, offset: number | bigint, length: number, access: Access): Promise<ClientMapping>;
  allocate(length: number): ClientMemory;
  eventfd(): number;
  /** Takes the counter of an eventfd; 0 if it is not signalled. */
  takeEvents(eventfd: number): bigint;
  readlink(path: string): Promise<string>;
  /** Names in a directory. */
  readdir(path: string): Promise<string[]>;
}
