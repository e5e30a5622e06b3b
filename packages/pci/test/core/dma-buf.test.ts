import { deviceFeature, deviceFeatureDmaBuf, Feature, FeatureFlag, Request, regionDmaRange } from '@vfio/core';
import { DmaBufFile, type DmaBufImporter, O, Seek } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type IrqLab, irqLab } from './irq-lab.js';

const code = (errno: string) => expect.objectContaining({ code: errno });
const page = 4096n;

interface Wanted {
  readonly region?: number;
  readonly ranges?: readonly (readonly [bigint, bigint])[];
  readonly flags?: number;
  readonly openFlags?: number;
  readonly feature?: number;
  /** How many ranges are said to be there, if not as many as are. */
  readonly count?: number;
}

/** VFIO_DEVICE_FEATURE_DMA_BUF. */
function ask({ process, fd }: IrqLab, wanted: Wanted = {}): Promise<number> {
  const { region = 0, ranges = [[0n, page]], flags = 0, openFlags = O.RDWR, feature = FeatureFlag.GET } = wanted;
  const nrRanges = wanted.count ?? ranges.length;
  const order = process.byteOrder;
  const body = [
    deviceFeatureDmaBuf.encode({ regionIndex: region, openFlags, flags, nrRanges }, order),
    ...ranges.map(([offset, length]) => regionDmaRange.encode({ offset, length }, order)),
  ];
  const argsz = deviceFeature.size + body.reduce((sum, { length }) => sum + length, 0);
  const head = deviceFeature.encode({ argsz, flags: Feature.DMA_BUF | feature }, order);
  return (async () => await process.ioctl(fd, Request.DEVICE_FEATURE, Buffer.concat([head, ...body])))();
}

function fileOf({ process }: IrqLab, fd: number): DmaBufFile {
  const file = process.files.get(fd);
  if (!(file instanceof DmaBufFile)) throw new Error('not a buffer');
  return file;
}

const importer = (more: Partial<DmaBufImporter> = {}): DmaBufImporter => ({
  name: 'nic',
  peer2peer: true,
  invalidateMappings: () => {},
  ...more,
});

describe('DMA_BUF', () => {
  it('gives a descriptor of as many bytes as the ranges have', async () => {
    await using lab = await irqLab();
    const fd = await ask(lab, {
      ranges: [
        [0n, page],
        [2n * page, 2n * page],
      ],
      openFlags: O.RDWR | O.CLOEXEC,
    });
    expect(lab.process.lseek(fd, 0, Seek.END)).toBe(3 * 4096);
    expect(lab.process.files.isCloexec(fd)).toBe(true);
    const attachment = fileOf(lab, fd).attach(importer());
    const start = lab.pdev.resource[0]?.start ?? 0;
    expect(attachment.map()).toEqual([
      { phys: start, length: 4096 },
      { phys: start + 2 * 4096, length: 2 * 4096 },
    ]);
    await attachment.detach();
  });

  it('PCI-152 has no memory for more ranges than one allocation holds, whatever is behind them', async () => {
    await using lab = await irqLab();
    for (const count of [0x4_0001, 0xffff_ffff]) await expect(ask(lab, { count })).rejects.toThrow(code('ENOMEM'));
    await expect(ask(lab, { count: 0x4_0000 })).rejects.toThrow(code('EFAULT'));
  });

  it('PCI-152 is refused for what is no part of a BAR', async () => {
    await using lab = await irqLab();
    for (const region of [3, 6, 7, 9, 0xffff_ffff]) await expect(ask(lab, { region })).rejects.toThrow(code('ENODEV'));
    await expect(ask(lab, { region: 2 })).rejects.toThrow(code('EINVAL')); // ports
    await expect(ask(lab, { ranges: [] })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { flags: 1 })).rejects.toThrow(code('EINVAL'));
    await expect(ask(lab, { feature: FeatureFlag.SET })).rejects.toThrow(code('EINVAL'));
    for (const range of [
      [0n, 0n],
      [0n, 0x800n],
      [0x800n, page],
      [0n, 0x11000n],
      [0x10000n, page],
      [0n, 1n << 63n],
    ] as const) {
      await expect(ask(lab, { ranges: [range] })).rejects.toThrow(code('EINVAL'));
    }
    // Whose end no address reaches is told apart; a length of its own is looked at before.
    for (const offset of [2n ** 64n - page, 2n ** 64n - 0x100n * page]) {
      await expect(ask(lab, { ranges: [[offset, page]] })).rejects.toThrow(code('EOVERFLOW'));
    }
    await expect(ask(lab, { ranges: [[2n ** 62n, page]] })).rejects.toThrow(code('EINVAL'));
    expect(lab.device.dmabufs.size).toBe(0);
    lab.device.exportsDmaBufs = false;
    await expect(ask(lab)).rejects.toThrow(code('EOPNOTSUPP'));
  });

  it('PCI-152 takes only importers that reach registers and can give them up', async () => {
    await using lab = await irqLab();
    const file = fileOf(lab, await ask(lab));
    expect(() => file.attach(importer({ peer2peer: false }))).toThrow(code('EOPNOTSUPP'));
    expect(() => file.attach({ name: 'old', peer2peer: true })).toThrow(code('EOPNOTSUPP'));
  });

  it('PCI-152 is revoked while the function does not answer, from the start if it has to be', async () => {
    await using lab = await irqLab();
    lab.device.plain.commandMemory = false;
    const off = fileOf(lab, await ask(lab));
    expect(() => off.attach(importer())).toThrow(code('ENODEV'));
    lab.device.plain.commandMemory = true;
    await lab.device.dmabufs.move(false);
    const told: string[] = [];
    const attachment = off.attach(importer({ invalidateMappings: () => void told.push('revoked') }));
    attachment.map();
    await lab.device.dmabufs.move(true);
    expect([told, attachment.mapped]).toEqual([['revoked'], false]);
    expect(() => attachment.map()).toThrow(code('ENODEV'));
    await lab.device.dmabufs.move(false);
    attachment.map();
    await attachment.detach();
  });

  it('PCI-153 CORE-084 holds the device only until it is closed, and the file outlives it', async () => {
    await using lab = await irqLab();
    const fd = await ask(lab);
    const attachment = fileOf(lab, fd).attach(importer());
    attachment.map();
    await lab.close();
    expect([attachment.mapped, lab.device.dmabufs.size]).toEqual([false, 0]);
    // nobody waits for the buffer any more
    await lab.host.devices.releaseDriver(lab.pdev);
    expect(lab.pdev.driver).toBeUndefined();
    expect(() => attachment.map()).toThrow(code('ENODEV'));
    await attachment.detach();
    await lab.process.close(fd);
  });

  it('gives its registration reference back with its file', async () => {
    await using lab = await irqLab();
    const fd = await ask(lab);
    await lab.process.close(fd);
    expect(lab.device.dmabufs.size).toBe(0);
  });

  it('leaves nothing when there is no descriptor for it', async () => {
    await using lab = await irqLab();
    lab.process.limits.set('nofile', { soft: 3n, hard: 3n }, false);
    await expect(ask(lab)).rejects.toThrow(code('EMFILE'));
    expect(lab.device.dmabufs.size).toBe(0);
  });
});
