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
import type { ByteOrder } from '@vfio/host';
import { Descriptor, named } from './call.js';
import { type DmaBuffer, type DmaMapping, type DmaSpace, type IovaWindow, mapBuffer } from './dma-space.js';
import { askInfo, capabilities, elements } from './info.js';
import { bitmapBytes, bitmapOf, Scratch } from './scratch.js';
import type { Access, Transport } from './transport.js';

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
  readonly iovaRanges: readonly IovaWindow[];
  /** Mappings that can still be made. */
  readonly dmaAvail: number | undefined;
  /** Dirty tracking: page sizes and the largest bitmap in bytes. */
  readonly migration: { readonly pageSizes: bigint; readonly maxBitmapSize: bigint } | undefined;
}

/** An open container. Source: include/uapi/linux/vfio.h, requests of the container */
export class Container extends Descriptor implements DmaSpace {
  /**
   * Opens a new, empty container.
   *
   * @param path - `/dev/iommu` for an iommufd that stands in for one
   */
  static async open(transport: Transport, path = '/dev/vfio/vfio'): Promise<Container> {
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
    const chained = (info.flags & IommuInfoFlag.CAPS) !== 0;
    const caps = chained ? capabilities(bytes, iommuType1Info.size, info.capOffset, order) : [];
    const of = (id: number) => caps.find((cap) => cap.id === id)?.bytes;
    const ranges = of(IommuInfoCap.IOVA_RANGE);
    const avail = of(IommuInfoCap.DMA_AVAIL);
    const migration = of(IommuInfoCap.MIGRATION);
    const decodedMigration = migration && iommuType1InfoCapMigration.decode(migration, order);
    return {
      pageSizes: info.iovaPgsizes,
      iovaRanges: ranges ? rangesOf(ranges, order) : [],
      dmaAvail: avail && iommuType1InfoDmaAvail.decode(avail, order).avail,
      migration: decodedMigration && {
        pageSizes: decodedMigration.pgsizeBitmap,
        maxBitmapSize: decodedMigration.maxDirtyBitmapSize,
      },
    };
  }

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

  unmapDma(range: { iova: bigint; size: bigint }): Promise<bigint> {
    return this.#unmap(0, range.iova, range.size);
  }

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
   * @param pageSize - bytes that a bit stands for: bit k%8 of byte k/8 is page k
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
    return { size: iommuType1DmaUnmap.decode(bytes, order).size, dirty: bitmapOf(memory.bytes(), order) };
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

  /** Reports and forgets the pages of a range that were written to: bit k%8 of byte k/8 is page k. */
  async dirtyBitmap(range: { iova: bigint; size: bigint }, pageSize: bigint): Promise<Uint8Array> {
    const order = this.transport.byteOrder;
    using memory = new Scratch(this.transport, bitmapBytes(range.size, pageSize));
    const header = iommuType1DirtyBitmap.size;
    const bytes = new Uint8Array(header + iommuType1DirtyBitmapGet.size);
    bytes.set(iommuType1DirtyBitmap.encode({ argsz: bytes.length, flags: DirtyPagesFlag.GET_BITMAP }, order));
    const wanted = { pgsize: pageSize, size: BigInt(memory.length), data: memory.address };
    bytes.set(iommuType1DirtyBitmapGet.encode({ iova: range.iova, size: range.size, bitmap: wanted }, order), header);
    await this.ioctl('VFIO_IOMMU_DIRTY_PAGES', Request.IOMMU_DIRTY_PAGES, bytes);
    return bitmapOf(memory.bytes(), order);
  }

  async iovaRanges(): Promise<readonly IovaWindow[]> {
    return (await this.info()).iovaRanges;
  }

  dmaBuffer(iova: bigint, size: number, access: Partial<Access> = {}): Promise<DmaBuffer> {
    return mapBuffer(this, this.transport, () => this.isOpen, iova, size, access);
  }
}

/** The ranges that can be mapped. */
function rangesOf(cap: Uint8Array, order: ByteOrder): { start: bigint; end: bigint }[] {
  const { nrIovas } = iommuType1InfoCapIovaRange.decode(cap, order);
  return elements(cap, iommuType1InfoCapIovaRange.size, nrIovas, iovaRange, order);
}
