import { describe, expect, it } from 'vitest';
import { type Device, type IommuDomain, type IommuGroup, IommuProt, type PasidSupport } from '../src/index.js';
import { IommuLab, vtd } from './iommu-lab.js';

const P = 4096n;
const RW = IommuProt.READ | IommuProt.WRITE;
const code = (errno: string) => expect.objectContaining({ code: errno });

interface Setup {
  readonly lab: IommuLab;
  readonly device: Device;
  readonly group: IommuGroup;
  /** A domain with one page at an IOVA, and what its memory is filled with. */
  domain(iova: bigint, fill: number, prot?: number): IommuDomain;
}

async function setup(pasids: Partial<PasidSupport> = { max: 8 }, maxPasids = 16) {
  const lab = await IommuLab.create({ ...vtd, maxPasids, dirtyTracking: true });
  const device = await lab.addDevice('0000:00:02.0');
  const group = lab.iommu.probeDevice(device, { pasids });
  const domain = (iova: bigint, fill: number, prot = RW) => {
    const phys = lab.memory.alloc(1, 'test').basePfn * 4096;
    lab.memory.write(phys, new Uint8Array(4096).fill(fill));
    const made = lab.iommu.allocDomain(device);
    made.map(iova, phys, P, prot);
    return made;
  };
  const made: Setup = { lab, device, group, domain };
  return made;
}

/** First byte that a device reads at an IOVA. */
async function byteAt(dma: { read(iova: bigint, into: Uint8Array): void | Promise<void> }, iova: bigint) {
  const into = new Uint8Array(1);
  await dma.read(iova, into);
  return into[0];
}

describe('tagged requests', () => {
  it('go through the domain of their PASID, and only through it', async () => {
    const { lab, device, group, domain } = await setup();
    group.claimDmaOwner({});
    const [own, one, two] = [domain(0x1000n, 10), domain(0x1000n, 11), domain(0x2000n, 12)];
    group.attach(own);
    group.pasids.attach(one, 1);
    group.pasids.attach(two, 2);
    const dma = lab.iommu.dma(device);
    expect(await byteAt(dma, 0x1000n)).toBe(10);
    expect(await byteAt(dma.tagged(1), 0x1000n)).toBe(11);
    expect(await byteAt(dma.tagged(2), 0x2000n)).toBe(12);
    // PASID 0 is that of requests without a tag
    expect(await byteAt(dma.tagged(0), 0x1000n)).toBe(10);
    expect(() => dma.tagged(1).read(0x2000n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(() => dma.read(0x2000n, new Uint8Array(1))).toThrow(code('EFAULT'));
    await dma.tagged(1).write(0x1000n, Uint8Array.of(77));
    expect(await byteAt(dma, 0x1000n)).toBe(10);
    expect(dma.tagged(1).view(0x1000n, 4, false)?.[0]).toBe(77);
    group.pasids.detach(one, 1);
    expect(() => dma.tagged(1).read(0x1000n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(await byteAt(dma.tagged(2), 0x2000n)).toBe(12);
  });

  it('do not need the device itself to be attached', async () => {
    const { lab, device, group, domain } = await setup();
    group.claimDmaOwner({});
    group.pasids.attach(domain(0x1000n, 5), 3);
    const dma = lab.iommu.dma(device);
    expect(await byteAt(dma.tagged(3), 0x1000n)).toBe(5);
    expect(() => dma.read(0x1000n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(lab.log.at(-1)).toContain('NO_PASID');
  });

  it('fault with the words of scalable mode', async () => {
    const { lab, device, group, domain } = await setup();
    group.claimDmaOwner({});
    const dma = lab.iommu.dma(device);
    const last = (run: () => unknown) => {
      expect(run).toThrow(expect.objectContaining({ code: 'EFAULT', name: 'DmaFault' }));
      return lab.log.at(-1);
    };
    const read = (pasid: number, iova: bigint) => last(() => dma.tagged(pasid).read(iova, new Uint8Array(1)));
    const write = (pasid: number, iova: bigint) => last(() => dma.tagged(pasid).write(iova, new Uint8Array(1)));
    expect(read(1, 0x1000n)).toBe(
      'DMAR: [DMA Read PASID 0x1] Request device [00:02.0] fault addr 0x1000 [fault reason 0x59] SM: Present bit in PASID Table Entry is clear',
    );
    expect(write(8, 0x1000n)).toContain('[DMA Write PASID 0x8]');
    expect(lab.log.at(-1)).toContain('[fault reason 0x46] SM: PASID is larger than the max in Context Entry');
    group.pasids.attach(domain(0x1000n, 1, IommuProt.READ), 1);
    group.pasids.attach(domain(0x1000n, 1, IommuProt.WRITE), 2);
    expect(read(1, 0x3000n)).toContain('[fault reason 0x71]');
    expect(write(1, 0x1000n)).toContain('[fault reason 0x85]');
    expect(read(2, 0x1000n)).toContain('[fault reason 0x86]');
    expect(read(1, 2n ** 48n)).toContain('[fault reason 0x80]');
  });

  it('of a device or a machine without PASIDs go nowhere', async () => {
    const without = await setup({});
    expect(() => without.lab.iommu.dma(without.device).tagged(1).read(0n, new Uint8Array(1))).toThrow(code('EFAULT'));
    expect(without.lab.log.at(-1)).toContain('[fault reason 0x45] SM: PASID Enable field in Context Entry is clear');
    const lab = await IommuLab.create('none');
    const dma = lab.iommu.dma(await lab.addDevice('a')).tagged(1);
    expect(() => dma.read(0n, new Uint8Array(1))).toThrow(code('EFAULT'));
    for (const pasid of [-1, 1.5, 1 << 20]) expect(() => dma.tagged(pasid)).toThrow(RangeError);
  });

  it('raise no interrupts', async () => {
    const { lab, device, group, domain } = await setup();
    group.claimDmaOwner({});
    group.pasids.attach(domain(0x1000n, 1), 1);
    const [vector] = lab.irq.allocVectors({ min: 1, max: 1 });
    const message = new Uint8Array(4);
    new DataView(message.buffer).setUint32(0, vector?.message.data ?? 0, true);
    const address = vector?.message.address ?? 0n;
    expect(() => lab.iommu.dma(device).tagged(1).write(address, message)).toThrow(code('EFAULT'));
    expect(vector?.line.pending).toBe(false);
  });
});

describe('GroupPasids', () => {
  it('knows as many PASIDs as the device and its unit have', async () => {
    const few = await setup({ max: 32, exec: true });
    expect(few.lab.iommu.pasidsOf(few.device)).toEqual({ max: 16, exec: true, priv: false });
    const none = await setup({ max: 32, exec: true }, 0);
    expect(none.lab.iommu.pasidsOf(none.device)).toEqual({ max: 0, exec: false, priv: false });
    expect(() => few.group.pasids.attach(few.domain(0n, 0), 16)).toThrow(code('EINVAL'));
    expect(() => few.group.pasids.attach(few.domain(0n, 0), 0)).toThrow(code('EINVAL'));
    few.group.pasids.attach(few.domain(0n, 0), 15);
    expect(() => few.group.pasids.attach(few.domain(0n, 0), 15)).toThrow(code('EBUSY'));
    const lab = await IommuLab.create();
    for (const maxPasids of [-1, (1 << 20) + 1]) {
      expect(() => lab.iommu.addUnit({ ...vtd, maxPasids })).toThrow(RangeError);
    }
  });

  it('refuses units whose driver knows none, and domains with dirty bits', async () => {
    const able = await setup();
    const lab = await IommuLab.create(vtd);
    const device = await lab.addDevice('a');
    const group = lab.iommu.probeDevice(device, { pasids: { max: 8 } });
    expect(() => group.pasids.attach(lab.iommu.allocDomain(device), 1)).toThrow(code('EOPNOTSUPP'));
    const tracking = able.lab.iommu.allocDomain(able.device, { dirtyTracking: true });
    expect(() => able.group.pasids.attach(tracking, 1)).toThrow(code('EINVAL'));
    able.group.pasids.attach(able.domain(0n, 0), 1);
    expect(() => able.group.pasids.replace(tracking, 1)).toThrow(code('EINVAL'));
  });

  it('is one for all devices, and leaves those out that tag nothing', async () => {
    const { lab, device, group, domain } = await setup();
    const [more, plain] = [await lab.addDevice('0000:00:02.1'), await lab.addDevice('0000:00:02.2')];
    lab.iommu.probeDevice(more, { group, pasids: { max: 4 } });
    lab.iommu.probeDevice(plain, { group });
    // the device with the fewest decides
    expect(() => group.pasids.attach(domain(0x1000n, 9), 4)).toThrow(code('EINVAL'));
    group.pasids.attach(domain(0x1000n, 9), 3);
    for (const one of [device, more]) expect(await byteAt(lab.iommu.dma(one).tagged(3), 0x1000n)).toBe(9);
    expect(() => lab.iommu.dma(plain).tagged(3).read(0x1000n, new Uint8Array(1))).toThrow(code('EFAULT'));
    // a group of such devices only has nothing to refuse
    const alone = await setup({});
    alone.group.pasids.attach(alone.domain(0n, 0), 1000);
  });

  it('moves a PASID at once, or leaves it', async () => {
    const { lab, device, group, domain } = await setup();
    const [old, next] = [domain(0x1000n, 1), domain(0x1000n, 2)];
    expect(() => group.pasids.replace(next, 1)).toThrow(code('EINVAL'));
    group.pasids.attach(old, 1);
    const narrow = lab.iommu.addUnit({ ...vtd, aperture: [0n, 2n ** 50n], maxPasids: 4 });
    const other = await lab.addDevice('b');
    lab.iommu.probeDevice(other, { unit: narrow });
    expect(() => group.pasids.replace(lab.iommu.allocDomain(other), 1)).toThrow(code('EINVAL'));
    const tagged = lab.iommu.dma(device).tagged(1);
    expect(await byteAt(tagged, 0x1000n)).toBe(1);
    group.pasids.replace(next, 1);
    expect(await byteAt(tagged, 0x1000n)).toBe(2);
    old.free();
    expect(() => next.free()).toThrow(expect.objectContaining({ name: 'KernelBug' }));
    // the wrong domain is told and nothing else
    group.pasids.detach(domain(0n, 0), 1);
    expect(lab.host.log.warnings()).toHaveLength(1);
    group.pasids.detach(next, 1);
    next.free();
  });

  it('keeps others from the group', async () => {
    const { lab, group, domain } = await setup();
    const used = domain(0n, 0);
    group.useDefaultDomain();
    group.pasids.attach(used, 1);
    expect(() => group.useDefaultDomain()).toThrow(code('EBUSY'));
    group.unuseDefaultDomain();
    expect(() => group.claimDmaOwner({})).toThrow(code('EBUSY'));
    group.pasids.detach(used, 1);
    group.claimDmaOwner({});
    group.pasids.attach(used, 1);
    group.releaseDmaOwner();
    expect(lab.host.log.warnings()).toHaveLength(1);
  });

  it('fails at each device without a trace', async () => {
    const { lab, group, domain } = await setup();
    const [first, second] = [domain(0n, 0), domain(0n, 0)];
    const failing = (run: () => void) => {
      const arm = lab.host.faults.failAt(0);
      expect(run).toThrow();
      arm.disarm();
    };
    failing(() => group.pasids.attach(first, 1));
    expect(group.pasids.size).toBe(0);
    first.free();
    const third = domain(0n, 0);
    group.pasids.attach(third, 1);
    failing(() => group.pasids.replace(second, 1));
    expect(group.pasids.domainOf(1)).toBe(third);
    second.free();
  });
});

describe('replace', () => {
  it('moves a group at once, or leaves it', async () => {
    const { lab, device, group, domain } = await setup();
    group.claimDmaOwner({});
    const [old, next] = [domain(0x1000n, 1), domain(0x1000n, 2)];
    group.attach(old);
    const arm = lab.host.faults.failAt(0);
    expect(() => group.replace(next)).toThrow();
    arm.disarm();
    expect(await byteAt(lab.iommu.dma(device), 0x1000n)).toBe(1);
    group.replace(next);
    expect(await byteAt(lab.iommu.dma(device), 0x1000n)).toBe(2);
    old.free();
  });
});
