import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressSpace, PAGE_SIZE, Prot } from '../src/index.js';
import { createLab, errno } from './process-lab.js';

const RW = Prot.READ | Prot.WRITE;
const PAGE = BigInt(PAGE_SIZE);

function setUp() {
  const { host, memory } = createLab();
  return { host, memory, mm: new AddressSpace(host, memory) };
}

describe('AddressSpace.pinPages', () => {
  it('gives one run for 64 GiB', () => {
    const { host, mm } = setUp();
    const pages = 2 ** 24;
    const addr = mm.mmap({ length: pages * PAGE_SIZE, prot: RW });
    const runs = mm.pinPages(addr, pages, true);
    expect(runs.map((run) => [run.pages, run.reserved])).toEqual([[pages, false]]);
    for (const run of runs) run.unpin();
    expect(host.tracker.count('pin')).toBe(0);
  });

  it('finds the frames that the process sees', () => {
    const { mm, memory } = setUp();
    const addr = mm.mmap({ length: 4 * PAGE_SIZE, prot: RW });
    mm.copyTo(addr + 2n * PAGE, Uint8Array.of(5));
    const [run] = mm.pinPages(addr + PAGE, 3, false);
    const bytes = new Uint8Array(1);
    memory.read((run!.pfn + 1) * PAGE_SIZE, bytes);
    expect([...bytes]).toEqual([5]);
    run!.unpin();
  });

  it('keeps the frames alive when the mapping goes', () => {
    const { host, mm, memory } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    mm.copyTo(addr, Uint8Array.of(5));
    const [run] = mm.pinPages(addr, 1, true);
    mm.munmap(addr, PAGE_SIZE);
    mm.exit();
    const bytes = new Uint8Array(1);
    memory.read(run!.pfn * PAGE_SIZE, bytes);
    expect([...bytes]).toEqual([5]);
    run!.unpin(true);
    expect(host.tracker.leaks()).toEqual([]);
  });

  it('is EFAULT for what is not mapped, not readable, or for writing not writable; nothing stays pinned', () => {
    const { host, mm } = setUp();
    const addr = mm.mmap({ length: 4 * PAGE_SIZE, prot: RW });
    mm.munmap(addr + 2n * PAGE, PAGE_SIZE);
    mm.mprotect(addr + PAGE, PAGE_SIZE, Prot.READ);
    mm.mprotect(addr + 3n * PAGE, PAGE_SIZE, Prot.WRITE);
    for (const [at, pages, write] of [
      [addr, 3, false],
      [addr, 2, true],
      [addr + 3n * PAGE, 1, false],
      [0n, 1, false],
      [2n ** 47n, 1, false],
      [2n ** 64n - PAGE, 1, false],
    ] as const) {
      expect(() => mm.pinPages(at, pages, write)).toThrow(errno('EFAULT'));
    }
    expect(host.tracker.count('pin')).toBe(0);
    for (const run of mm.pinPages(addr, 2, false)) run.unpin();
  });

  it('gives what comes before the first bad page, where the caller asks for that', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 3 * PAGE_SIZE, prot: RW });
    mm.munmap(addr + 2n * PAGE, PAGE_SIZE);
    const runs = mm.pinPages(addr, 3, true, { partial: true });
    expect(runs.reduce((sum, run) => sum + run.pages, 0)).toBe(2);
    expect(() => mm.pinPages(addr + 2n * PAGE, 1, true, { partial: true })).toThrow(errno('EFAULT'));
    for (const run of runs) run.unpin();
  });

  it('is ENOMEM on a fault', () => {
    const { host, mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    host.faults.failOn('pin_user_pages:frames');
    expect(() => mm.pinPages(addr, 1, true)).toThrow(errno('ENOMEM'));
  });
});

describe('PinnedRun', () => {
  it('is unpinned once', () => {
    const { mm } = setUp();
    const [run] = mm.pinPages(mm.mmap({ length: PAGE_SIZE, prot: RW }), 1, true);
    run!.unpin();
    expect(() => run!.unpin()).toThrow('double-free');
    expect(() => run!.splitAt(1)).toThrow(RangeError);
  });

  it('is cut into runs that are unpinned one by one', () => {
    fc.assert(
      fc.property(fc.array(fc.integer({ min: 1, max: 63 }), { maxLength: 10 }), (cuts) => {
        const { host, mm } = setUp();
        const addr = mm.mmap({ length: 64 * PAGE_SIZE, prot: RW });
        const runs = mm.pinPages(addr, 64, true);
        const { pfn } = runs[0]!;
        for (const cut of cuts) {
          const index = runs.findIndex((run) => run.pfn < pfn + cut && run.pfn + run.pages > pfn + cut);
          if (index >= 0) runs.splice(index + 1, 0, runs[index]!.splitAt(pfn + cut - runs[index]!.pfn));
        }
        mm.exit();
        let next = pfn;
        for (const run of runs) {
          expect(run.pfn).toBe(next);
          next += run.pages;
          expect(host.tracker.count('memory')).toBe(1);
          run.unpin();
        }
        expect(next).toBe(pfn + 64);
        expect(host.tracker.leaks()).toEqual([]);
      }),
      { numRuns: 50 },
    );
  });

  it.each([0, 4, 5, -1])('is not cut at %i of 4 pages', (at) => {
    const { mm } = setUp();
    const [run] = mm.pinPages(mm.mmap({ length: 4 * PAGE_SIZE, prot: RW }), 4, true);
    expect(() => run!.splitAt(at)).toThrow(RangeError);
    run!.unpin();
  });
});
