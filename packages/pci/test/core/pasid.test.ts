import { ProcessTransport, VfioClient } from '@vfio/client';
import { IommuHwptAllocFlag } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { Pasid } from '../../src/bus/ext-cap-regs.js';
import { ExpType, ExtCapId } from '../../src/bus/regs.js';
import { acsCap } from '../bus/fake-function.js';
import { pasidCap, prefixCap } from '../bus/service-lab.js';
import { CoreLab, LabFunction, labEndpoint, NAME } from './core-lab.js';

const code = (errno: string) => expect.objectContaining({ code: errno });
const iova = 0x10_0000n;
const iommu = {
  aperture: [0n, 2n ** 39n - 1n],
  pageSizes: 0x1000n,
  coherent: true,
  msiIsolated: true,
  reserved: [],
  maxPasids: 8,
} as const;

/** A function with 16 PASIDs behind an IOMMU that has 8 of them for each, and a program that opens its node. */
async function taggingLab() {
  const fn = labEndpoint({ caps: [prefixCap(ExpType.ENDPOINT, true)], extCaps: [pasidCap(4)] });
  const port = new LabFunction({
    classCode: 0x06_0400,
    pcie: true,
    caps: [prefixCap(ExpType.ROOT_PORT)],
    extCaps: [acsCap],
    behind: new Map([[0, fn]]),
  });
  const lab = await CoreLab.create({
    functions: [[0x08, port]],
    vfio: { iommufd: true, deviceCdev: true },
    host: { iommu },
    bind: [NAME],
  });
  return { lab, fn, client: new VfioClient(new ProcessTransport(lab.root)) };
}

describe('PASIDs of vfio-pci', () => {
  it('are attached through the node of the device, and lead DMA with that tag to memory of their own', async () => {
    const { lab, fn, client } = await taggingLab();
    await using _ = lab;
    await using iommufd = await client.openIommufd();
    await using plain = await iommufd.allocIoas();
    await using ioas = await iommufd.allocIoas();
    await using device = await client.openCdev(NAME, { ioas: plain });
    expect(await iommufd.hwInfo(device.binding.id)).toMatchObject({ maxPasids: 8 });
    const untagged = await iommufd.allocHwpt(device.binding.id, plain, IommuHwptAllocFlag.PASID);
    const hwpt = await iommufd.allocHwpt(device.binding.id, ioas, IommuHwptAllocFlag.PASID);
    await device.attach(untagged);
    expect(await device.attach(hwpt, 5)).toBe(hwpt);
    // It has 16 itself, but those behind its IOMMU end earlier.
    await expect(device.attach(hwpt, 8)).rejects.toEqual(code('EINVAL'));
    await using outside = await plain.dmaBuffer(iova, 4096);
    await using inside = await ioas.dmaBuffer(iova, 4096);
    outside.write(0, Uint8Array.of(1));
    inside.write(0, Uint8Array.of(5));
    const { dma } = fn.port!;
    const seen = new Uint8Array(2);
    await dma.read(iova, seen.subarray(0, 1));
    await dma.tagged(5).read(iova, seen.subarray(1));
    expect([...seen]).toEqual([1, 5]);
    await dma.tagged(5).write(iova, Uint8Array.of(7));
    expect([...outside.read(0, 1), ...inside.read(0, 1)]).toEqual([1, 7]);
    await expect(async () => dma.tagged(4).read(iova, seen)).rejects.toEqual(code('EFAULT'));
    await device.detach(5);
    await expect(async () => dma.tagged(5).read(iova, seen)).rejects.toEqual(code('EFAULT'));
    await device.detach();
    await iommufd.destroy(hwpt);
    await iommufd.destroy(untagged);
  });

  it('are on after a reset of the device, and its user does not see them in config space', async () => {
    const { lab, fn, client } = await taggingLab();
    await using _ = lab;
    await using device = await client.openCdev(NAME);
    const at = fn.extCap(ExtCapId.PASID);
    await device.reset();
    expect(fn.kinds.length).toBeGreaterThan(0);
    expect(fn.readConfig(at + Pasid.CTRL, 2)).toBe(Pasid.CTRL_ENABLE);
    const config = await device.region(7);
    expect([...(await config.read(0x100, 4))]).toEqual([0, 0, 0, 0]);
  });
});
