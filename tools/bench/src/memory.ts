// Memory as a device reaches it, and what is known of its writes.

import {
  DirtyPagesFlag,
  iommuType1DirtyBitmap,
  iommuType1DirtyBitmapGet,
  pinPages,
  Request,
  unpinPages,
} from '@vfio/core';
import { IommuProt } from '@vfio/host';
import { createLab } from './lab.js';
import { mapper, memory } from './mapper.js';
import type { Bench } from './subjects.js';

const page = 4096;
const iova = 0x1000_0000n;

/** Memory that is mapped here is reached at once, or the figure is about something else. */
function done(pending: void | Promise<void>): void {
  if (pending !== undefined) throw new Error('memory was reached later');
}

/** A page through the IOMMU, as the device itself reads and writes it. */
export async function dmaCopy(checked: boolean): Promise<Bench> {
  const lab = await createLab({ checked });
  const device = await lab.register();
  const path = await lab.open();
  await mapper(lab, path.container, page, iova).map();
  const dma = lab.host.iommu.dma(lab.parent);
  const bytes = Buffer.alloc(page);
  const target = { withinFloor: 2 };
  return {
    subjects: [
      {
        name: 'DMA through the IOMMU, read 4 KiB',
        floor: 'Buffer.copy 4 KiB',
        target,
        work: (count) => {
          for (let i = 0; i < count; i++) done(dma.read(iova, bytes));
        },
      },
      {
        name: 'DMA through the IOMMU, write 4 KiB',
        floor: 'Buffer.copy 4 KiB',
        target,
        work: (count) => {
          for (let i = 0; i < count; i++) done(dma.write(iova, bytes));
        },
      },
    ],
    async [Symbol.asyncDispose]() {
      await lab.close(path);
      await lab.unregister(device);
      await lab[Symbol.asyncDispose]();
    },
  };
}

const scannedBytes = 64 * 2 ** 30;
const pinnedPages = 512;

/** The request for the dirty pages of a guest of 64 GiB, some of which are always dirty because a device holds them. */
export async function dirtyScan(checked: boolean): Promise<Bench> {
  const lab = await createLab({ checked, emulated: true });
  const { process } = lab;
  const device = await lab.register();
  const path = await lab.open();
  await mapper(lab, path.container, scannedBytes, iova).map();
  const order = process.byteOrder;
  const dirty = (flags: number) =>
    iommuType1DirtyBitmap.encode({ argsz: iommuType1DirtyBitmap.size + iommuType1DirtyBitmapGet.size, flags }, order);
  await process.ioctl(path.container, Request.IOMMU_DIRTY_PAGES, dirty(DirtyPagesFlag.START));
  await pinPages(device, iova, pinnedPages, IommuProt.READ | IommuProt.WRITE);
  const size = BigInt(scannedBytes / page / 8);
  const bitmap = { pgsize: BigInt(page), size, data: memory(lab, Number(size)) };
  const range = iommuType1DirtyBitmapGet.encode({ iova, size: BigInt(scannedBytes), bitmap }, order);
  const request = Buffer.concat([dirty(DirtyPagesFlag.GET_BITMAP), range]);
  return {
    subjects: [
      {
        name: 'type1: dirty bitmap of 64 GiB in pages of 4 KiB',
        floor: 'Buffer.copy 2 MiB',
        target: { withinNs: 50e6 },
        work: async (count) => {
          for (let i = 0; i < count; i++) await process.ioctl(path.container, Request.IOMMU_DIRTY_PAGES, request);
        },
      },
    ],
    async [Symbol.asyncDispose]() {
      await unpinPages(device, iova, pinnedPages);
      await lab.close(path);
      await lab.unregister(device);
      await lab[Symbol.asyncDispose]();
    },
  };
}
