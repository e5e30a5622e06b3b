import { IommufdRequest } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { ProcessTransport, VfioClient } from '../src/index.js';
import { createLab, failEveryStep, failureOf, type Lab, type LabOptions } from './lab.js';

const page = 4096n;
const iova = 0x10_0000n;

const withIommufd = (options: LabOptions = {}): Promise<Lab> => createLab({ iommufd: true, ...options });

describe('what a device that is opened through its node takes', () => {
  it.each([false, true])('is given back whichever step of the kernel fails (emulated: %s)', async (emulated) => {
    const steps = await failEveryStep(
      () => withIommufd({ emulated }),
      (client) => client.openCdev('model0'),
    );
    expect(steps).toBeGreaterThan(4);
  });

  it('is not in an iommufd of the caller either', async () => {
    await using lab = await withIommufd();
    await using iommufd = await lab.client.openIommufd();
    const next = (await iommufd.allocIoas()).id + 1;
    using arm = lab.host.faults.failOn(/hwpt/);
    expect(await failureOf(lab.client.openCdev('model0', { iommufd }))).toMatchObject({
      code: 'ENOMEM',
      syscall: 'VFIO_DEVICE_ATTACH_IOMMUFD_PT',
      subject: 'model0',
    });
    expect(arm.fired).toBe(true);
    // nobody answers to the ids that were given out since
    for (let id = next; id < next + 4; id++) {
      expect(await failureOf(iommufd.destroy(id))).toMatchObject({ code: 'ENOENT' });
    }
  });

  it('does not go together with its group', async () => {
    await using lab = await withIommufd();
    const device = await lab.client.openCdev('model0');
    expect(await failureOf(lab.client.openDevice('model0'))).toMatchObject({ code: 'EBUSY', subject: '/dev/vfio/0' });
    await device.close();
    await using _device = await lab.client.openDevice('model0');
    expect(await failureOf(lab.client.openCdev('model0'))).toMatchObject({
      code: 'EBUSY',
      syscall: 'VFIO_DEVICE_BIND_IOMMUFD',
    });
  });
});

describe('an address space', () => {
  it.each(['little', 'big'] as const)('maps, copies and unmaps, for a %s-endian program', async (byteOrder) => {
    await using lab = await withIommufd({ host: { byteOrder } });
    await using iommufd = await lab.client.openIommufd();
    await using ioas = await iommufd.allocIoas();
    await using other = await iommufd.allocIoas();
    const memory = iommufd.transport.allocate(8192);
    await ioas.mapDma({ iova, vaddr: memory.address, size: 2n * page });
    expect(await failureOf(ioas.mapDma({ iova, vaddr: memory.address, size: page }))).toMatchObject({
      code: 'EEXIST',
      syscall: 'IOMMU_IOAS_MAP',
      subject: '/dev/iommu',
    });
    const anywhere = await ioas.mapAnywhere({ vaddr: memory.address, size: page, write: false });
    expect(anywhere).not.toBe(iova);
    expect(await other.copyDma({ ioas, iova: iova + page, size: page }, 0x40_0000n)).toBe(0x40_0000n);
    expect(await other.copyDma({ ioas, iova, size: page })).not.toBe(0x40_0000n);
    expect(await other.unmapDma({ iova: 0x40_0000n, size: page })).toBe(page);
    expect(await ioas.unmapAll()).toBe(3n * page);
    expect(await failureOf(ioas.unmapDma({ iova, size: page }))).toMatchObject({ code: 'ENOENT' });
    memory.free();
  });

  it('is shared by devices, and stays the property of the caller', async () => {
    await using lab = await withIommufd({ devices: 2 });
    await using iommufd = await lab.client.openIommufd();
    await using ioas = await iommufd.allocIoas();
    const first = await lab.client.openCdev('model0', { ioas });
    const second = await lab.client.openCdev('model1', { iommufd, ioas });
    await using memory = await ioas.dmaBuffer(iova, 4096);
    await lab.model('model0').dmaWrite(iova, Uint8Array.of(1));
    await lab.model('model1').dmaWrite(iova + 1n, Uint8Array.of(2));
    expect(memory.read(0, 2)).toEqual(Uint8Array.of(1, 2));
    expect(await failureOf(ioas.destroy())).toMatchObject({ code: 'EBUSY', syscall: 'IOMMU_DESTROY' });
    await first.close();
    await second.close();
    expect(iommufd.isOpen).toBe(true);
  });

  it('limits where the kernel maps by itself', async () => {
    await using lab = await withIommufd();
    await using iommufd = await lab.client.openIommufd();
    await using ioas = await iommufd.allocIoas();
    const memory = iommufd.transport.allocate(8192);
    await ioas.allowIovas([{ start: 0x80_0000n, end: 0x80_0fffn }]);
    expect(await ioas.mapAnywhere({ vaddr: memory.address, size: page })).toBe(0x80_0000n);
    expect(await failureOf(ioas.mapAnywhere({ vaddr: memory.address, size: page }))).toMatchObject({ code: 'ENOSPC' });
    await ioas.allowIovas([]);
    expect(await ioas.mapAnywhere({ vaddr: memory.address, size: page })).not.toBe(0x80_0000n);
    memory.free();
  });

  it('is told of without devices, too', async () => {
    await using lab = await withIommufd();
    await using iommufd = await lab.client.openIommufd();
    await using ioas = await iommufd.allocIoas();
    expect(await ioas.info()).toEqual({ iovaRanges: [{ start: 0n, end: 2n ** 64n - 1n }], alignment: 1n });
  });

  it('has no number of ranges that there can not be', async () => {
    await using lab = await withIommufd();
    let told = (): number => 0xffff_ffff;
    class Forger extends ProcessTransport {
      override async ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): Promise<number> {
        const result = await super.ioctl(fd, request, argument);
        if (request === IommufdRequest.IOAS_IOVA_RANGES && argument instanceof Uint8Array) {
          new DataView(argument.buffer).setUint32(8, told(), true);
        }
        return result;
      }
    }
    await using iommufd = await new VfioClient(new Forger(lab.host.spawn())).openIommufd();
    const ioas = await iommufd.allocIoas();
    await expect(ioas.info()).rejects.toThrow('4294967295 ranges of an address space');
    let more = 17;
    told = () => more++;
    await expect(ioas.info()).rejects.toThrow('more at each of 8 attempts');
  });

  it('goes with its iommufd', async () => {
    await using lab = await withIommufd();
    const before = lab.host.tracker.count('memory');
    {
      const iommufd = await lab.client.openIommufd();
      await using ioas = await iommufd.allocIoas();
      const buffer = await ioas.dmaBuffer(iova, 4096);
      buffer.write(0, Uint8Array.of(1));
      await iommufd.close();
      await buffer[Symbol.asyncDispose]();
    }
    expect(lab.host.tracker.count('memory')).toBe(before);
  });
});

describe('an iommufd in place of a container', () => {
  it('takes the requests of one', async () => {
    await using lab = await withIommufd();
    await using container = await lab.client.openContainer('/dev/iommu');
    await using group = await lab.client.openGroup(0);
    await group.setContainer(container);
    await container.setIommu('type1v2');
    await using _device = await group.getDevice('model0');
    await using memory = await container.dmaBuffer(iova, 4096);
    await lab.model().dmaWrite(iova, Uint8Array.of(9));
    expect(memory.read(0, 1)).toEqual(Uint8Array.of(9));
    expect(await container.unmapAll()).toBe(page);
  });
});
