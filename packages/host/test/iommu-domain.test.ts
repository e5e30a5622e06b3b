import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  createSeams,
  IommuDomain,
  type IommuOptions,
  IommuProt,
  IommuUnit,
  isKernelBug,
  type Seams,
} from '../src/index.js';

const PAGE = 4096n;
const MIB = 1024n * 1024n;
const GIB = 1024n * MIB;
const RW = IommuProt.READ | IommuProt.WRITE;

const vtd: IommuOptions = {
  aperture: [0n, 2n ** 48n - 1n],
  pageSizes: PAGE | (2n * MIB) | GIB,
  coherent: true,
  dirtyTracking: true,
  msiIsolated: true,
  reserved: [],
};

function makeDomain(options: Partial<IommuOptions> = {}, dirtyTracking = false, seams: Seams = createSeams()) {
  const unit = new IommuUnit(seams, 'dmar0', { ...vtd, ...options });
  return { seams, unit, domain: new IommuDomain(seams, unit, { kind: 'unmanaged', dirtyTracking }) };
}

describe('map', () => {
  it('refuses what is not a multiple of the smallest page, and says so in the log', () => {
    const { domain, seams } = makeDomain();
    for (const [iova, phys, size] of [
      [1n, 0, PAGE],
      [PAGE, 512, PAGE],
      [PAGE, 0, 100n],
    ] as const) {
      expect(() => domain.map(iova, phys, size, RW)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    }
    expect(seams.log.entries.map(({ text }) => text)).toEqual([
      'iommu: unaligned: iova 0x1 pa 0x0 size 0x1000 min_pagesz 0x1000',
      'iommu: unaligned: iova 0x1000 pa 0x200 size 0x1000 min_pagesz 0x1000',
      'iommu: unaligned: iova 0x1000 pa 0x0 size 0x64 min_pagesz 0x1000',
    ]);
  });

  it('takes the smallest page of the unit as alignment', () => {
    const { domain } = makeDomain({ pageSizes: 65536n });
    expect(() => domain.map(PAGE, 0, 65536n, RW)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    domain.map(65536n, 65536, 65536n, RW);
    expect(domain.iovaToPhys(65536n + 5000n)).toBe(65536 + 5000);
  });

  it('refuses permissions without READ and WRITE', () => {
    const { domain } = makeDomain();
    expect(() => domain.map(0n, 0, PAGE, IommuProt.CACHE)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
  });

  it('reaches to the last byte of the aperture and not beyond', () => {
    const { domain } = makeDomain({ aperture: [PAGE, 2n ** 39n - 1n] });
    domain.map(2n ** 39n - PAGE, 0x1000, PAGE, RW);
    expect(() => domain.map(2n ** 39n, 0, PAGE, RW)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
    expect(() => domain.map(0n, 0, PAGE, RW)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
    expect(domain.iovaToPhys(2n ** 39n - 1n)).toBe(0x1fff);
  });

  it('reaches the last page of 64 bits', () => {
    const { domain } = makeDomain({ aperture: [0n, 2n ** 64n - 1n] });
    const last = 2n ** 64n - PAGE;
    domain.map(last, 0x7000, PAGE, RW);
    expect(domain.iovaToPhys(last + 0xfffn)).toBe(0x7fff);
    expect(domain.unmap(last, PAGE)).toBe(PAGE);
  });

  it('refuses frames beyond 52 bits', () => {
    const { domain } = makeDomain();
    expect(() => domain.map(0n, 2 ** 52 - 4096, 2n * PAGE, RW)).toThrow(expect.objectContaining({ code: 'ERANGE' }));
  });

  it('refuses an overlap with nothing changed', () => {
    const { domain } = makeDomain();
    domain.map(4n * PAGE, 0x10000, 4n * PAGE, RW);
    for (const [iova, size] of [
      [4n * PAGE, PAGE],
      [0n, 5n * PAGE],
      [7n * PAGE, 8n * PAGE],
      [0n, 64n * PAGE],
    ] as const) {
      expect(() => domain.map(iova, 0x100000, size, RW)).toThrow(expect.objectContaining({ code: 'EEXIST' }));
    }
    expect(domain.mappings).toBe(1);
    expect(domain.iovaToPhys(3n * PAGE)).toBeUndefined();
    expect(domain.iovaToPhys(8n * PAGE)).toBeUndefined();
  });

  it('keeps mappings that continue each other apart', () => {
    const { domain } = makeDomain();
    domain.map(0n, 0x10000, PAGE, RW);
    domain.map(PAGE, 0x11000, PAGE, RW);
    expect(domain.mappings).toBe(2);
    expect(domain.translate(0n, 8192)).toEqual({ phys: 0x10000, length: 4096, prot: RW });
  });

  it('fails for want of a table with nothing changed', () => {
    const { domain, seams } = makeDomain();
    using _arm = seams.faults.failOn('iommu_map:page-table');
    expect(() => domain.map(0n, 0, PAGE, RW)).toThrow(expect.objectContaining({ code: 'ENOMEM' }));
    expect(domain.mappings).toBe(0);
    domain.map(0n, 0, PAGE, RW);
  });

  it('stores a map of any size as one extent', () => {
    const { domain } = makeDomain();
    domain.map(0n, 0x1_0000_0000, 64n * GIB, RW);
    expect(domain.mappings).toBe(1);
    expect(domain.translate(40n * GIB + 5n, 16)).toEqual({
      phys: 0x1_0000_0000 + 40 * 2 ** 30 + 5,
      length: 16,
      prot: RW,
    });
  });

  it('has no table in blocked and identity domains', () => {
    const { seams, unit } = makeDomain();
    for (const kind of ['blocked', 'identity'] as const) {
      const domain = new IommuDomain(seams, unit, { kind });
      expect(() => domain.map(0n, 0, PAGE, RW)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
      expect(domain.unmap(0n, PAGE)).toBe(0n);
    }
    expect(new IommuDomain(seams, unit, { kind: 'identity' }).iovaToPhys(12345n)).toBe(12345);
    expect(new IommuDomain(seams, unit, { kind: 'blocked' }).iovaToPhys(12345n)).toBeUndefined();
  });
});

describe('unmap', () => {
  it('takes a large entry as a whole when the range stops inside of it', () => {
    const { domain } = makeDomain();
    domain.map(2n * MIB, 0x20_0000, 4n * MIB, RW);
    expect(domain.unmap(2n * MIB, PAGE)).toBe(2n * MIB);
    expect(domain.iovaToPhys(4n * MIB - 1n)).toBeUndefined();
    expect(domain.iovaToPhys(4n * MIB)).toBe(0x40_0000);
  });

  it('does not begin inside of a large entry', () => {
    const { domain } = makeDomain();
    domain.map(2n * MIB, 0x20_0000, 2n * MIB, RW);
    expect(domain.unmap(2n * MIB + PAGE, PAGE)).toBe(0n);
    expect(domain.iovaToPhys(2n * MIB + PAGE)).toBe(0x20_1000);
  });

  it('has no large entries where the frames are aligned differently', () => {
    const { domain } = makeDomain();
    domain.map(2n * MIB, 0x20_1000, 2n * MIB, RW);
    expect(domain.unmap(2n * MIB + PAGE, PAGE)).toBe(PAGE);
    expect(domain.mappings).toBe(2);
    expect(domain.iovaToPhys(2n * MIB)).toBe(0x20_1000);
    expect(domain.iovaToPhys(2n * MIB + 2n * PAGE)).toBe(0x20_3000);
  });

  it('finds the large entry that is surrounded by small ones', () => {
    const { domain } = makeDomain();
    domain.map(2n * MIB - PAGE, 0x1f_f000, 2n * MIB + 2n * PAGE, RW);
    expect(domain.unmap(2n * MIB - PAGE, 2n * PAGE)).toBe(2n * MIB + PAGE);
    expect(domain.iovaToPhys(4n * MIB)).toBe(0x40_0000);
  });

  it('stops at a hole', () => {
    const { domain } = makeDomain();
    domain.map(0n, 0, 2n * PAGE, RW);
    domain.map(3n * PAGE, 0, PAGE, RW);
    expect(domain.unmap(0n, 8n * PAGE)).toBe(2n * PAGE);
    expect(domain.unmap(2n * PAGE, PAGE)).toBe(0n);
    expect(domain.iovaToPhys(3n * PAGE)).toBe(0);
  });

  it('refuses unaligned ranges with 0 and a line in the log', () => {
    const { domain, seams } = makeDomain();
    domain.map(0n, 0, PAGE, RW);
    expect(domain.unmap(0n, 100n)).toBe(0n);
    expect(seams.log.entries.at(-1)?.text).toBe('iommu: unaligned: iova 0x0 size 0x64 min_pagesz 0x1000');
    expect(domain.mappings).toBe(1);
  });
});

describe('against a page table with one entry for each page', () => {
  /** Entry sizes in pages; small, so that random ranges have all of them. */
  const ENTRIES = [16, 4, 1];
  const SPACE = 96;

  class NaivePages {
    readonly pages = new Map<number, { frame: number; prot: number; start: number; length: number }>();

    map(page: number, frame: number, count: number, prot: number): boolean {
      for (let i = 0; i < count; i++) if (this.pages.has(page + i)) return false;
      for (let done = 0; done < count; ) {
        const at = page + done;
        const length = ENTRIES.find((n) => at % n === 0 && (frame + done) % n === 0 && n <= count - done) ?? 1;
        for (let i = 0; i < length; i++) {
          this.pages.set(at + i, { frame: frame + done + i, prot, start: at, length });
        }
        done += length;
      }
      return true;
    }

    unmap(page: number, count: number): number {
      let at = page;
      while (at < page + count) {
        const entry = this.pages.get(at);
        if (entry === undefined || entry.start !== at) break;
        for (let i = 0; i < entry.length; i++) this.pages.delete(at + i);
        at += entry.length;
      }
      return at - page;
    }
  }

  const page = fc.nat(SPACE - 1);
  const command = fc.oneof(
    fc.record({ op: fc.constant('map'), page, count: fc.integer({ min: 1, max: 40 }), frame: fc.nat(200) }),
    fc.record({ op: fc.constant('unmap'), page, count: fc.integer({ min: 1, max: 40 }), frame: fc.constant(0) }),
    fc.record({ op: fc.constant('write'), page, count: fc.integer({ min: 1, max: 4 }), frame: fc.constant(0) }),
  );

  it('maps, unmaps, translates and tells dirty entries alike', () => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 40 }), (commands) => {
        const { domain } = makeDomain({ pageSizes: PAGE | (4n * PAGE) | (16n * PAGE) }, true);
        domain.setDirtyTracking(true);
        const naive = new NaivePages();
        const dirty = new Set<number>();
        for (const { op, page, count, frame } of commands) {
          const iova = BigInt(page) * PAGE;
          const size = BigInt(count) * PAGE;
          if (op === 'map') {
            let mapped = true;
            try {
              domain.map(iova, frame * 4096, size, RW);
            } catch {
              mapped = false;
            }
            expect(mapped).toBe(naive.map(page, frame, count, RW));
          } else if (op === 'unmap') {
            const removed = naive.unmap(page, count);
            expect(domain.unmap(iova, size)).toBe(BigInt(removed) * PAGE);
            for (let i = 0; i < removed; i++) dirty.delete(page + i);
          } else {
            domain.markDirty(iova, count * 4096);
            for (let i = 0; i < count; i++) {
              const entry = naive.pages.get(page + i);
              if (entry) for (let k = 0; k < entry.length; k++) dirty.add(entry.start + k);
            }
          }
        }
        for (let at = 0; at < SPACE + 64; at++) {
          const expected = naive.pages.get(at);
          const found = domain.iovaToPhys(BigInt(at) * PAGE + 7n);
          expect(found).toBe(expected && expected.frame * 4096 + 7);
        }
        const reported = new Set<number>();
        domain.readAndClearDirty(0n, BigInt(SPACE + 64) * PAGE, (iova, size) => {
          for (let i = 0; i < Number(size / PAGE); i++) reported.add(Number(iova / PAGE) + i);
        });
        expect([...reported].sort((a, b) => a - b)).toEqual([...dirty].sort((a, b) => a - b));
      }),
    );
  });

  it('stays fast with a million mappings', () => {
    const { domain } = makeDomain();
    const count = 1_000_000;
    // Every other page, in an order that is neither ascending nor descending.
    for (let i = 0; i < count; i++) {
      const slot = (i * 7919) % count;
      domain.map(BigInt(slot * 2) * PAGE, slot * 4096, PAGE, RW);
    }
    expect(domain.mappings).toBe(count);
    for (let slot = 0; slot < count; slot += 1009) {
      expect(domain.iovaToPhys(BigInt(slot * 2) * PAGE + 1n)).toBe(slot * 4096 + 1);
      expect(domain.iovaToPhys(BigInt(slot * 2 + 1) * PAGE)).toBeUndefined();
    }
    for (let slot = 0; slot < count; slot += 101) expect(domain.unmap(BigInt(slot * 2) * PAGE, PAGE)).toBe(PAGE);
    expect(domain.mappings).toBe(count - Math.ceil(count / 101));
  }, 20_000);
});

describe('dirty tracking', () => {
  it('stays as it was when the unit does not take the change', () => {
    const { domain, seams } = makeDomain({}, true);
    for (const wanted of [true, false]) {
      const change = { name: 'iommu_set_dirty_tracking:unit', code: 'ENOMEM' };
      using _arm = seams.faults.failOn(change.name);
      expect(() => domain.setDirtyTracking(wanted)).toThrow(expect.objectContaining({ code: change.code }));
      using recording = seams.faults.record();
      domain.setDirtyTracking(wanted);
      expect(recording.steps).toEqual([change]); // still a change
    }
    domain.free();
  });

  it('is refused where the hardware keeps no dirty bits', () => {
    const seams = createSeams();
    const unit = new IommuUnit(seams, 'dmar0', { ...vtd, dirtyTracking: false });
    expect(() => new IommuDomain(seams, unit, { kind: 'unmanaged', dirtyTracking: true })).toThrow(
      expect.objectContaining({ code: 'EOPNOTSUPP' }),
    );
    const domain = new IommuDomain(seams, unit, { kind: 'unmanaged' });
    expect(() => domain.setDirtyTracking(true)).toThrow(expect.objectContaining({ code: 'EOPNOTSUPP' }));
    expect(() => domain.readAndClearDirty(0n, PAGE, () => {})).toThrow(expect.objectContaining({ code: 'EOPNOTSUPP' }));
  });

  it('records nothing before it is started, and reports the whole entry cut to the range', () => {
    const { domain } = makeDomain({}, true);
    domain.map(2n * MIB, 0x20_0000, 2n * MIB, RW);
    const report = (keep = false) => {
      const found: [bigint, bigint][] = [];
      domain.readAndClearDirty(2n * MIB + PAGE, PAGE, (iova, size) => void found.push([iova, size]), keep);
      return found;
    };
    domain.markDirty(2n * MIB, 1);
    expect(report()).toEqual([]);
    domain.setDirtyTracking(true);
    domain.markDirty(2n * MIB, 1);
    expect(report(true)).toEqual([[2n * MIB + PAGE, PAGE]]);
    expect(report()).toEqual([[2n * MIB + PAGE, PAGE]]);
    expect(report()).toEqual([]);
  });

  it('keeps the record of an entry that an unmap begins inside of, and so leaves alone', () => {
    const { domain } = makeDomain({}, true);
    domain.map(2n * MIB, 0x20_0000, 2n * MIB, RW);
    domain.setDirtyTracking(true);
    domain.markDirty(2n * MIB, 1);
    expect(domain.unmap(2n * MIB + PAGE, PAGE)).toBe(0n);
    const found: bigint[] = [];
    domain.readAndClearDirty(2n * MIB, 2n * MIB, (iova, size) => void found.push(iova, size));
    expect(found).toEqual([2n * MIB, 2n * MIB]);
  });
});

describe('the life of a domain', () => {
  it('is counted, and ends once', () => {
    const { domain, seams } = makeDomain();
    expect(seams.tracker.count('domain')).toBe(1);
    domain.map(0n, 0, PAGE, RW);
    domain.free();
    expect(seams.tracker.count('domain')).toBe(0);
    expect(caught(() => domain.free())).toSatisfy((error) => isKernelBug(error, 'double-free'));
    expect(caught(() => domain.map(0n, 0, PAGE, RW))).toSatisfy((error) => isKernelBug(error, 'use-after-free'));
    expect(caught(() => domain.iovaToPhys(0n))).toSatisfy((error) => isKernelBug(error, 'use-after-free'));
  });

  it('leaves nothing behind when there is no memory for it', () => {
    const { seams, unit } = makeDomain();
    using _arm = seams.faults.failAt(0);
    expect(() => new IommuDomain(seams, unit, { kind: 'unmanaged' })).toThrow(
      expect.objectContaining({ code: 'ENOMEM' }),
    );
    expect(seams.tracker.count('domain')).toBe(1);
  });
});

describe('a unit', () => {
  it('needs a page size of 2 KiB at least, and an aperture', () => {
    const seams = createSeams();
    expect(() => new IommuUnit(seams, 'u', { ...vtd, pageSizes: 0n })).toThrow(RangeError);
    expect(() => new IommuUnit(seams, 'u', { ...vtd, pageSizes: 1024n })).toThrow(RangeError);
    expect(() => new IommuUnit(seams, 'u', { ...vtd, aperture: [5n, 4n] })).toThrow(RangeError);
  });

  it('enforces coherency only while nothing is mapped, and only if it can', () => {
    const { domain } = makeDomain();
    domain.map(0n, 0, PAGE, RW);
    expect(domain.enforceCoherency()).toBe(false);
    domain.unmap(0n, PAGE);
    expect(domain.enforceCoherency()).toBe(true);
    domain.map(0n, 0, PAGE, RW);
    expect(domain.enforceCoherency()).toBe(true);
    expect(makeDomain({ enforceCoherency: false }).domain.enforceCoherency()).toBe(false);
  });
});

function caught(fn: () => void): unknown {
  try {
    fn();
  } catch (error) {
    return error;
  }
  return undefined;
}
