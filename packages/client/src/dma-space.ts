// What a container and an IOAS have in common: memory of the client is mapped there, at addresses that devices use.

import { isVfioError, VfioError } from '@vfio/core';
import type { Access, Transport } from './transport.js';

/** A mapping to make. */
export interface DmaMapping extends Partial<Access> {
  readonly iova: bigint;
  /** Address of the memory in the caller's address space. */
  readonly vaddr: bigint;
  /** Bytes, whole pages. */
  readonly size: bigint;
}

/** A place to map at; both ends belong to a range. */
export interface IovaWindow {
  readonly start: bigint;
  readonly end: bigint;
}

/** Memory of the client that is mapped for DMA, until it is disposed of. */
export interface DmaBuffer extends AsyncDisposable {
  readonly iova: bigint;
  readonly size: bigint;
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

/** An address space for DMA. */
export interface DmaSpace {
  /** Maps memory; read and write are from the device's side, both unless said otherwise. */
  mapDma(mapping: DmaMapping): Promise<void>;
  /**
   * Unmaps a range.
   *
   * @returns bytes that were unmapped
   */
  unmapDma(range: { iova: bigint; size: bigint }): Promise<bigint>;
  /** Unmaps everything; returns how many bytes that were. */
  unmapAll(): Promise<bigint>;
  /** Where something can be mapped; empty if the kernel does not say. */
  iovaRanges(): Promise<readonly IovaWindow[]>;
  /** Memory of the client, mapped at an IOVA until it is disposed of. */
  dmaBuffer(iova: bigint, size: number, access?: Partial<Access>): Promise<DmaBuffer>;
}

/** Nobody expects memory at the first megabyte; machines have other things there. */
const lowestIova = 0x10_0000n;
/** Places that are tried in each range. */
const mostPlaces = 256;

/**
 * Memory at the first free place.
 *
 * @param length - bytes, whole pages
 * @param limit - end of the places that will do
 * @throws VfioError ENOSPC - none was found
 */
export async function bufferBelow(space: DmaSpace, length: number, limit: bigint): Promise<DmaBuffer> {
  const size = BigInt(length);
  const told = await space.iovaRanges();
  for (const { start, end } of told.length > 0 ? told : [{ start: 0n, end: limit - 1n }]) {
    const last = end < limit ? end : limit - 1n;
    let iova = start > lowestIova ? start : lowestIova;
    for (let place = 0; place < mostPlaces && iova + size - 1n <= last; place++, iova += size) {
      try {
        return await space.dmaBuffer(iova, length);
      } catch (error) {
        if (!isVfioError(error, 'EEXIST')) throw error;
      }
    }
  }
  throw new VfioError('ENOSPC', `no place for ${length} bytes below 0x${limit.toString(16)}`, { syscall: 'mapMemory' });
}

/**
 * Allocates memory and maps it.
 *
 * @param isOpen - whether the space is still there; one that was closed has taken its mappings along
 */
export async function mapBuffer(
  space: DmaSpace,
  transport: Transport,
  isOpen: () => boolean,
  iova: bigint,
  length: number,
  access: Partial<Access>,
): Promise<DmaBuffer> {
  const memory = transport.allocate(length);
  const size = BigInt(length);
  try {
    await space.mapDma({ iova, vaddr: memory.address, size, ...access });
  } catch (error) {
    memory.free();
    throw error;
  }
  let ended: Promise<void> | undefined;
  const end = async () => {
    try {
      if (isOpen()) await space.unmapDma({ iova, size });
    } catch (error) {
      // unmapped with the rest of the space: a container calls that success, an IOAS does not
      if (!isVfioError(error, 'ENOENT')) throw error;
    } finally {
      memory.free();
    }
  };
  return {
    iova,
    size,
    read: (offset, bytes) => memory.read(offset, bytes),
    write: (offset, bytes) => memory.write(offset, bytes),
    [Symbol.asyncDispose]: () => {
      ended ??= end();
      return ended;
    },
  };
}
