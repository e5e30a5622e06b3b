// Memory of the client in the address space of the process that has the device open, in one of three ways: the file's own
// pages where nobody can take them away, reads and writes of the file where somebody can, and messages without a file.

import {
  type AccessSize,
  File,
  type Host,
  type Mapping,
  type MmioWindow,
  O,
  PAGE_SIZE,
  type Process,
  Prot,
  SystemError,
  Undo,
} from '@vfio/host';
import { isShrinkSealed, type Linux } from '@vfio/sys';
import type { DmaMessages } from './dma-messages.js';
import type { ClientFile } from './file-cache.js';

/** Memory of the client, mapped in the process. */
export interface Place {
  readonly vaddr: bigint;
  /** Takes it away again; it must not be mapped for DMA any more. */
  release(): Promise<void>;
}

/** What a place is made in. */
export interface PlaceContext {
  readonly linux: Linux;
  readonly host: Host;
  readonly process: Process;
}

/** What is mapped: bytes, and for what. */
export interface PlaceRequest {
  readonly size: number;
  readonly read: boolean;
  readonly write: boolean;
}

/** Pages of a file in one piece; the engine makes no longer arrays everywhere. */
const mostInOnePiece = 2 ** 30;

/**
 * Memory behind a descriptor.
 *
 * @param file - becomes the place's, also when this throws
 * @param offset - of the first byte in the file
 * @throws SystemError - ENOMEM and what else mmap says
 */
export async function placeFile(
  context: PlaceContext,
  file: ClientFile,
  offset: number,
  request: PlaceRequest,
): Promise<Place> {
  try {
    // a page that the file has lost would end this process when it is touched
    if (offset % PAGE_SIZE === 0 && isShrinkSealed(context.linux, file.fd)) {
      const place = await placePages(context, file.fd, offset, request);
      file[Symbol.dispose]();
      return place;
    }
    const place = await placeWindow(context, fileWindow(context.linux, file.fd, offset), request);
    return {
      vaddr: place.vaddr,
      release: async () => {
        await place.release();
        file[Symbol.dispose]();
      },
    };
  } catch (error) {
    file[Symbol.dispose]();
    throw error;
  }
}

/** Memory that the client reads and writes itself, when it is asked. */
export function placeMessages(
  context: PlaceContext,
  messages: DmaMessages,
  address: bigint,
  request: PlaceRequest,
): Promise<Place> {
  return placeWindow(context, messageWindow(messages, address), request);
}

/** The file's pages, as they are. */
async function placePages(
  { linux, host, process }: PlaceContext,
  fd: number,
  offset: number,
  { size, read, write }: PlaceRequest,
): Promise<Place> {
  await using undo = new Undo();
  const prot = protOf(read, write);
  // the room first, in one piece, and then each part at its place in it
  const vaddr = process.mm.mmap({ length: size, prot: Prot.NONE });
  undo.add(() => process.mm.munmap(vaddr, size));
  const mappings: Disposable[] = [];
  undo.add(() => {
    for (const mapping of mappings) mapping[Symbol.dispose]();
  });
  for (let done = 0; done < size; done += mostInOnePiece) {
    const length = Math.min(size - done, mostInOnePiece);
    const mapping = linux.map(fd, { offset: offset + done, length, write }, 'memory of a client');
    mappings.push(mapping);
    const range = host.memory.adopt(mapping.buffer, 'memory of a client');
    try {
      process.mm.mapRange(range, { prot, addr: vaddr + BigInt(done), fixed: true });
    } finally {
      range.put();
    }
  }
  undo.keep();
  return {
    vaddr,
    release: async () => {
      if (process.mm.alive) process.mm.munmap(vaddr, size);
      for (const mapping of mappings) mapping[Symbol.dispose]();
    },
  };
}

/** A window that answers for the memory, as that of a device does. */
async function placeWindow(
  { host, process }: PlaceContext,
  window: MmioWindow,
  { size, read, write }: PlaceRequest,
): Promise<Place> {
  const pages = Math.ceil(size / PAGE_SIZE);
  const placed = host.memory.placeMmio(pages, window);
  const file = new WindowFile();
  try {
    const mapping = windowMapping(window, placed.basePfn);
    const prot = protOf(read, write);
    const length = pages * PAGE_SIZE;
    const vaddr = process.mm.mapFile({ file, mapping, length, offset: 0, prot, mayProt: prot, shared: true });
    return {
      vaddr,
      release: async () => {
        if (process.mm.alive) {
          process.mm.munmap(vaddr, length);
          await process.mm.settled();
        }
        placed[Symbol.dispose]();
      },
    };
  } catch (error) {
    placed[Symbol.dispose]();
    throw error;
  } finally {
    await file.put();
  }
}

/** What stands for a window in an address space. */
class WindowFile extends File {
  constructor() {
    super({ flags: O.RDWR, label: 'anon_inode:[vfio-user]', seek: 'none' });
  }
}

/** Processors reach a window too: the driver of an emulated device copies so. */
function windowMapping(window: MmioWindow, basePfn: number): Mapping {
  const load = (offset: number, size: AccessSize): bigint | 'SIGBUS' => {
    if (window.readLater !== undefined) return 'SIGBUS';
    const bytes = new Uint8Array(size);
    if (!survives(() => window.read(offset, bytes))) return 'SIGBUS';
    return bytes.reduceRight((value, byte) => (value << 8n) | BigInt(byte), 0n);
  };
  const store = (offset: number, size: AccessSize, value: bigint): undefined | 'SIGBUS' => {
    if (window.writeLater !== undefined) return 'SIGBUS';
    const bytes = Uint8Array.from({ length: size }, (_, i) => Number((value >> BigInt(8 * i)) & 0xffn));
    return survives(() => window.write(offset, bytes)) ? undefined : 'SIGBUS';
  };
  return { kind: 'io', pfn: (index) => basePfn + index, load, store };
}

function survives(access: () => void): boolean {
  try {
    access();
    return true;
  } catch {
    return false;
  }
}

/** Reads and writes of a file, which may be shorter than it was. */
function fileWindow({ calls }: Linux, fd: number, start: number): MmioWindow {
  const whole = (count: number, bytes: Uint8Array, offset: number) => {
    if (count === bytes.length) return;
    throw new SystemError('EFAULT', `the client's file has not ${bytes.length} bytes at ${start + offset} any more`);
  };
  return {
    read: (offset, into) => whole(calls.pread(fd, into, into.length, start + offset), into, offset),
    write: (offset, from) => whole(calls.pwrite(fd, from, from.length, start + offset), from, offset),
  };
}

/** A processor can not wait for messages, and sees what a bus answers when nobody does. */
function messageWindow(messages: DmaMessages, address: bigint): MmioWindow {
  return {
    read: (_, into) => void into.fill(0xff),
    write: () => {},
    readLater: (offset, into) => onBus(messages.read(address + BigInt(offset), into)),
    writeLater: (offset, from) => onBus(messages.write(address + BigInt(offset), from)),
  };
}

/** A device learns that its request came back, and not why. */
async function onBus(access: Promise<void>): Promise<void> {
  try {
    await access;
  } catch (cause) {
    throw new SystemError('EFAULT', 'the client has not done it', { cause });
  }
}

function protOf(read: boolean, write: boolean): Prot {
  return (read ? Prot.READ : 0) | (write ? Prot.WRITE : 0);
}
