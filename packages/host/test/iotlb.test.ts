import { describe, expect, it } from 'vitest';
import { DmaEngine, IommuDomain, IommuProt, KernelBug } from '../src/index.js';
import { IommuLab, vtd } from './iommu-lab.js';

const PAGE = 4096;
const P = 4096n;
const RW = IommuProt.READ | IommuProt.WRITE;
const code = (errno: string) => expect.objectContaining({ code: errno });

/** A device in a domain of its own that maps 0x10000 to the first of some frames, which are filled with their number from 1 on. */
async function makeDma(frames = 2) {
  const lab = await IommuLab.create({ ...vtd, dirtyTracking: true, maxPasids: 8 });
  const device = await lab.addDevice('0000:00:02.0');
  const group = lab.iommu.probeDevice(device, { pasids: { max: 8 } });
  const ranges = Array.from({ length: frames }, () => lab.memory.alloc(1, 'test'));
  const phys = ranges.map(({ basePfn }) => basePfn * PAGE);
  for (const [i, at] of phys.entries()) lab.memory.write(at, new Uint8Array(PAGE).fill(i + 1));
  const domain = lab.iommu.allocDomain(device, { dirtyTracking: true });
  domain.map(0x10000n, phys[0]!, P, RW);
  group.claimDmaOwner({});
  group.attach(domain);
  return { lab, device, group, domain, ranges, phys, dma: lab.iommu.dma(device) };
}

/** The first byte that a device reads at an IOVA. */
function byteAt(dma: DmaEngine, iova: bigint): number | undefined {
  const into = new Uint8Array(16);
  if (dma.read(iova, into) !== undefined) throw new Error('memory was reached later');
  return into[0];
}

const fill = (dma: DmaEngine, iova: bigint, value: number, length = PAGE) =>
  void dma.write(iova, new Uint8Array(length).fill(value));

describe('a page that a device has reached before', () => {
  it('is read and written in all of its parts', async () => {
    const { dma, lab, phys } = await makeDma();
    fill(dma, 0x10000n, 5);
    fill(dma, 0x10ff0n, 6, 16);
    fill(dma, 0x10001n, 7, 1);
    const page = new Uint8Array(PAGE);
    lab.memory.read(phys[0]!, page);
    expect([page[0], page[1], page[2], page[0xfef], page[0xff0], page[0xfff]]).toEqual([5, 7, 5, 5, 6, 6]);
    const back = new Uint8Array(PAGE);
    await dma.read(0x10000n, back);
    expect(back).toEqual(page);
    await dma.read(0x10fe8n, back.subarray(0, 16));
    expect([...back.subarray(0, 16)]).toEqual([...new Array(8).fill(5), ...new Array(8).fill(6)]);
  });

  it('is not the end of a request that goes on', async () => {
    const { dma, domain, phys } = await makeDma();
    fill(dma, 0x10000n, 5);
    expect(() => dma.read(0x10ff0n, new Uint8Array(17))).toThrow(code('EFAULT'));
    domain.map(0x11000n, phys[1]!, P, RW);
    const back = new Uint8Array(32);
    await dma.read(0x10ff0n, back);
    expect([...back]).toEqual([...new Array(16).fill(5), ...new Array(16).fill(2)]);
  });

  it('does not stand for addresses that look alike', async () => {
    const { dma } = await makeDma();
    fill(dma, 0x10000n, 5);
    for (const iova of [0x10000n + 2n ** 64n, 0x10000n - 2n ** 64n, 0x10000n + 2n ** 53n, 0x18000n, -1n, -4096n]) {
      expect(() => dma.read(iova, new Uint8Array(1))).toThrow(code('EFAULT'));
    }
    await dma.read(-5n, new Uint8Array(0));
  });

  it('permits what its mapping does, whichever way it was reached first', async () => {
    const { dma, domain, phys } = await makeDma();
    domain.map(0x20000n, phys[1]!, P, IommuProt.READ);
    domain.map(0x21000n, phys[1]!, P, IommuProt.WRITE);
    for (let i = 0; i < 2; i++) {
      expect(byteAt(dma, 0x20000n)).toBe(2);
      expect(() => fill(dma, 0x20000n, 9)).toThrow(code('EFAULT'));
    }
    for (let i = 0; i < 2; i++) {
      fill(dma, 0x21000n, 3);
      expect(() => dma.read(0x21000n, new Uint8Array(16))).toThrow(code('EFAULT'));
    }
    expect(byteAt(dma, 0x20000n)).toBe(3);
    // reading first does not take the right to write
    expect(byteAt(dma, 0x10000n)).toBe(1);
    fill(dma, 0x10000n, 4);
    expect(byteAt(dma, 0x10000n)).toBe(4);
  });

  it('is as long as its mapping, where the pages of the unit are smaller', async () => {
    const lab = await IommuLab.create({ ...vtd, pageSizes: 0x800n, aperture: [0n, 0x117ffn] });
    const device = await lab.addDevice('0000:00:02.0');
    const group = lab.iommu.probeDevice(device);
    const phys = lab.memory.alloc(2, 'test').basePfn * PAGE;
    const domain = lab.iommu.allocDomain(device);
    group.claimDmaOwner({});
    group.attach(domain);
    const dma = lab.iommu.dma(device);
    domain.map(0x10000n, phys, 0x800n, RW);
    domain.map(0x11000n, phys + PAGE, 0x800n, RW);
    for (const iova of [0x10000n, 0x11000n]) {
      for (let i = 0; i < 2; i++) {
        fill(dma, iova, 5, 0x800);
        expect(() => fill(dma, iova + 0x800n, 6, 16)).toThrow(code('EFAULT'));
        expect(() => fill(dma, iova + 0x7f0n, 6, 32)).toThrow(code('EFAULT'));
      }
    }
    domain.map(0x10800n, phys, 0x800n, RW);
    fill(dma, 0x10800n, 7, 16);
    expect(byteAt(dma, 0x10000n)).toBe(7);
  });

  it('is found to the byte above what a plain number can hold', async () => {
    const lab = await IommuLab.create({ ...vtd, aperture: [0n, 2n ** 64n - 1n] });
    const device = await lab.addDevice('0000:00:02.0');
    const group = lab.iommu.probeDevice(device);
    const phys = lab.memory.alloc(1, 'test').basePfn * PAGE;
    const domain = lab.iommu.allocDomain(device);
    group.claimDmaOwner({});
    group.attach(domain);
    domain.map(2n ** 63n, phys, P, RW);
    const dma = lab.iommu.dma(device);
    for (const at of [0n, 1n, 4095n]) fill(dma, 2n ** 63n + at, 5, 1);
    const page = new Uint8Array(PAGE);
    lab.memory.read(phys, page);
    expect([page[0], page[1], page[2], page[4094], page[4095]]).toEqual([5, 5, 0, 0, 5]);
  });

  it('ends at the aperture, also in an identity domain', async () => {
    const lab = await IommuLab.create({ ...vtd, defaultDomain: 'identity', aperture: [0n, 2n ** 32n + 0x17ffn] });
    const device = await lab.addDevice('0000:00:02.0');
    lab.iommu.probeDevice(device);
    const range = lab.memory.alloc(4, 'test');
    expect(range.basePfn * PAGE).toBe(2 ** 32);
    const dma = lab.iommu.dma(device);
    fill(dma, 2n ** 32n + 0x1000n, 5, 16);
    expect(byteAt(dma, 2n ** 32n + 0x1000n)).toBe(5);
    expect(() => dma.read(2n ** 32n + 0x1800n, new Uint8Array(1))).toThrow(code('EFAULT'));
  });
});

describe('what a device remembers', () => {
  it('goes with the mapping', async () => {
    const { dma, domain, phys } = await makeDma();
    expect(byteAt(dma, 0x10000n)).toBe(1);
    domain.unmap(0x10000n, P);
    expect(() => dma.read(0x10000n, new Uint8Array(16))).toThrow(code('EFAULT'));
    domain.map(0x10000n, phys[1]!, P, IommuProt.READ);
    expect(byteAt(dma, 0x10000n)).toBe(2);
    domain.unmap(0x10000n, P);
    domain.map(0x10000n, phys[0]!, P, RW);
    expect(byteAt(dma, 0x10000n)).toBe(1);
  });

  it('goes with the attachment', async () => {
    const { dma, lab, device, group, domain, phys } = await makeDma();
    expect(byteAt(dma, 0x10000n)).toBe(1);
    group.detach(domain);
    expect(() => dma.read(0x10000n, new Uint8Array(16))).toThrow(code('EFAULT'));
    const other = lab.iommu.allocDomain(device);
    other.map(0x10000n, phys[1]!, P, RW);
    group.attach(domain);
    expect(byteAt(dma, 0x10000n)).toBe(1);
    group.replace(other);
    expect(byteAt(dma, 0x10000n)).toBe(2);
    group.replace(domain);
    expect(byteAt(dma, 0x10000n)).toBe(1);
  });

  it('goes with the unit in front of the device', async () => {
    const { dma, lab, device, group } = await makeDma();
    expect(byteAt(dma, 0x10000n)).toBe(1);
    group.get();
    lab.iommu.removeDevice(device);
    // no IOMMU: an address is a physical one, and there is nothing at this
    expect(byteAt(dma, 0x10000n)).toBe(0xff);
    lab.iommu.addDevice(group, device);
    expect(byteAt(dma, 0x10000n)).toBe(0xff);
  });

  it("goes with the frames, which may be somebody else's next", async () => {
    const { dma, lab, ranges, phys } = await makeDma();
    expect(byteAt(dma, 0x10000n)).toBe(1);
    ranges[0]!.put();
    expect(byteAt(dma, 0x10000n)).toBe(0xff);
    fill(dma, 0x10000n, 5);
    const next = lab.memory.alloc(1, 'test');
    expect(next.basePfn * PAGE).toBe(phys[0]);
    expect(byteAt(dma, 0x10000n)).toBe(0);
    fill(dma, 0x10000n, 6);
    expect(next.span(0, 1)[0]).toBe(6);
  });

  it('goes when memory that nobody had touched is', async () => {
    const { dma, lab, domain } = await makeDma();
    const range = lab.memory.alloc(1024, 'test');
    domain.map(0x200000n, range.basePfn * PAGE, 1024n * P, RW);
    expect(byteAt(dma, 0x200000n)).toBe(0);
    expect(byteAt(dma, 0x200000n)).toBe(0);
    expect(range.populated(0)).toBe(false);
    lab.memory.write(range.basePfn * PAGE, Uint8Array.of(9));
    expect(byteAt(dma, 0x200000n)).toBe(9);
    // and by the device itself, which must not write to zeros that stand for all such pages
    expect(byteAt(dma, 0x400000n)).toBe(0);
    expect(range.populated(512 * PAGE)).toBe(false);
    fill(dma, 0x400000n, 8);
    expect(byteAt(dma, 0x400000n)).toBe(8);
    const other = lab.memory.alloc(1, 'test');
    domain.map(0x10001000n, other.basePfn * PAGE, P, RW);
    expect(byteAt(dma, 0x10001000n)).toBe(0);
  });

  it('does not outlive a domain that was freed', async () => {
    const { lab, domain } = await makeDma();
    const free = lab.iommu.units[0]!;
    const single = new IommuDomain(lab.host, free, { kind: 'identity' });
    const dma = new DmaEngine('a', lab.memory, undefined, { unit: () => free, domain: () => single });
    const phys = BigInt(lab.memory.alloc(1, 'test').basePfn) * P;
    fill(dma, phys, 1);
    expect(byteAt(dma, phys)).toBe(1);
    single.free();
    expect(() => byteAt(dma, phys)).toThrow(KernelBug);
    expect(domain.mappings).toBe(1);
  });

  it('takes nothing out of the record of writes', async () => {
    const { dma, domain, phys } = await makeDma();
    domain.map(0x11000n, phys[1]!, P, RW);
    const dirty = () => {
      const found: bigint[] = [];
      domain.readAndClearDirty(0x10000n, 2n * P, (iova) => void found.push(iova));
      return found;
    };
    fill(dma, 0x10000n, 1);
    fill(dma, 0x11000n, 1);
    domain.setDirtyTracking(true);
    expect(dirty()).toEqual([]);
    fill(dma, 0x11ffcn, 2, 4);
    byteAt(dma, 0x10000n);
    expect(dirty()).toEqual([0x11000n]);
    fill(dma, 0x11800n, 2, 0);
    expect(dirty()).toEqual([]);
    fill(dma, 0x11ffcn, 2, 4);
    fill(dma, 0x10000n, 2);
    expect(dirty()).toEqual([0x10000n, 0x11000n]);
  });

  it('belongs to a PASID as long as that is attached, and to no other', async () => {
    const { lab, device, group, phys } = await makeDma();
    const [one, two] = [lab.iommu.allocDomain(device), lab.iommu.allocDomain(device)];
    one.map(0x10000n, phys[0]!, P, RW);
    two.map(0x10000n, phys[1]!, P, RW);
    const dma = lab.iommu.dma(device).tagged(1);
    group.pasids.attach(one, 1);
    expect(byteAt(dma, 0x10000n)).toBe(1);
    group.pasids.replace(two, 1);
    expect(byteAt(dma, 0x10000n)).toBe(2);
    group.pasids.detach(two, 1);
    expect(() => byteAt(dma, 0x10000n)).toThrow(code('EFAULT'));
    group.pasids.attach(two, 1);
    expect(byteAt(dma, 0x10000n)).toBe(2);
    two.unmap(0x10000n, P);
    expect(() => byteAt(dma, 0x10000n)).toThrow(code('EFAULT'));
  });

  it('is nothing for a PASID that the device has no more', async () => {
    const { lab, domain } = await makeDma();
    let max = 8;
    const route = {
      unit: () => lab.iommu.units[0],
      domain: () => undefined,
      pasids: () => max,
      pasidDomain: () => domain,
    };
    const dma = new DmaEngine('a', lab.memory, undefined, route, 3);
    expect(byteAt(dma, 0x10000n)).toBe(1);
    max = 3;
    expect(() => byteAt(dma, 0x10000n)).toThrow(code('EFAULT'));
    expect(lab.log.at(-1)).toContain('PASID');
  });

  it('is nothing where memory does not say what changes', async () => {
    const { lab, domain } = await makeDma();
    let reads = 0;
    const memory = {
      read: (_phys: number, into: Uint8Array) => void into.fill(++reads),
      write: () => {},
      view: () => new Uint8Array(PAGE),
    };
    const dma = new DmaEngine('a', memory, undefined, { unit: () => lab.iommu.units[0], domain: () => domain });
    expect([byteAt(dma, 0x10000n), byteAt(dma, 0x10000n)]).toEqual([1, 2]);
  });
});
