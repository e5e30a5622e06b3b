/* Registers of one function as the target of another one's DMA, through an iommufd that has both of them. */
import { type Device, type Ioas, ProcessTransport, VfioClient } from '@vfio/client';
import { deviceFeature, deviceFeatureDmaBuf, Feature, FeatureFlag, Request, regionDmaRange } from '@vfio/core';
import { O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { CapId, Command, Pm, Reg } from '../../src/bus/regs.js';
import { CONFIG, CoreLab, everyBar, isolatingPort, type LabFunction } from './core-lab.js';

const code = (errno: string) => expect.objectContaining({ code: errno });
const OWNER = '0000:01:00.0';
const PEER = '0000:02:00.0';
const iova = 0x10_0000n;
const page = 4096;

interface Scene extends AsyncDisposable {
  readonly lab: CoreLab;
  readonly owner: LabFunction;
  readonly device: Device;
  readonly peer: Device;
  readonly ioas: Ioas;
  /** What the other function reads. */
  read(at: bigint, length?: number): Promise<number[]>;
  write(at: bigint, bytes: number[]): Promise<void>;
  /** A part of BAR 0 as a buffer. */
  exported(pages: number, from?: number): Promise<number>;
}

async function scene(): Promise<Scene> {
  const [owner, other] = [everyBar(), everyBar()];
  const lab = await CoreLab.create({
    functions: [
      [0x08, isolatingPort([[0, owner]])],
      [0x10, isolatingPort([[0, other]])],
    ],
    vfio: { iommufd: true, deviceCdev: true },
    bind: [OWNER, PEER],
  });
  const client = new VfioClient(new ProcessTransport(lab.root));
  const iommufd = await client.openIommufd();
  const ioas = await iommufd.allocIoas();
  const device = await client.openCdev(OWNER, { ioas });
  const peer = await client.openCdev(PEER, { ioas });
  await device.writeRegion(CONFIG, Reg.COMMAND, Uint8Array.of(Command.MEMORY, 0));
  const { dma } = other.port!;
  return {
    lab,
    owner,
    device,
    peer,
    ioas,
    async read(at, length = 4) {
      const bytes = new Uint8Array(length);
      await dma.read(at, bytes);
      return [...bytes];
    },
    async write(at, bytes) {
      await dma.write(at, Uint8Array.from(bytes));
    },
    async exported(pages, from = 0) {
      const head = deviceFeatureDmaBuf.encode({ regionIndex: 0, openFlags: O.RDWR, flags: 0, nrRanges: 1 }, 'little');
      const range = { offset: BigInt(from * page), length: BigInt(pages * page) };
      const body = Buffer.concat([head, regionDmaRange.encode(range, 'little')]);
      const argsz = deviceFeature.size + body.length;
      const request = deviceFeature.encode({ argsz, flags: Feature.DMA_BUF | FeatureFlag.GET }, 'little');
      return await device.ioctl('VFIO_DEVICE_FEATURE', Request.DEVICE_FEATURE, Buffer.concat([request, body]));
    },
    [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose](),
  };
}

/** Ways in which the registers stop to answer, for a while. */
const interruptions: [string, (s: Scene) => Promise<void>][] = [
  ['a reset', async ({ device }) => await device.reset()],
  [
    'memory that is switched off and on',
    async ({ device }) => {
      await device.writeRegion(CONFIG, Reg.COMMAND, Uint8Array.of(0, 0));
      await device.writeRegion(CONFIG, Reg.COMMAND, Uint8Array.of(Command.MEMORY, 0));
    },
  ],
  [
    'a sleep',
    async ({ device, owner }) => {
      const control = owner.cap(CapId.PM) + Pm.CTRL;
      await device.writeRegion(CONFIG, control, Uint8Array.of(3, 0));
      await device.writeRegion(CONFIG, control, Uint8Array.of(0, 0));
    },
  ],
];

describe('IOAS_MAP_FILE of a BAR', () => {
  it('PCI-152 lets another function of the address space reach it', async () => {
    await using s = await scene();
    const fd = await s.exported(2, 1);
    await s.ioas.mapFile({ fd, start: 0n, size: 2n * BigInt(page) }, iova);
    await s.write(iova + 0x1004n, [1, 2, 3, 4]);
    // It begins at the second page of the BAR.
    expect(s.owner.readBar(0, 0x2004, 4)).toBe(0x0403_0201);
    expect(await s.read(iova + 0x1004n)).toEqual([1, 2, 3, 4]);
    // A part of it, for reading only.
    const only = { read: true, write: false };
    await s.ioas.mapFile({ fd, start: BigInt(page), size: BigInt(page) }, 2n * iova, only);
    expect(await s.read(2n * iova + 4n)).toEqual([1, 2, 3, 4]);
    await expect(s.write(2n * iova, [0])).rejects.toEqual(code('EFAULT'));
    // Registers are not pinned, and nobody's limit counts them.
    expect([s.lab.root.mm.pinnedVm, s.lab.host.tracker.count('pin')]).toEqual([0, 0]);
    await expect(s.ioas.mapFile({ fd, start: BigInt(page), size: 2n * BigInt(page) }, 3n * iova)).rejects.toEqual(
      code('EINVAL'),
    );
  });

  it.each(interruptions)('PCI-152 is taken back for good by %s', async (_, interrupt) => {
    await using s = await scene();
    const fd = await s.exported(1);
    const part = { fd, start: 0n, size: BigInt(page) };
    await s.ioas.mapFile(part, iova);
    await s.read(iova);
    await interrupt(s);
    await expect(s.read(iova)).rejects.toEqual(code('EFAULT'));
    // What is mapped anew is there: the buffer itself is of use again.
    await expect(s.ioas.mapFile(part, iova)).rejects.toEqual(code('EEXIST'));
    await s.ioas.mapFile(part, 2n * iova);
    await s.write(2n * iova, [9]);
    expect(s.owner.readBar(0, 0, 1)).toBe(9);
    expect(await s.ioas.unmapDma({ iova, size: BigInt(page) })).toBe(BigInt(page));
  });

  it('PCI-152 is refused while the registers do not answer', async () => {
    await using s = await scene();
    const fd = await s.exported(1);
    await s.device.writeRegion(CONFIG, Reg.COMMAND, Uint8Array.of(0, 0));
    const part = { fd, start: 0n, size: BigInt(page) };
    await expect(s.ioas.mapFile(part, iova)).rejects.toEqual(code('ENODEV'));
    await s.device.writeRegion(CONFIG, Reg.COMMAND, Uint8Array.of(Command.MEMORY, 0));
    await s.ioas.mapFile(part, iova);
  });

  it('PCI-153 is taken back when the device is closed, and keeps nobody from unbinding it', async () => {
    await using s = await scene();
    const fd = await s.exported(1);
    await s.ioas.mapFile({ fd, start: 0n, size: BigInt(page) }, iova);
    await s.device.close();
    await expect(s.read(iova)).rejects.toEqual(code('EFAULT'));
    await s.lab.unbind(OWNER);
    await expect(s.ioas.mapFile({ fd, start: 0n, size: BigInt(page) }, 2n * iova)).rejects.toEqual(code('ENODEV'));
    await s.ioas.unmapDma({ iova, size: BigInt(page) });
  });
});
