// A container: groups that share mappings, and the mappings.

import {
  bitmap,
  DirtyPagesFlag,
  DmaMapFlag,
  DmaUnmapFlag,
  Extension,
  IommuInfoCap,
  IommuInfoFlag,
  iommuType1DirtyBitmap,
  iommuType1DirtyBitmapGet,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  iommuType1Info,
  iommuType1InfoCapIovaRange,
  iommuType1InfoCapMigration,
  iommuType1InfoDmaAvail,
  iovaRange,
  Request,
} from '@vfio/core';
import { Descriptor, named } from './call.js';
import { askInfo, capabilities } from './info.js';
import type { Access, ClientMemory, Transport } from './transport.js';

/** Kinds of IOMMU that SET_IOMMU takes, by name. */
export const IommuKind = {
  type1: Extension.TYPE1_IOMMU,
  type1v2: Extension.TYPE1v2_IOMMU,
  noiommu: Extension.NOIOMMU_IOMMU,
} as const;
/** Name of a kind of IOMMU. */
export type IommuKind = keyof typeof IommuKind;

/** What a container tells of its IOMMU. */
export interface ContainerInfo {
  /** Page sizes in bytes, as a bitmap. */
  readonly pageSizes: bigint;
  /** Ranges that can be mapped, both ends included; empty if the IOMMU does not say. */
  readonly iovaRanges: readonly { readonly start: bigint; readonly end: bigint }[];
  /** Mappings that can still be made. */
  readonly dmaAvail: number | undefined;
  /** Dirty tracking: page sizes and the largest bitmap in bytes. */
  readonly migration: { readonly pageSizes: bigint; readonly maxBitmapSize: bigint } | undefined;
}

/** A mapping to make. */
export interface DmaMapping extends Partial<Access> {
  readonly iova: bigint;
  /** Address of the memory in the caller's address space. */
  readonly vaddr: bigint;
  /** Bytes, whole pages. */
  readonly size: bigint;
}

/** Memory of the client that is mapped for DMA, until it is disposed of. */
export interface DmaBuffer extends AsyncDisposable {
  readonly iova: bigint;
  readonly size: bigint;
  read(offset: number, length: number): Uint8Array;
  write(offset: number, bytes: Uint8Array): void;
}

const bitsOfWord = 64n;

/** Bytes of a bitmap with one bit for each page. */
function bitmapBytes(size: bigint, pageSize: bigint): number {
  const pages = (size + pageSize - 1n) / pageSize;
  return Number(((pages + bitsOfWord - 1n) / bitsOfWord) * 8n);
}

/** An open container. Source: include/uapi/linux/vfio.h, requests of the container */
export class Container extends Descriptor {
  /** Opens a new, empty container. */
  static async open(transport: Transport): Promise<Container> {
    const path = '/dev/vfio/vfio';
    return new Container(transport, await named('open', path, () => transport.open(path)), path);
  }

  /** The version of the interface: 0. */
  apiVersion(): Promise<number> {
    return this.ioctl('VFIO_GET_API_VERSION', Request.GET_API_VERSION);
  }

  /** Whether an extension is supported: 0 or positive. */
  checkExtension(extension: number): Promise<number> {
    return this.ioctl('VFIO_CHECK_EXTENSION', Request.CHECK_EXTENSION, extension);
  }

  /** Chooses the IOMMU; a group must be attached. */
  async setIommu(kind: IommuKind | number): Promise<void> {
    const number = typeof kind === 'number' ? kind : IommuKind[kind];
    await this.ioctl('VFIO_SET_IOMMU', Request.SET_IOMMU, number);
  }

  /** What the IOMMU can do. */
  async info(): Promise<ContainerInfo> {
    const order = this.transport.byteOrder;
    const bytes = await askInfo(
      iommuType1Info.size,
      order,
      () => {},
      (buffer) => this.ioctl('VFIO_IOMMU_GET_INFO', Request.IOMMU_GET_INFO, buffer),
    );
    const info = iommuType1Info.decode(bytes, order);
    const caps = info.flags & IommuInfoFlag.CAPS ? capabilities(bytes, info.capOffset, order) : [];
    const of = (id: number) => caps.find((cap) => cap.id === id)?.bytes;
    const ranges = of(IommuInfoCap.IOVA_RANGE);
    const avail = of(IommuInfoCap.DMA_AVAIL);
    const migration = of(IommuInfoCap.MIGRATION);
    const decodedMigration = migration && iommuType1InfoCapMigration.decode(migration, order);
    return {
      pageSizes: info.iovaPgsizes,
      iovaRanges: ranges
        ? Array.from({ length: iommuType1InfoCapIovaRange.decode(ranges, order).nrIovas }, (_, i) =>
            iovaRange.decode(ranges.subarray(iommuType1InfoCapIovaRange.size + i * iovaRange.size), order),
          )
        : [],
      dmaAvail: avail && iommuType1InfoDmaAvail.decode(avail, order).avail,
      migration: decodedMigration && {
        pageSizes: decodedMigration.pgsizeBitmap,
        maxBitmapSize: decodedMigration.maxDirtyBitmapSize,
      },
    };
  }

  /** Maps memory; read and write are from the device's side, both unless said otherwise. */
  async mapDma(mapping: DmaMapping): Promise<void> {
    const { read = true, write = true, iova, vaddr, size } = mapping;
    const flags = (read ? DmaMapFlag.READ : 0) | (write ? DmaMapFlag.WRITE : 0);
    await this.#map({ argsz: iommuType1DmaMap.size, flags, vaddr, iova, size });
  }

  /** Tells the new address of mapped memory whose old one was given up with {@link invalidateVaddr}. */
  async updateVaddr(mapping: { iova: bigint; vaddr: bigint; size: bigint }): Promise<void> {
    await this.#map({ argsz: iommuType1DmaMap.size, flags: DmaMapFlag.VADDR, ...mapping });
  }

  async #map(value: { argsz: number; flags: number; vaddr: bigint; iova: bigint; size: bigint }): Promise<void> {
    const bytes = iommuType1DmaMap.encode(value, this.transport.byteOrder);
    await this.ioctl('VFIO_IOMMU_MAP_DMA', Request.IOMMU_MAP_DMA, bytes);
  }

  /**
   * Unmaps a range.
   *
   * @returns bytes that were unmapped
   */
  unmapDma(range: { iova: bigint; size: bigint }): Promise<bigint> {
    return this.#unmap(0, range.iova, range.size);
  }

  /** Unmaps everything; returns how many bytes that were. */
  unmapAll(): Promise<bigint> {
    return this.#unmap(DmaUnmapFlag.ALL, 0n, 0n);
  }

  /** Gives up the addresses of mapped memory while DMA goes on; of everything if no range is given. */
  async invalidateVaddr(range?: { iova: bigint; size: bigint }): Promise<void> {
    if (range) await this.#unmap(DmaUnmapFlag.VADDR, range.iova, range.size);
    else await this.#unmap(DmaUnmapFlag.VADDR | DmaUnmapFlag.ALL, 0n, 0n);
  }

  async #unmap(flags: number, iova: bigint, size: bigint): Promise<bigint> {
    const order = this.transport.byteOrder;
    const bytes = iommuType1DmaUnmap.encode({ argsz: iommuType1DmaUnmap.size, flags, iova, size }, order);
    await this.ioctl('VFIO_IOMMU_UNMAP_DMA', Request.IOMMU_UNMAP_DMA, bytes);
    return iommuType1DmaUnmap.decode(bytes, order).size;
  }

  /**
   * Unmaps a range and reports which of its pages were written to.
   *
   * @param pageSize - bytes that a bit stands for
   */
  async unmapDmaDirty(
    range: { iova: bigint; size: bigint },
    pageSize: bigint,
  ): Promise<{ size: bigint; dirty: Uint8Array }> {
    const order = this.transport.byteOrder;
    using memory = new Scratch(this.transport, bitmapBytes(range.size, pageSize));
    const bytes = new Uint8Array(iommuType1DmaUnmap.size + bitmap.size);
    bytes.set(
      iommuType1DmaUnmap.encode({ argsz: bytes.length, flags: DmaUnmapFlag.GET_DIRTY_BITMAP, ...range }, order),
    );
    bytes.set(
      bitmap.encode({ pgsize: pageSize, size: BigInt(memory.length), data: memory.address }, order),
      iommuType1DmaUnmap.size,
    );
    await this.ioctl('VFIO_IOMMU_UNMAP_DMA', Request.IOMMU_UNMAP_DMA, bytes);
    return { size: iommuType1DmaUnmap.decode(bytes, order).size, dirty: memory.bytes() };
  }

  /** Starts to note which pages devices write to. */
  startDirtyTracking(): Promise<number> {
    return this.#dirty(DirtyPagesFlag.START);
  }

  /** Ends it. */
  stopDirtyTracking(): Promise<number> {
    return this.#dirty(DirtyPagesFlag.STOP);
  }

  #dirty(flags: number): Promise<number> {
    const bytes = iommuType1DirtyBitmap.encode({ argsz: iommuType1DirtyBitmap.size, flags }, this.transport.byteOrder);
    return this.ioctl('VFIO_IOMMU_DIRTY_PAGES', Request.IOMMU_DIRTY_PAGES, bytes);
  }

  /** Reports and forgets the pages of a range that were written to: bit k is page k. */
  async dirtyBitmap(range: { iova: bigint; size: bigint }, pageSize: bigint): Promise<Uint8Array> {
    const order = this.transport.byteOrder;
    using memory = new Scratch(this.transport, bitmapBytes(range.size, pageSize));
    const header = iommuType1DirtyBitmap.size;
    const bytes = new Uint8Array(header + iommuType1DirtyBitmapGet.size);
    bytes.set(iommuType1DirtyBitmap.encode({ argsz: bytes.length, flags: DirtyPagesFlag.GET_BITMAP }, order));
    const wanted = { pgsize: pageSize, size: BigInt(memory.length), data: memory.address };
    bytes.set(iommuType1DirtyBitmapGet.encode({ iova: range.iova, size: range.size, bitmap: wanted }, order), header);
    await this.ioctl('VFIO_IOMMU_DIRTY_PAGES', Request.IOMMU_DIRTY_PAGES, bytes);
    return memory.bytes();
  }

  /** Memory of the client, mapped at an IOVA until it is disposed of. */
  async dmaBuffer(iova: bigint, size: number, access: Partial<Access> = {}): Promise<DmaBuffer> {
    const memory = this.transport.allocate(size);
    try {
      await this.mapDma({ iova, vaddr: memory.address, size: BigInt(size), ...access });
    } catch (error) {
      memory.free();
      throw error;
    }
    return {
      iova,
      size: BigInt(size),
      read: (offset, length) => memory.read(offset, length),
      write: (offset, bytes) => memory.write(offset, bytes),
      [Symbol.asyncDispose]: async () => {
        await this.unmapDma({ iova, size: BigInt(size) });
        memory.free();
      },
    };
  }
}

/** Memory that the kernel writes an answer to, for the time of one request. */
export class Scratch implements Disposable {
  readonly #memory: ClientMemory;
  /** Bytes. */
  readonly length: number;

  constructor(transport: Transport, length: number) {
    this.length = length;
    this.#memory = transport.allocate(Math.max(length, 1));
  }

  get address(): bigint {
    return this.#memory.address;
  }

  write(bytes: Uint8Array): void {
    this.#memory.write(0, bytes);
  }

  /** What is in it now. */
  bytes(): Uint8Array {
    return this.#memory.read(0, this.length);
  }

  [Symbol.dispose](): void {
    this.#memory.free();
  }
}
