// DMA_MAP and DMA_UNMAP: memory of the client comes into the process that has the device open, and is mapped for the device
// as a program maps its own.

import type { DmaSpace } from '@vfio/client';
import { isVfioError, VfioError } from '@vfio/core';
import { DmaMapFlag, DmaUnmapFlag, dmaMapMessage, dmaUnmapMessage } from '../wire/messages.js';
import type { Call } from './call.js';
import type { DmaMessages } from './dma-messages.js';
import { type Place, type PlaceContext, placeFile, placeMessages } from './dma-places.js';
import { FileCache } from './file-cache.js';
import { invalid } from './refusal.js';

const mapFlags = DmaMapFlag.READ | DmaMapFlag.WRITE | DmaMapFlag.MMAP | DmaMapFlag.FILE_IO;
const addressEnd = 2n ** 64n;

/** A mapping, by its address. */
interface Mapped {
  readonly size: bigint;
  readonly place: Place;
}

/** The client's memory, as far as it is mapped. */
export class GuestMemory {
  readonly #context: PlaceContext;
  readonly #space: DmaSpace;
  readonly #messages: DmaMessages;
  readonly #files: FileCache;
  readonly #most: number;
  readonly #mapped = new Map<bigint, Mapped>();

  /** @param most - mappings that there may be */
  constructor(context: PlaceContext, space: DmaSpace, messages: DmaMessages, most: number) {
    this.#context = context;
    this.#space = space;
    this.#messages = messages;
    this.#files = new FileCache(context.linux);
    this.#most = most;
  }

  /** Mappings that there are. */
  get size(): number {
    return this.#mapped.size;
  }

  /** Files of the client that are open. */
  get openFiles(): number {
    return this.#files.size;
  }

  /** DMA_MAP. */
  async map(call: Call): Promise<void> {
    if (call.length < dmaMapMessage.size) throw invalid(`${call.length} bytes do not hold a request`);
    const { argsz, flags, offset, address, size } = dmaMapMessage.decode(call.payload(0, dmaMapMessage.size), 'little');
    if (argsz < dmaMapMessage.size) throw invalid(`argsz is ${argsz}`);
    if ((flags & ~mapFlags) !== 0) throw invalid(`flags 0x${flags.toString(16)}`);
    if (size === 0n || address + size > addressEnd) throw invalid(`${size} bytes at 0x${address.toString(16)}`);
    if (size > Number.MAX_SAFE_INTEGER || offset + size > Number.MAX_SAFE_INTEGER) throw invalid(`${size} bytes`);
    if (this.#mapped.size >= this.#most) throw invalid(`more than ${this.#most} mappings`);
    if (call.fdCount > 1) throw invalid(`${call.fdCount} descriptors`);
    const read = (flags & DmaMapFlag.READ) !== 0;
    const write = (flags & DmaMapFlag.WRITE) !== 0;
    const place = await this.#place(call.takeFds(), Number(offset), address, { size: Number(size), read, write });
    try {
      await this.#space.mapDma({ iova: address, vaddr: place.vaddr, size, read, write });
    } catch (error) {
      await place.release();
      throw error;
    }
    this.#mapped.set(address, { size, place });
  }

  /** DMA_UNMAP: all that lies within the range. The reply repeats the request. */
  async unmap(call: Call): Promise<void> {
    if (call.length < dmaUnmapMessage.size) throw invalid(`${call.length} bytes do not hold a request`);
    const request = call.payload(0, dmaUnmapMessage.size).slice();
    const { argsz, flags, address, size } = dmaUnmapMessage.decode(request, 'little');
    if (argsz < dmaUnmapMessage.size) throw invalid(`argsz is ${argsz}`);
    if (flags === DmaUnmapFlag.ALL) {
      if (address !== 0n || size !== 0n) throw invalid('all is asked for, and a range');
      await this.#unmapAll();
    } else {
      if (flags !== 0) throw invalid(`flags 0x${flags.toString(16)}`);
      if (size === 0n || address + size > addressEnd) throw invalid(`${size} bytes at 0x${address.toString(16)}`);
      await this.#unmapRange(address, size);
    }
    call.replyWith(request);
  }

  /** Gives everything back; the device is closed, and its mappings with it. */
  async close(): Promise<void> {
    for (const [address, { place }] of [...this.#mapped]) {
      this.#mapped.delete(address);
      await place.release();
    }
  }

  async #place(
    [fd]: readonly number[],
    offset: number,
    address: bigint,
    request: { size: number; read: boolean; write: boolean },
  ): Promise<Place> {
    if (fd === undefined) return await placeMessages(this.#context, this.#messages, address, request);
    const file = this.#files.take(fd, request.write);
    if (offset + request.size > file.size) {
      file[Symbol.dispose]();
      throw invalid(`${request.size} bytes at ${offset} of a file of ${file.size}`);
    }
    return await placeFile(this.#context, file, offset, request);
  }

  async #unmapRange(address: bigint, size: bigint): Promise<void> {
    const within = this.#within(address, size);
    if (within.length === 0) this.#refuseCut(address, size);
    const unmapped = await this.#space.unmapDma({ iova: address, size }).catch((error: unknown) => {
      if (isVfioError(error, 'ENOENT')) return 0n;
      throw error;
    });
    for (const one of within) await this.#release(one);
    if (unmapped === 0n) throw new VfioError('ENOENT', `nothing is mapped at 0x${address.toString(16)}`);
  }

  async #unmapAll(): Promise<void> {
    await this.#space.unmapAll();
    for (const address of [...this.#mapped.keys()]) await this.#release(address);
  }

  /** Addresses of the mappings within a range; most often it is one of them. */
  #within(address: bigint, size: bigint): bigint[] {
    if (this.#mapped.get(address)?.size === size) return [address];
    const end = address + size;
    return [...this.#mapped].filter(([at, one]) => at >= address && at + one.size <= end).map(([at]) => at);
  }

  /** @throws VfioError EINVAL - the range is a part of a mapping */
  #refuseCut(address: bigint, size: bigint): void {
    for (const [at, one] of this.#mapped) {
      if (at < address + size && at + one.size > address)
        throw invalid(`a mapping at 0x${at.toString(16)} would be cut`);
    }
  }

  async #release(address: bigint): Promise<void> {
    const one = this.#mapped.get(address);
    if (one === undefined) return;
    this.#mapped.delete(address);
    this.#messages.cancel(address, one.size);
    await one.place.release();
  }
}
