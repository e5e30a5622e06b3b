import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, HUGE_PAGE_SIZE, PAGE_SIZE, type PageRange, PhysicalMemory } from '../src/index.js';
import { errno } from './process-lab.js';

const GIB = 2 ** 30;

function setUp(options = {}) {
  const seams = createSeams({ checked: true });
  return { seams, memory: new PhysicalMemory(seams, options) };
}

describe('PhysicalMemory.alloc', () => {
  it('gives consecutive frames that read as zeros, and knows whose they are', () => {
    const { memory } = setUp();
    const range = memory.alloc(3, 'test');
    expect(memory.at(range.basePfn - 1)).toBeUndefined();
    expect(memory.at(range.basePfn)).toBe(range);
    expect(memory.at(range.basePfn + 2)).toBe(range);
    expect(memory.at(range.basePfn + 3)).toBeUndefined();
    const bytes = new Uint8Array(16).fill(7);
    memory.read(range.basePfn * PAGE_SIZE + 100, bytes);
    expect(bytes).toEqual(new Uint8Array(16));
    range.put();
  });

  it('costs nothing until it is touched, and then one block at a time', () => {
    const { memory } = setUp();
    const range = memory.alloc((64 * GIB) / PAGE_SIZE, 'guest');
    const far = 63 * GIB + 12345;
    memory.read(range.basePfn * PAGE_SIZE + far, new Uint8Array(8));
    expect(range.populated(far)).toBe(false);
    memory.write(range.basePfn * PAGE_SIZE + far, Uint8Array.of(1));
    expect(range.populated(far)).toBe(true);
    expect(range.populated(far - HUGE_PAGE_SIZE)).toBe(false);
    range.put();
  });

  it('starts large ranges at a huge page, and gives the gap before them to small ones', () => {
    const { memory } = setUp();
    const small = memory.alloc(1, 'small');
    const large = memory.alloc(512, 'large');
    expect(large.basePfn % 512).toBe(0);
    expect(memory.alloc(1, 'gap').basePfn).toBe(small.basePfn + 1);
  });

  it('keeps what lies before and behind a large range in a hole', () => {
    const { memory } = setUp();
    const [first, hole] = [memory.alloc(1, 'first'), memory.alloc(511, 'hole')];
    const [more, last] = [memory.alloc(600, 'more of the hole'), memory.alloc(1, 'last')];
    more.put();
    hole.put();
    expect(memory.alloc(512, 'large').basePfn).toBe(more.basePfn);
    expect(memory.alloc(511, 'before').basePfn).toBe(first.basePfn + 1);
    expect(memory.alloc(88, 'behind').basePfn).toBe(last.basePfn - 88);
  });

  it('is ENOMEM on a fault, with nothing tracked', () => {
    const { seams, memory } = setUp();
    seams.faults.failOn('alloc_pages:guest');
    expect(() => memory.alloc(1, 'guest')).toThrow(errno('ENOMEM'));
    expect(seams.tracker.leaks()).toEqual([]);
  });

  it('is ENOMEM past 52 bits of physical address', () => {
    const { memory } = setUp();
    expect(() => memory.alloc(2 ** 41, 'too much')).toThrow(errno('ENOMEM'));
  });

  it('never gives a frame to two ranges, and reuses what was freed', () => {
    fc.assert(
      fc.property(fc.array(fc.oneof(fc.integer({ min: 1, max: 1500 }), fc.constant('free' as const))), (steps) => {
        const { seams, memory } = setUp();
        const live: PageRange[] = [];
        for (const step of steps) {
          if (step === 'free') live.splice(Math.floor(live.length / 2), 1)[0]?.put();
          else live.push(memory.alloc(step, 'test'));
        }
        const sorted = live.toSorted((a, b) => a.basePfn - b.basePfn);
        for (const [i, range] of sorted.entries()) {
          const next = sorted[i + 1];
          if (next) expect(range.basePfn + range.pages).toBeLessThanOrEqual(next.basePfn);
          expect(memory.at(range.basePfn + range.pages - 1)).toBe(range);
        }
        for (const range of live) range.put();
        expect(seams.tracker.count('memory')).toBe(0);
        // All holes have grown together again.
        expect(memory.alloc(4096, 'again').basePfn).toBe(setUp().memory.alloc(4096, 'first').basePfn);
      }),
      { numRuns: 60 },
    );
  });
});

describe('PageRange', () => {
  it('lives until its last reference is put', () => {
    const { seams, memory } = setUp();
    const range = memory.alloc(1, 'test').get();
    range.put();
    expect(memory.at(range.basePfn)).toBe(range);
    range.put();
    expect(memory.at(range.basePfn)).toBeUndefined();
    expect(seams.tracker.leaks()).toEqual([]);
    expect(() => range.put()).toThrow('double-free');
    expect(() => range.get()).toThrow('use-after-free');
    expect(() => range.span(0, 1)).toThrow('use-after-free');
  });

  it('is reported with what it was for when nobody puts it', () => {
    const { seams, memory } = setUp();
    memory.alloc(5, 'guest memory');
    expect(seams.tracker.leaks()).toEqual([
      expect.objectContaining({ kind: 'memory', what: '5 pages of guest memory' }),
    ]);
  });
});

describe('PhysicalMemory.allocHuge', () => {
  it('takes from the pool, and gives back with the range', () => {
    const { memory } = setUp({ hugePages: 3 });
    const range = memory.allocHuge(2, 'huge');
    expect([range.pages, range.basePfn % 512, memory.hugePagesFree]).toEqual([1024, 0, 1]);
    expect(() => memory.allocHuge(2, 'huge')).toThrow(errno('ENOMEM'));
    range.put();
    expect(memory.hugePagesFree).toBe(3);
  });
});

describe('PhysicalMemory.adopt', () => {
  it('uses the memory in place, as one view', () => {
    const { memory } = setUp();
    const buffer = new ArrayBuffer(2 * HUGE_PAGE_SIZE);
    const range = memory.adopt(buffer, 'shared');
    const phys = range.basePfn * PAGE_SIZE;
    memory.write(phys + HUGE_PAGE_SIZE - 2, Uint8Array.of(1, 2, 3, 4));
    expect([...new Uint8Array(buffer, HUGE_PAGE_SIZE - 2, 4)]).toEqual([1, 2, 3, 4]);
    expect(memory.view(phys, buffer.byteLength)?.buffer).toBe(buffer);
  });

  it('is ENOMEM on a fault, with nothing tracked', () => {
    const { seams, memory } = setUp();
    seams.faults.failOn('memremap_pages:shared');
    expect(() => memory.adopt(new ArrayBuffer(PAGE_SIZE), 'shared')).toThrow(errno('ENOMEM'));
    expect(seams.tracker.leaks()).toEqual([]);
  });

  it.each([0, 1, PAGE_SIZE + 1])('refuses %i bytes, which are not whole pages', (length) => {
    const { memory } = setUp();
    expect(() => memory.adopt(new ArrayBuffer(length), 'shared')).toThrow(errno('EINVAL'));
  });
});

describe('PhysicalMemory.view', () => {
  it('is the memory itself within a block, and undefined beyond', () => {
    const { memory } = setUp();
    const range = memory.alloc(1024, 'test');
    const phys = range.basePfn * PAGE_SIZE;
    memory.view(phys + 10, 2)?.set([8, 9]);
    const bytes = new Uint8Array(2);
    memory.read(phys + 10, bytes);
    expect([...bytes]).toEqual([8, 9]);
    expect(memory.view(phys + HUGE_PAGE_SIZE - 1, 2)).toBeUndefined();
    expect(memory.view(phys + range.length - 1, 2)).toBeUndefined();
    expect(memory.view(phys + range.length, 1)).toBeUndefined();
  });
});

describe('PhysicalMemory.addMmio', () => {
  function withWindow() {
    const { memory } = setUp();
    const log: string[] = [];
    const window = {
      read: (offset: number, into: Uint8Array) => {
        log.push(`read ${offset}+${into.length}`);
        into.fill(0x5a);
      },
      write: (offset: number, from: Uint8Array) => void log.push(`write ${offset}+${from.length}`),
    };
    return { memory, log, registration: memory.addMmio(16, 2, window), window };
  }

  it('sends DMA to the device', () => {
    const { memory, log } = withWindow();
    const bytes = new Uint8Array(4);
    memory.read(17 * PAGE_SIZE + 8, bytes);
    memory.write(16 * PAGE_SIZE, Uint8Array.of(1, 2));
    expect([...bytes]).toEqual([0x5a, 0x5a, 0x5a, 0x5a]);
    expect(log).toEqual([`read ${PAGE_SIZE + 8}+4`, 'write 0+2']);
  });

  it('reads all ones where nothing is, and lets writes go', () => {
    const { memory, registration } = withWindow();
    registration[Symbol.dispose]();
    const bytes = new Uint8Array(2);
    memory.write(16 * PAGE_SIZE, bytes);
    memory.read(16 * PAGE_SIZE, bytes);
    expect([...bytes]).toEqual([0xff, 0xff]);
  });

  it('crosses from memory to nothing in one access', () => {
    const { memory } = setUp();
    const range = memory.alloc(1, 'test');
    const bytes = new Uint8Array(4).fill(3);
    memory.read((range.basePfn + 1) * PAGE_SIZE - 2, bytes);
    expect([...bytes]).toEqual([0, 0, 0xff, 0xff]);
  });

  it('refuses frames that are taken, by a window or by memory', () => {
    const { memory, window } = withWindow();
    expect(() => memory.addMmio(17, 1, window)).toThrow(errno('EBUSY'));
    const range = memory.alloc(4, 'test');
    expect(() => memory.addMmio(range.basePfn - 1, 2, window)).toThrow(errno('EBUSY'));
  });
});

describe('PageRange.moveTo', () => {
  it('takes the bytes along, wherever they were, and whoever looks next looks there', () => {
    const { memory } = setUp();
    const range = memory.alloc(3 * (HUGE_PAGE_SIZE / PAGE_SIZE), 'test');
    range.write(5, Uint8Array.of(1, 2));
    range.write(2 * HUGE_PAGE_SIZE + 7, Uint8Array.of(3));
    const page = memory.page(range.basePfn * PAGE_SIZE, true);
    const { epoch } = memory;
    const storage = new Uint8Array(range.length);
    range.moveTo(storage);
    expect(memory.epoch).not.toBe(epoch);
    expect([storage[5], storage[6], storage[2 * HUGE_PAGE_SIZE + 7]]).toEqual([1, 2, 3]);
    storage[HUGE_PAGE_SIZE] = 9;
    const bytes = new Uint8Array(2);
    memory.read(range.basePfn * PAGE_SIZE + HUGE_PAGE_SIZE, bytes);
    expect([...bytes]).toEqual([9, 0]);
    range.moveTo(new Uint8Array(range.length));
    storage.fill(0xee);
    expect([...range.span(5, 2)]).toEqual([1, 2]);
    expect(page?.[5]).toBe(1);
    expect(() => range.moveTo(new Uint8Array(PAGE_SIZE))).toThrow(RangeError);
    range.put();
  });
});

describe('windows that have to ask somebody', () => {
  /** A window whose answers wait until they are let go. */
  function asking() {
    const log: string[] = [];
    const waiting: (() => void)[] = [];
    const later = (text: string, done: () => void) =>
      new Promise<void>((resolve) => {
        log.push(text);
        waiting.push(() => {
          done();
          resolve();
        });
      });
    const window = {
      read: (_: number, into: Uint8Array) => void into.fill(0xff),
      write: () => {},
      readLater: (offset: number, into: Uint8Array) =>
        later(`read ${offset}+${into.length}`, () => void into.fill(0x11)),
      writeLater: (offset: number, from: Uint8Array) => later(`write ${offset}+${from.length}`, () => {}),
    };
    return { window, log, answer: () => waiting.shift()?.() };
  }

  it('are waited for by bus masters, who ask once for all pages, and by nobody else', async () => {
    const { memory } = setUp();
    const { window, log, answer } = asking();
    const placed = memory.placeMmio(3, window);
    const bytes = new Uint8Array(2 * PAGE_SIZE);
    const reading = memory.readBus(placed.basePfn * PAGE_SIZE + 100, bytes);
    expect(reading).toBeInstanceOf(Promise);
    expect(bytes[0]).toBe(0);
    answer();
    await reading;
    expect(bytes.every((byte) => byte === 0x11)).toBe(true);
    const writing = memory.writeBus(placed.basePfn * PAGE_SIZE, bytes.subarray(0, 4));
    answer();
    await writing;
    expect(log).toEqual([`read 100+${2 * PAGE_SIZE}`, 'write 0+4']);
    memory.read(placed.basePfn * PAGE_SIZE, bytes);
    expect(bytes[0]).toBe(0xff);
  });

  it('give their frames back, and let memory beside them answer at once', () => {
    const { memory } = setUp();
    const { window } = asking();
    const placed = memory.placeMmio(3, window);
    const range = memory.alloc(1, 'test');
    expect(memory.at(placed.basePfn)).toBeUndefined();
    expect(memory.readBus(range.basePfn * PAGE_SIZE, new Uint8Array(8))).toBeUndefined();
    placed[Symbol.dispose]();
    placed[Symbol.dispose]();
    expect(memory.alloc(3, 'test').basePfn).toBe(placed.basePfn);
  });

  it('fail a transfer when one of its parts fails, after all of them are done', async () => {
    const { memory } = setUp();
    const failing = {
      read: () => {},
      write: () => {},
      readLater: () => Promise.reject(new Error('gone')),
      writeLater: () => Promise.reject(new Error('gone')),
    };
    const placed = memory.placeMmio(1, failing);
    await expect(memory.readBus(placed.basePfn * PAGE_SIZE, new Uint8Array(4))).rejects.toThrow('gone');
    await expect(memory.writeBus(placed.basePfn * PAGE_SIZE, new Uint8Array(4))).rejects.toThrow('gone');
  });
});
