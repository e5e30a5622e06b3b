import { IommufdRequest, IommuHwCap, IommuHwInfoType, IommuHwptAllocFlag, Request } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { ProcessTransport, VfioClient } from '../src/index.js';
import { createLab, failureOf } from './lab.js';

const host = {
  iommu: {
    aperture: [0n, (1n << 48n) - 1n],
    pageSizes: 0x4020_1000n,
    coherent: true,
    msiIsolated: true,
    dirtyTracking: true,
    reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
  },
} as const;
const iova = 0x10_0000n;

/** Fails the request of that number. */
class Failing extends ProcessTransport {
  fail: number | undefined;
  override async ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): Promise<number> {
    if (request === this.fail) throw Object.assign(new Error('told to fail'), { code: 'EIO', errno: -5 });
    return await super.ioctl(fd, request, argument);
  }
}

describe('openCdev', () => {
  it('finds the node, binds and attaches, and closes all of it with the device', async () => {
    await using lab = await createLab({ iommufd: true, host });
    const { client } = lab;
    expect(await client.nodeOf('model0')).toBe('/dev/vfio/devices/vfio0');
    const device = await client.openCdev('model0');
    expect(device.binding.id).toBe(1);
    expect(device.space).toBe(device.binding.ioas);
    {
      await using memory = await device.space.dmaBuffer(iova, 4096);
      memory.write(0, Uint8Array.of(5));
      const seen = new Uint8Array(1);
      await lab.host.iommu.dma(lab.model().dev).read(iova, seen);
      expect([...seen]).toEqual([5]);
    }
    expect(() => device.group).toThrow('model0 was opened through its own node');
    expect(() => device.container).toThrow('through its own node');
    const { iommufd } = device.binding;
    await device.close();
    expect(iommufd.isOpen).toBe(false);
    expect(lab.model().openCount).toBe(0);
  });

  it('leaves nothing of its own in an iommufd that is not its own', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using iommufd = await lab.client.openIommufd();
    const device = await lab.client.openCdev('model0', { iommufd });
    const id = device.binding.ioas?.id ?? 0;
    await device.space.dmaBuffer(iova, 4096);
    await device.close();
    expect(await failureOf(iommufd.destroy(id))).toMatchObject({ code: 'ENOENT' });
    await using ioas = await iommufd.allocIoas();
    await (await lab.client.openCdev('model0', { ioas })).close();
    expect(await ioas.iovaRanges()).toHaveLength(1);
  });

  it('leaves its address space to another device that uses it', async () => {
    await using lab = await createLab({ iommufd: true, host, devices: 2 });
    await using iommufd = await lab.client.openIommufd();
    const first = await lab.client.openCdev('model0', { iommufd });
    const { ioas } = first.binding;
    if (!ioas) throw new Error('attached to none');
    await using memory = await ioas.dmaBuffer(iova, 4096);
    memory.write(0, Uint8Array.of(5));
    const second = await lab.client.openCdev('model1', { ioas });
    await first.close();
    const seen = new Uint8Array(1);
    await lab.host.iommu.dma(lab.model('model1').dev).read(iova, seen);
    expect([...seen]).toEqual([5]);
    await second.close();
    await ioas.destroy();
  });

  it('is closed when the iommufd or its address space went before it, and when that can not be destroyed', async () => {
    await using lab = await createLab({ iommufd: true, host });
    const transport = new Failing(lab.host.spawn());
    const client = new VfioClient(transport);
    const iommufd = await client.openIommufd();
    const moved = await client.openCdev('model0', { iommufd });
    const { ioas } = moved.binding;
    await moved.detach();
    await ioas?.destroy();
    await moved.close();
    const stuck = await client.openCdev('model0', { iommufd });
    transport.fail = IommufdRequest.DESTROY;
    expect(await failureOf(stuck.close())).toMatchObject({ code: 'EIO', syscall: 'IOMMU_DESTROY' });
    transport.fail = undefined;
    expect(lab.model().openCount).toBe(0);
    const last = await client.openCdev('model0', { iommufd });
    await iommufd.close();
    await last.close();
    expect(lab.model().openCount).toBe(0);
  });

  it('says what is missing', async () => {
    await using lab = await createLab({ iommufd: true, host });
    expect(await failureOf(lab.client.openCdev('model7'))).toMatchObject({ code: 'ENODEV', subject: 'model7' });
    await using without = await createLab();
    expect(await failureOf(without.client.openCdev('model0'))).toMatchObject({ code: 'ENODEV', subject: 'model0' });
    expect(await failureOf(without.client.openIommufd())).toMatchObject({ code: 'ENOENT', subject: '/dev/iommu' });
  });

  it.each([
    ['DEVICE_BIND_IOMMUFD', Request.DEVICE_BIND_IOMMUFD],
    ['DEVICE_ATTACH_IOMMUFD_PT', Request.DEVICE_ATTACH_IOMMUFD_PT],
  ])('closes what it opened when %s fails', async (name, request) => {
    await using lab = await createLab({ iommufd: true, host });
    const process = lab.host.spawn();
    const transport = new Failing(process);
    transport.fail = request;
    const failure = await failureOf(new VfioClient(transport).openCdev('model0'));
    expect(failure).toMatchObject({ code: 'EIO', syscall: `VFIO_${name}`, subject: 'model0' });
    expect(process.files.descriptors()).toEqual([]);
    expect(lab.model().openCount).toBe(0);
  });

  it('presents a token', async () => {
    await using lab = await createLab({ iommufd: true, host });
    const token = Uint8Array.from({ length: 16 }, (_, at) => at);
    const asked: (Uint8Array | undefined)[] = [];
    lab.model().matchTokenUuid = (uuid) => void asked.push(uuid);
    await (await lab.client.openCdev('model0', { token })).close();
    await (await lab.client.openCdev('model0')).close();
    expect(asked).toEqual([token, undefined]);
  });
});

describe('a bound device', () => {
  it('moves between address spaces and page tables, by PASID too', async () => {
    await using lab = await createLab({ iommufd: true, host: { iommu: { ...host.iommu, maxPasids: 64 } } });
    const { client } = lab;
    await using iommufd = await client.openIommufd();
    await using ioas = await iommufd.allocIoas();
    await using device = await client.openCdev('model0', { ioas });
    const hwpt = await iommufd.allocHwpt(device.binding.id, ioas, IommuHwptAllocFlag.PASID);
    expect(await device.attach(hwpt)).toBe(hwpt);
    expect(() => device.space).toThrow('attached to no address space');
    expect(await device.attach(hwpt, 3)).toBe(hwpt);
    expect(await failureOf(device.attach(hwpt, 8))).toMatchObject({ code: 'EINVAL' });
    await using memory = await ioas.dmaBuffer(iova, 4096);
    memory.write(0, Uint8Array.of(5));
    const dma = lab.host.iommu.dma(lab.model().dev);
    const seen = new Uint8Array(2);
    await dma.read(iova, seen.subarray(0, 1));
    await dma.tagged(3).read(iova, seen.subarray(1));
    expect([...seen]).toEqual([5, 5]);
    await expect(async () => dma.tagged(4).read(iova, seen)).rejects.toMatchObject({ code: 'EFAULT' });
    expect(await failureOf(iommufd.destroy(hwpt))).toMatchObject({ code: 'EBUSY', syscall: 'IOMMU_DESTROY' });
    await device.detach(3);
    await device.detach();
    await iommufd.destroy(hwpt);
    expect(await failureOf(device.attach(999))).toMatchObject({ code: 'ENOENT' });
  });

  it('has its writes noted in a page table made for that', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using iommufd = await lab.client.openIommufd();
    const ioas = await iommufd.allocIoas();
    await using device = await lab.client.openCdev('model0', { ioas });
    const hwpt = await iommufd.allocHwpt(device.binding.id, ioas, IommuHwptAllocFlag.DIRTY_TRACKING);
    await device.attach(hwpt);
    await using _memory = await ioas.dmaBuffer(iova, 16 * 4096);
    await iommufd.setDirtyTracking(hwpt, true);
    await lab.host.iommu.dma(lab.model().dev).write(iova + 5n * 4096n, Uint8Array.of(1));
    const range = { iova, size: 16n * 4096n };
    const dirty = async (clear?: boolean) => [...(await iommufd.dirtyBitmap(hwpt, range, 4096n, clear))];
    expect((await dirty(false)).slice(0, 2)).toEqual([1 << 5, 0]);
    expect((await dirty()).slice(0, 2)).toEqual([1 << 5, 0]);
    expect((await dirty()).slice(0, 2)).toEqual([0, 0]);
    await iommufd.setDirtyTracking(hwpt, false);
  });

  it('shares the address space of VFIO with a group on the same iommufd', async () => {
    await using lab = await createLab({ iommufd: true, devices: 2, emulated: true, host });
    const { client } = lab;
    await using iommufd = await client.openIommufd();
    await using group = await client.openGroup(await client.groupOf('model0'));
    expect(await failureOf(iommufd.vfioIoas())).toMatchObject({ code: 'ENODEV', syscall: 'IOMMU_VFIO_IOAS' });
    await group.setContainer(iommufd);
    await using _first = await group.getDevice('model0');
    const ioas = await iommufd.vfioIoas();
    await using second = await client.openCdev('model1', { ioas });
    expect(second.space).toBe(ioas);
    const other = await iommufd.allocIoas();
    await iommufd.setVfioIoas(other);
    expect((await iommufd.vfioIoas()).id).toBe(other.id);
    await iommufd.setVfioIoas(undefined);
    expect(await failureOf(iommufd.vfioIoas())).toMatchObject({ code: 'ENODEV' });
  });
});

describe('an iommufd', () => {
  it.each(['little', 'big'] as const)('tells of hardware, to a %s-endian program', async (byteOrder) => {
    const data = Uint8Array.from({ length: 24 }, (_, at) => at);
    const iommu = { ...host.iommu, maxPasids: 4 };
    const hwInfo = () => ({ type: IommuHwInfoType.INTEL_VTD, data });
    await using lab = await createLab({ iommufd: { hwInfo }, host: { iommu, byteOrder } });
    await using device = await lab.client.openCdev('model0');
    const { iommufd, id } = device.binding;
    expect(await iommufd.hwInfo(id)).toEqual({
      type: IommuHwInfoType.INTEL_VTD,
      data,
      capabilities: BigInt(IommuHwCap.DIRTY_TRACKING | IommuHwCap.PCI_ATS_NOT_SUPPORTED),
      maxPasids: 4,
    });
    expect(await failureOf(iommufd.hwInfo(99))).toMatchObject({ code: 'ENOENT', syscall: 'IOMMU_GET_HW_INFO' });
  });

  it('tells of hardware that says nothing', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using device = await lab.client.openCdev('model0');
    const { iommufd, id } = device.binding;
    expect(await iommufd.hwInfo(id)).toMatchObject({ type: 0, data: new Uint8Array(), maxPasids: 0 });
  });

  it('has its pages paid by the user or by the process', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using iommufd = await lab.client.openIommufd();
    expect(await iommufd.limitsMode()).toBe('user');
    await iommufd.setLimitsMode('process');
    expect(await iommufd.limitsMode()).toBe('process');
    await iommufd.allocIoas();
    expect(await failureOf(iommufd.setLimitsMode('user'))).toMatchObject({ code: 'EBUSY', syscall: 'IOMMU_OPTION' });
  });
});

describe('an address space', () => {
  it('has large pages unless it is told not to', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using iommufd = await lab.client.openIommufd();
    const ioas = await iommufd.allocIoas();
    expect(await ioas.hugePages()).toBe(true);
    await ioas.setHugePages(false);
    expect([await ioas.hugePages(), (await ioas.info()).alignment]).toEqual([false, 4096n]);
    await ioas.setHugePages(true);
    expect(await ioas.hugePages()).toBe(true);
  });

  it('maps files, whose pages a new process takes over', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using iommufd = await lab.client.openIommufd();
    const ioas = await iommufd.allocIoas();
    const fd = await iommufd.transport.open('/dev/null');
    const file = { fd, start: 0x1000n, size: 0x2000n };
    // nothing is pinned before a device is there
    expect(await ioas.mapFile(file, iova)).toBe(iova);
    expect(await ioas.mapFile(file, undefined, { write: false })).not.toBe(iova);
    expect(await failureOf(ioas.mapFile({ ...file, fd: 99 }))).toMatchObject({
      code: 'EBADF',
      syscall: 'IOMMU_IOAS_MAP_FILE',
    });
    await iommufd.changeProcess();
    await using _memory = await ioas.dmaBuffer(0x40_0000n, 4096);
    expect(await failureOf(iommufd.changeProcess())).toMatchObject({ code: 'EINVAL' });
    await ioas.unmapDma({ iova, size: 0x2000n });
    await iommufd.transport.close(fd);
  });

  it('tells the ranges that its devices leave, however many', async () => {
    const reserved = Array.from({ length: 40 }, (_, at) => {
      const start = BigInt(at + 1) * 0x100_0000n;
      return { start, end: start + 0xfffn, type: 'reserved' } as const;
    });
    await using lab = await createLab({ iommufd: true, host: { iommu: { ...host.iommu, reserved } } });
    await using device = await lab.client.openCdev('model0');
    const ranges = await device.space.iovaRanges();
    expect(ranges.length).toBe(41);
    expect(ranges[1]).toEqual({ start: 0x100_1000n, end: 0x1ff_ffffn });
  });

  it('forgets its buffers when it is destroyed first', async () => {
    await using lab = await createLab({ iommufd: true, host });
    await using iommufd = await lab.client.openIommufd();
    const ioas = await iommufd.allocIoas();
    const buffer = await ioas.dmaBuffer(iova, 4096);
    await ioas.destroy();
    await ioas.destroy();
    await buffer[Symbol.asyncDispose]();
    expect(await failureOf(iommufd.destroy(ioas.id))).toMatchObject({ code: 'ENOENT' });
  });
});
