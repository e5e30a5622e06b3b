// An address space of an iommufd.

import {
  IommufdRequest,
  IommuIoasMapFlag,
  IommuOptionId,
  iommuIoasAllowIovas,
  iommuIoasCopy,
  iommuIoasIovaRanges,
  iommuIoasMap,
  iommuIoasMapFile,
  iommuIoasUnmap,
  iommuIovaRange,
  isVfioError,
} from '@vfio/core';
import { type DmaBuffer, type DmaMapping, type DmaSpace, type IovaWindow, mapBuffer } from './dma-space.js';
import { elements } from './info.js';
import type { Iommufd } from './iommufd.js';
import { Scratch } from './scratch.js';
import type { Access } from './transport.js';

/** All of an address space, as a length. */
const everything = 2n ** 64n - 1n;
/** Ranges that are asked for first; most machines have fewer. */
const usualRanges = 16;
/** No address space has more. */
const mostRanges = 1 << 16;
/** How often there may turn out to be more than the time before. */
const mostAttempts = 8;

/** An address space. Source: include/uapi/linux/iommufd.h, IOMMU_IOAS_* */
export class Ioas implements DmaSpace, AsyncDisposable {
  readonly iommufd: Iommufd;
  readonly id: number;
  #destroyed: Promise<void> | undefined;

  constructor(iommufd: Iommufd, id: number) {
    this.iommufd = iommufd;
    this.id = id;
  }

  async mapDma(mapping: DmaMapping): Promise<void> {
    await this.#map(mapping, IommuIoasMapFlag.FIXED_IOVA, mapping.iova);
  }

  /**
   * Maps memory where there is room.
   *
   * @returns the IOVA
   */
  mapAnywhere(mapping: Omit<DmaMapping, 'iova'>): Promise<bigint> {
    return this.#map(mapping, 0, 0n);
  }

  async #map(mapping: Omit<DmaMapping, 'iova'>, fixed: number, iova: bigint): Promise<bigint> {
    const { vaddr: userVa, size: length } = mapping;
    const value = { size: iommuIoasMap.size, flags: fixed | accessFlags(mapping), ioasId: this.id };
    return (await this.iommufd.request('IOAS_MAP', iommuIoasMap, { ...value, userVa, length, iova })).iova;
  }

  /**
   * Maps a part of a file whose contents are memory, such as a memfd.
   *
   * @param file - its descriptor, and the bytes of it
   * @param iova - where it goes; chosen by the kernel unless given
   * @returns the IOVA
   */
  async mapFile(
    file: { fd: number; start: bigint; size: bigint },
    iova?: bigint,
    access: Partial<Access> = {},
  ): Promise<bigint> {
    const { fd, start, size: length } = file;
    const flags = accessFlags(access) | (iova === undefined ? 0 : IommuIoasMapFlag.FIXED_IOVA);
    const value = { size: iommuIoasMapFile.size, flags, ioasId: this.id, fd, start, length, iova: iova ?? 0n };
    return (await this.iommufd.request('IOAS_MAP_FILE', iommuIoasMapFile, value)).iova;
  }

  /** Whether page tables get large pages. */
  async hugePages(): Promise<boolean> {
    return (await this.iommufd.option(IommuOptionId.HUGE_PAGES, this.id)) === 1n;
  }

  /** Gives page tables large pages or not; EINVAL when it is too late. */
  async setHugePages(on: boolean): Promise<void> {
    await this.iommufd.option(IommuOptionId.HUGE_PAGES, this.id, on ? 1n : 0n);
  }

  /**
   * Maps what is mapped in another address space, too.
   *
   * @param from - a range without holes there
   * @param iova - where it goes; chosen by the kernel unless given
   * @returns the IOVA
   */
  async copyDma(
    from: { ioas: Ioas; iova: bigint; size: bigint },
    iova?: bigint,
    access: Partial<Access> = {},
  ): Promise<bigint> {
    const flags = accessFlags(access) | (iova === undefined ? 0 : IommuIoasMapFlag.FIXED_IOVA);
    const ids = { dstIoasId: this.id, srcIoasId: from.ioas.id };
    const place = { length: from.size, dstIova: iova ?? 0n, srcIova: from.iova };
    const value = { size: iommuIoasCopy.size, flags, ...ids, ...place };
    return (await this.iommufd.request('IOAS_COPY', iommuIoasCopy, value)).dstIova;
  }

  async unmapDma({ iova, size }: { iova: bigint; size: bigint }): Promise<bigint> {
    const value = { size: iommuIoasUnmap.size, ioasId: this.id, iova, length: size };
    return (await this.iommufd.request('IOAS_UNMAP', iommuIoasUnmap, value)).length;
  }

  unmapAll(): Promise<bigint> {
    return this.unmapDma({ iova: 0n, size: everything });
  }

  async iovaRanges(): Promise<IovaWindow[]> {
    return (await this.info()).iovaRanges;
  }

  /**
   * Where something can be mapped, and what addresses and lengths must be a multiple of.
   *
   * @throws RangeError - the answer tells of more ranges than there can be, or of more each time
   */
  async info(): Promise<{ iovaRanges: IovaWindow[]; alignment: bigint }> {
    let room = usualRanges;
    for (let attempt = 0; attempt < mostAttempts; attempt++) {
      const { total, iovaRanges, alignment } = await this.#info(room);
      if (total <= room) return { iovaRanges, alignment };
      if (total > mostRanges) throw new RangeError(`${total} ranges of an address space`);
      room = total;
    }
    throw new RangeError(`ranges of an address space that are more at each of ${mostAttempts} attempts`);
  }

  async #info(room: number): Promise<{ iovaRanges: IovaWindow[]; alignment: bigint; total: number }> {
    const { transport } = this.iommufd;
    using memory = new Scratch(transport, room * iommuIovaRange.size);
    const bytes = iommuIoasIovaRanges.encode(
      { size: iommuIoasIovaRanges.size, ioasId: this.id, numIovas: room, allowedIovas: memory.address },
      transport.byteOrder,
    );
    try {
      await this.iommufd.ioctl('IOMMU_IOAS_IOVA_RANGES', IommufdRequest.IOAS_IOVA_RANGES, bytes);
    } catch (error) {
      // too little room: the answer says how much it takes
      if (!isVfioError(error, 'EMSGSIZE')) throw error;
    }
    const { numIovas: total, outIovaAlignment: alignment } = iommuIoasIovaRanges.decode(bytes, transport.byteOrder);
    const ranges = elements(memory.bytes(), 0, Math.min(room, total), iommuIovaRange, transport.byteOrder);
    return { iovaRanges: ranges.map(({ start, last }) => ({ start, end: last })), alignment, total };
  }

  /** Limits where the kernel maps when it is not told; an empty list lifts the limit. */
  async allowIovas(ranges: readonly IovaWindow[]): Promise<void> {
    const { transport } = this.iommufd;
    using memory = new Scratch(transport, ranges.length * iommuIovaRange.size);
    const encoded = ranges.map(({ start, end }) => iommuIovaRange.encode({ start, last: end }, transport.byteOrder));
    memory.write(Buffer.concat(encoded));
    const place = { numIovas: ranges.length, allowedIovas: ranges.length > 0 ? memory.address : 0n };
    const value = { size: iommuIoasAllowIovas.size, ioasId: this.id, ...place };
    await this.iommufd.request('IOAS_ALLOW_IOVAS', iommuIoasAllowIovas, value);
  }

  dmaBuffer(iova: bigint, size: number, access: Partial<Access> = {}): Promise<DmaBuffer> {
    const isHere = () => this.iommufd.isOpen && this.#destroyed === undefined;
    return mapBuffer(this, this.iommufd.transport, isHere, iova, size, access);
  }

  /** Destroys it; EBUSY while a device is attached. A second call does nothing. */
  async destroy(): Promise<void> {
    this.#destroyed ??= this.iommufd.destroy(this.id);
    try {
      await this.#destroyed;
    } catch (error) {
      this.#destroyed = undefined;
      throw error;
    }
  }

  /** Destroys it, unless its iommufd was closed and has taken it along. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.iommufd.isOpen) await this.destroy();
  }
}

function accessFlags({ read = true, write = true }: Partial<Access>): number {
  return (read ? IommuIoasMapFlag.READABLE : 0) | (write ? IommuIoasMapFlag.WRITEABLE : 0);
}
