import { describe, expect, it } from 'vitest';
import { createLab, failureOf } from './lab.js';

const page = 4096n;
const iova = 0x20_0000n;

describe('DMA logging', () => {
  it.each(['little', 'big'] as const)(
    'reports the pages that the device wrote to, to a %s-endian program',
    async (byteOrder) => {
      await using lab = await createLab({ host: { byteOrder } });
      await using device = await lab.client.openDevice('model0');
      await using _memory = await device.container.dmaBuffer(iova, 128 * 4096);
      const { dmaLogging } = device;
      const ranges = [
        { iova: iova + 64n * page, length: 64n * page },
        { iova, length: 64n * page },
      ];
      expect(await dmaLogging.start(ranges, page)).toBe(page);
      for (const k of [1n, 70n, 127n]) await lab.model().dmaWrite(iova + k * page + 8n, Uint8Array.of(1));
      expect(setBits(await dmaLogging.report(iova, 128n * page, page))).toEqual([1, 70, 127]);
      expect(setBits(await dmaLogging.report(iova, 128n * page, page))).toEqual([]);
      await lab.model().dmaWrite(iova + 66n * page, Uint8Array.of(1));
      // bits count from the start of what was asked for
      expect(setBits(await dmaLogging.report(iova + 64n * page, 8n * page, page))).toEqual([2]);
      await dmaLogging.stop();
      expect(await failureOf(dmaLogging.report(iova, page, page))).toMatchObject({ code: 'EINVAL' });
    },
  );

  it('tells the granularity that the device chose', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    expect(await device.dmaLogging.start([{ iova, length: page }], 1024n)).toBe(page);
  });

  it('passes on what the kernel says', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    const { dmaLogging } = device;
    const call = { syscall: 'VFIO_DEVICE_FEATURE', subject: 'model0' };
    const overlapping = [
      { iova, length: 2n * page },
      { iova: iova + page, length: page },
    ];
    expect(await failureOf(dmaLogging.start([], page))).toMatchObject({ code: 'EINVAL', ...call });
    expect(await failureOf(dmaLogging.start(overlapping, page))).toMatchObject({ code: 'EINVAL', ...call });
    const many = Array.from({ length: 257 }, (_, i) => ({ iova: BigInt(i) * page, length: page }));
    expect(await failureOf(dmaLogging.start(many, page))).toMatchObject({ code: 'E2BIG', ...call });
    await dmaLogging.start([{ iova, length: page }], page);
    expect(await failureOf(dmaLogging.start([{ iova, length: page }], page))).toMatchObject({ code: 'EBUSY', ...call });
    expect(await failureOf(dmaLogging.report(iova, page, 2048n))).toMatchObject({ code: 'EINVAL', ...call });
  });

  it('gives its scratch memory back, whatever comes of the request', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    const before = lab.host.tracker.count('memory');
    await device.dmaLogging.start([{ iova, length: page }], page);
    await device.dmaLogging.report(iova, page, page);
    await failureOf(device.dmaLogging.report(iova, page, 1n));
    expect(lab.host.tracker.count('memory')).toBe(before);
  });
});

function setBits(bitmap: Uint8Array): number[] {
  return Array.from({ length: bitmap.length * 8 }, (_, k) => k).filter((k) => ((bitmap[k >> 3] ?? 0) >> (k & 7)) & 1);
}
