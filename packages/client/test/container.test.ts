import { Extension } from '@vfio/core';
import { Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import type { Device } from '../src/index.js';
import { createLab, failureOf, type Lab, type LabOptions } from './lab.js';

const page = 4096n;
const iova = 0x10_0000n;

async function open(options: LabOptions = {}): Promise<AsyncDisposable & { lab: Lab; device: Device }> {
  const lab = await createLab(options);
  const device = await lab.client.openDevice('model0');
  return {
    lab,
    device,
    async [Symbol.asyncDispose]() {
      await device.close();
      await lab[Symbol.asyncDispose]();
    },
  };
}

describe('a container', () => {
  it('has a version and extensions', async () => {
    await using lab = await createLab();
    await using container = await lab.client.openContainer();
    expect(await container.apiVersion()).toBe(0);
    expect(await container.checkExtension(Extension.TYPE1v2_IOMMU)).toBe(1);
    expect(await container.checkExtension(999)).toBe(0);
  });

  it('is set by the name or the number of an IOMMU', async () => {
    await using lab = await createLab();
    for (const kind of ['type1', 'type1v2', Extension.TYPE1_IOMMU] as const) {
      await using container = await lab.client.openContainer();
      await using group = await lab.client.openGroup(0);
      await group.setContainer(container);
      await container.setIommu(kind);
      expect(await failureOf(container.setIommu(kind))).toMatchObject({ code: 'EINVAL' });
    }
    await using container = await lab.client.openContainer();
    await using group = await lab.client.openGroup(0);
    await group.setContainer(container);
    expect(await failureOf(container.setIommu('noiommu'))).toMatchObject({ code: 'ENODEV' });
  });

  it.each(['little', 'big'] as const)('tells of its IOMMU, to a %s-endian program', async (byteOrder) => {
    await using on = await open({ host: { byteOrder } });
    expect(await on.device.container.info()).toEqual({
      pageSizes: 0x4020_1000n,
      iovaRanges: [
        { start: 0n, end: 0xfedf_ffffn },
        { start: 0xfef0_0000n, end: (1n << 48n) - 1n },
      ],
      dmaAvail: 65535,
      migration: { pageSizes: page, maxBitmapSize: 1n << 28n },
    });
  });

  it('tells no ranges where nothing restricts them', async () => {
    await using on = await open({ emulated: true });
    expect((await on.device.container.info()).iovaRanges).toEqual([]);
  });
});

describe('mappings', () => {
  it('let the device reach memory, in the directions that were asked for', async () => {
    await using on = await open();
    const { container } = on.device;
    const memory = on.device.transport.allocate(8192);
    await container.mapDma({ iova, vaddr: memory.address, size: page });
    await container.mapDma({ iova: iova + page, vaddr: memory.address + page, size: page, write: false });
    await on.lab.model().dmaWrite(iova + 5n, Uint8Array.of(0x42));
    expect(memory.read(5, 1)).toEqual(Uint8Array.of(0x42));
    await expect(on.lab.model().dmaWrite(iova + page, Uint8Array.of(1))).rejects.toThrow('EFAULT');
    expect(await container.unmapDma({ iova, size: 2n * page })).toBe(2n * page);
    await expect(on.lab.model().dmaWrite(iova, Uint8Array.of(1))).rejects.toThrow('EFAULT');
    memory.free();
  });

  it('fail with the errno of the kernel', async () => {
    await using on = await open();
    const { container } = on.device;
    await using memory = await container.dmaBuffer(iova, 8192);
    expect(memory.size).toBe(8192n);
    const vaddr = 0x1000n;
    const codes = [
      [{ iova: iova + 1n, vaddr, size: page }, 'EINVAL'],
      [{ iova: iova + page, vaddr, size: page }, 'EEXIST'],
      [{ iova: iova - page, vaddr, size: page }, 'EFAULT'],
      [{ iova: 0xfee0_0000n, vaddr, size: page }, 'EINVAL'],
      [{ iova, vaddr, size: page, read: false, write: false }, 'EINVAL'],
    ] as const;
    for (const [mapping, code] of codes) {
      expect(await failureOf(container.mapDma(mapping))).toMatchObject({ code, syscall: 'VFIO_IOMMU_MAP_DMA' });
    }
    expect(await failureOf(container.unmapDma({ iova, size: page }))).toMatchObject({
      code: 'EINVAL',
      syscall: 'VFIO_IOMMU_UNMAP_DMA',
    });
  });

  it('go away all at once', async () => {
    await using on = await open();
    const { container } = on.device;
    const memory = on.device.transport.allocate(4096);
    for (const at of [0n, 3n, 9n]) {
      await container.mapDma({ iova: iova + at * page, vaddr: memory.address, size: page });
    }
    expect(await container.unmapDma({ iova: 0n, size: page })).toBe(0n);
    expect(await container.unmapAll()).toBe(3n * page);
    expect((await container.info()).dmaAvail).toBe(65535);
    memory.free();
  });

  it('can have the addresses behind them changed', async () => {
    await using on = await open();
    const { container } = on.device;
    const [before, after] = [on.device.transport.allocate(4096), on.device.transport.allocate(4096)];
    for (const range of [{ iova, size: page }, undefined]) {
      await container.mapDma({ iova, vaddr: before.address, size: page });
      await container.invalidateVaddr(range);
      expect(await failureOf(container.invalidateVaddr({ iova, size: page }))).toMatchObject({ code: 'EINVAL' });
      await container.updateVaddr({ iova, vaddr: after.address, size: page });
      await container.invalidateVaddr({ iova, size: page });
      await container.unmapAll();
    }
    expect(await failureOf(container.updateVaddr({ iova, vaddr: after.address, size: page }))).toMatchObject({
      code: 'ENOENT',
    });
  });
});

describe('a DMA buffer', () => {
  it('is memory of the client and of the device until it is disposed of', async () => {
    await using on = await open();
    const { container } = on.device;
    {
      await using buffer = await container.dmaBuffer(iova, 4096);
      buffer.write(10, Uint8Array.of(1, 2, 3));
      await on.lab.model().dmaWrite(iova + 11n, Uint8Array.of(9));
      expect(buffer.read(10, 3)).toEqual(Uint8Array.of(1, 9, 3));
      expect((await container.info()).dmaAvail).toBe(65534);
    }
    expect((await container.info()).dmaAvail).toBe(65535);
  });

  it('is disposed of once: the second time spares what is there by then', async () => {
    await using on = await open();
    const { container } = on.device;
    const buffer = await container.dmaBuffer(iova, 4096);
    await buffer[Symbol.asyncDispose]();
    await using _next = await container.dmaBuffer(iova, 4096);
    await buffer[Symbol.asyncDispose]();
    expect((await container.info()).dmaAvail).toBe(65534);
  });

  it('that can not be mapped gives its memory back', async () => {
    await using on = await open();
    const before = on.lab.host.tracker.count('memory');
    expect(await failureOf(on.device.container.dmaBuffer(iova + 1n, 4096))).toMatchObject({ code: 'EINVAL' });
    expect(on.lab.host.tracker.count('memory')).toBe(before);
  });

  it('gives its memory back when the container was closed before', async () => {
    await using lab = await createLab();
    const before = lab.host.tracker.count('memory');
    const device = await lab.client.openDevice('model0');
    const buffer = await device.container.dmaBuffer(iova, 4096);
    buffer.write(0, Uint8Array.of(1));
    await device.close();
    await buffer[Symbol.asyncDispose]();
    expect(lab.host.tracker.count('memory')).toBe(before);
  });

  it('is one-way when asked to be', async () => {
    await using on = await open();
    await using _buffer = await on.device.container.dmaBuffer(iova, 4096, { write: false });
    await expect(on.lab.model().dmaWrite(iova, Uint8Array.of(1))).rejects.toThrow('EFAULT');
  });
});

describe('dirty pages', () => {
  const size = 70n * page;

  it.each(['little', 'big'] as const)('are a bit each, page k at bit k, for a %s-endian program', async (byteOrder) => {
    await using on = await open({ emulated: true, host: { byteOrder } });
    const { container } = on.device;
    await using _buffer = await container.dmaBuffer(iova, Number(size));
    await container.startDirtyTracking();
    for (const k of [0n, 9n, 66n]) await on.lab.model().dmaWrite(iova + k * page, Uint8Array.of(1));
    const bits = await container.dirtyBitmap({ iova, size }, page);
    expect(setBits(bits)).toEqual([0, 9, 66]);
    expect(bits.length).toBe(16);
    expect(setBits(await container.dirtyBitmap({ iova, size }, page))).toEqual([]);
    await container.stopDirtyTracking();
    expect(await failureOf(container.dirtyBitmap({ iova, size }, page))).toMatchObject({
      code: 'EINVAL',
      syscall: 'VFIO_IOMMU_DIRTY_PAGES',
    });
  });

  it('that are pinned stay dirty, and are told of when they are unmapped', async () => {
    await using on = await open({ emulated: true });
    const { container } = on.device;
    const memory = on.device.transport.allocate(Number(size));
    await container.mapDma({ iova, vaddr: memory.address, size });
    await container.startDirtyTracking();
    await on.lab.model().pin(iova + 3n * page, Prot.READ | Prot.WRITE);
    for (let report = 0; report < 2; report++) {
      expect(setBits(await container.dirtyBitmap({ iova, size }, page))).toEqual([3]);
    }
    const unmapped = await container.unmapDmaDirty({ iova, size }, page);
    expect([unmapped.size, setBits(unmapped.dirty)]).toEqual([size, [3]]);
    memory.free();
  });

  it('are all of them where an IOMMU does not tell', async () => {
    await using on = await open();
    const { container } = on.device;
    await using _buffer = await container.dmaBuffer(iova, 3 * 4096);
    await container.startDirtyTracking();
    expect(setBits(await container.dirtyBitmap({ iova, size: 3n * page }, page))).toEqual([0, 1, 2]);
  });
});

function setBits(bitmap: Uint8Array): number[] {
  return Array.from({ length: bitmap.length * 8 }, (_, k) => k).filter((k) => ((bitmap[k >> 3] ?? 0) >> (k & 7)) & 1);
}
