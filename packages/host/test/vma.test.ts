import { describe, expect, it } from 'vitest';
import { type AccessSize, AddressSpace, InodeMapping, type Mapping, PAGE_SIZE, Prot } from '../src/index.js';
import { createLab, errno, TestFile } from './process-lab.js';

const RW = Prot.READ | Prot.WRITE;
const ALL = RW | Prot.EXEC;
const PAGE = BigInt(PAGE_SIZE);
const fault = (signal: string, address: bigint) =>
  expect.objectContaining({ name: 'SegmentationFault', signal, address });

function setUp() {
  const { host, memory } = createLab();
  const inode = new InodeMapping();
  const mm = new AddressSpace(host, memory);
  const file = new TestFile({ mapping: inode });
  const map = (
    mapping: Mapping,
    options: { pages?: number; offset?: number; shared?: boolean; prot?: number } = {},
  ) => {
    const { pages = 1, offset = 0, shared = true, prot = RW } = options;
    return mm.mapFile({ file, mapping, length: pages * PAGE_SIZE, offset, shared, prot, mayProt: ALL });
  };
  return { host, memory, inode, mm, file, map };
}

/** Registers whose accesses are written down. */
function registers(more: Partial<Mapping> = {}) {
  const log: string[] = [];
  const mapping: Mapping = {
    kind: 'io',
    load: (offset, size) => {
      log.push(`load ${offset}/${size}`);
      return 0x0807_0605_0403_0201n & ((1n << BigInt(8 * size)) - 1n);
    },
    store: (offset, size, value) => void log.push(`store ${offset}/${size}=${value.toString(16)}`),
    ...more,
  };
  return { log, mapping };
}

describe('an io mapping', () => {
  it('sees every access as it was made, from the start of the mapping', () => {
    const { mm, map } = setUp();
    const { log, mapping } = registers();
    const addr = map(mapping, { pages: 2, offset: 5 * PAGE_SIZE });
    for (const size of [1, 2, 4, 8] as AccessSize[]) mm.load(addr + PAGE + 8n, size);
    mm.store(addr + 4n, 4, 0x1_2345_6789n);
    mm.load(addr + 3n, 4);
    expect(log).toEqual(['load 4104/1', 'load 4104/2', 'load 4104/4', 'load 4104/8', 'store 4/4=23456789', 'load 3/4']);
  });

  it('is little endian, whatever the CPU is', () => {
    const { host, memory, file } = setUp();
    const mm = new AddressSpace(host, memory, 'big');
    const { log, mapping } = registers();
    const addr = mm.mapFile({ file, mapping, length: PAGE_SIZE, offset: 0, shared: true, prot: RW, mayProt: ALL });
    expect(mm.load(addr, 4)).toBe(0x0102_0304n);
    mm.store(addr, 2, 0x1122n);
    expect(log).toEqual(['load 0/4', 'store 0/2=2211']);
  });

  it('raises SIGBUS where the device says so', () => {
    const { mm, map } = setUp();
    const addr = map({ kind: 'io', load: (offset) => (offset === 0 ? 1n : 'SIGBUS'), store: () => 'SIGBUS' });
    expect(mm.load(addr, 4)).toBe(1n);
    expect(() => mm.load(addr + 4n, 4)).toThrow(fault('SIGBUS', addr + 4n));
    expect(() => mm.store(addr, 4, 1n)).toThrow(fault('SIGBUS', addr));
    expect(() => mm.copyFrom(addr, 6)).toThrow(errno('EFAULT'));
  });

  it('is copied to and from by the kernel in aligned accesses', () => {
    const { mm, map } = setUp();
    const { log, mapping } = registers();
    const addr = map(mapping);
    expect([...mm.copyFrom(addr + 6n, 7)]).toEqual([1, 2, 1, 2, 3, 4, 1]);
    mm.copyTo(addr + 8n, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8, 9));
    expect(log).toEqual(['load 6/2', 'load 8/4', 'load 12/1', 'store 8/8=807060504030201', 'store 16/1=9']);
  });

  it('is not in place in a user buffer', () => {
    const { mm, map } = setUp();
    const { log, mapping } = registers();
    const addr = map(mapping);
    const buffer = mm.userBuffer(addr, 4, 'write');
    buffer.bytes.set([4, 3, 2, 1]);
    expect(log).toEqual([]);
    buffer.commit(4);
    expect(log).toEqual(['store 0/4=1020304']);
    expect([...mm.userBuffer(addr, 2, 'read').bytes]).toEqual([1, 2]);
  });

  it('faults each page once, and again when it was zapped through any process', () => {
    const { mm, map, inode } = setUp();
    const faults: string[] = [];
    let enabled = true;
    const { mapping } = registers({
      fault: (page, write) => {
        faults.push(`${page}${write ? 'w' : 'r'}`);
        return enabled ? undefined : 'SIGBUS';
      },
    });
    const addr = map(mapping, { pages: 3, offset: 8 * PAGE_SIZE });
    mm.load(addr, 4);
    mm.store(addr, 4, 1n);
    mm.load(addr + PAGE, 4);
    const child = mm.fork();
    child.load(addr, 4);
    expect(faults).toEqual(['0r', '1r']);
    enabled = false;
    inode.zap(9 * PAGE_SIZE, PAGE_SIZE);
    expect(mm.load(addr, 4)).toBe(0x0403_0201n);
    for (const space of [mm, child]) expect(() => space.load(addr + PAGE, 4)).toThrow(fault('SIGBUS', addr + PAGE));
    inode.zap(0, 0);
    expect(() => mm.store(addr, 4, 0n)).toThrow(fault('SIGBUS', addr));
    enabled = true;
    expect(mm.load(addr + PAGE, 4)).toBe(0x0403_0201n);
  });

  it('is gone for good when it is zapped and cannot fault', () => {
    const { mm, map, inode } = setUp();
    const addr = map(registers().mapping, { pages: 3 });
    inode.zap(PAGE_SIZE, PAGE_SIZE);
    mm.load(addr, 4);
    mm.load(addr + 2n * PAGE, 4);
    expect(() => mm.load(addr + PAGE, 4)).toThrow(fault('SIGBUS', addr + PAGE));
    expect(() => mm.fork().load(addr + PAGE, 4)).toThrow(fault('SIGBUS', addr + PAGE));
  });

  it('has both pages of an access that straddles them', () => {
    const { mm, map } = setUp();
    const { mapping, log } = registers({ fault: (page) => (page === 1 ? 'SIGBUS' : undefined) });
    const addr = map(mapping, { pages: 2 });
    expect(() => mm.load(addr + PAGE - 2n, 4)).toThrow(fault('SIGBUS', addr + PAGE));
    expect(log).toEqual([]);
  });

  it('gives its own frames to DMA, uncounted, if it has some', () => {
    const { host, mm, map } = setUp();
    const addr = map(registers({ pfn: (page) => (page < 3 ? 0x100 + page : page === 3 ? 0x200 : undefined) }).mapping, {
      pages: 5,
    });
    const runs = mm.pinPages(addr, 4, true);
    expect(runs.map(({ pfn, pages, reserved }) => [pfn, pages, reserved])).toEqual([
      [0x100, 3, true],
      [0x200, 1, true],
    ]);
    for (const run of runs) run.unpin();
    expect(() => mm.pinPages(addr, 5, false)).toThrow(errno('EFAULT'));
    expect(host.tracker.count('pin')).toBe(0);
  });

  it('gives no frames of pages that cannot be faulted in', () => {
    const { mm, map } = setUp();
    const addr = map(registers({ pfn: () => 1, fault: () => 'SIGBUS' }).mapping);
    expect(() => mm.pinPages(addr, 1, true)).toThrow(errno('EFAULT'));
  });
});

describe('a memory mapping', () => {
  function withPages(options: { shared?: boolean } = {}) {
    const all = setUp();
    const range = all.memory.alloc(4, 'of the file');
    const faults: string[] = [];
    const mapping: Mapping = {
      kind: 'memory',
      fault: (page, write) => {
        faults.push(`${page}${write ? 'w' : 'r'}`);
        return page < 4 ? { range, index: page } : 'SIGBUS';
      },
    };
    return { ...all, range, faults, addr: all.map(mapping, { pages: 5, ...options }) };
  }

  it("is the file's memory when shared, and faults before reading and before writing", () => {
    const { mm, range, faults, addr } = withPages();
    expect(mm.load(addr + PAGE, 1)).toBe(0n);
    mm.store(addr + PAGE, 1, 7n);
    mm.store(addr + PAGE + 1n, 1, 8n);
    expect([...range.span(PAGE_SIZE, 2)]).toEqual([7, 8]);
    expect(faults).toEqual(['1r', '1w']);
  });

  it('raises SIGBUS past the end of the file, EFAULT in the kernel, and cannot be pinned there', () => {
    const { mm, addr } = withPages();
    expect(() => mm.load(addr + 4n * PAGE, 1)).toThrow(fault('SIGBUS', addr + 4n * PAGE));
    expect(() => mm.copyFrom(addr, 5 * PAGE_SIZE)).toThrow(errno('EFAULT'));
    expect(() => mm.pinPages(addr, 5, true)).toThrow(errno('EFAULT'));
  });

  it('is in place in a user buffer when its pages are consecutive', () => {
    const { mm, range, addr } = withPages();
    const { bytes } = mm.userBuffer(addr + 4n, 4 * PAGE_SIZE, 'write');
    expect(bytes.length).toBe(4 * PAGE_SIZE - 4);
    expect(bytes.buffer).toBe(range.span(0, 1).buffer);
  });

  it('is gathered when its pages are not in order', () => {
    const { mm, map, memory } = setUp();
    const range = memory.alloc(2, 'of the file');
    range.write(0, new Uint8Array(PAGE_SIZE).fill(1));
    range.write(PAGE_SIZE, new Uint8Array(PAGE_SIZE).fill(2));
    const addr = map({ kind: 'memory', fault: (page) => ({ range, index: 1 - page }) }, { pages: 2 });
    expect([...mm.userBuffer(addr + PAGE - 2n, 4, 'read').bytes]).toEqual([2, 2, 1, 1]);
    const runs = mm.pinPages(addr, 2, false);
    expect(runs.map(({ pfn, pages }) => [pfn - range.basePfn, pages])).toEqual([
      [1, 1],
      [0, 1],
    ]);
    for (const run of runs) run.unpin();
  });

  it('is copied page by page when private and written', () => {
    const { mm, range, addr, host } = withPages({ shared: false });
    range.write(0, Uint8Array.of(1, 2, 3));
    expect(mm.load(addr, 1)).toBe(1n);
    mm.store(addr + 1n, 1, 9n);
    range.write(0, Uint8Array.of(5));
    expect([...mm.copyFrom(addr, 3)]).toEqual([1, 9, 3]);
    expect([...range.span(1, 1)]).toEqual([2]);
    const child = mm.fork();
    mm.store(addr + 1n, 1, 10n);
    expect(child.load(addr + 1n, 1)).toBe(9n);
    child.exit();
    mm.exit();
    expect(host.tracker.count('memory')).toBe(1);
  });

  it('keeps private copies when the file is zapped', () => {
    const { mm, addr, inode } = withPages({ shared: false });
    mm.store(addr, 1, 9n);
    inode.zap(0, 0);
    expect(mm.load(addr, 1)).toBe(9n);
  });

  it('pins the pages of the file when shared, and copies when private', () => {
    for (const shared of [true, false]) {
      const { mm, range, addr } = withPages({ shared });
      const runs = mm.pinPages(addr, 2, true);
      expect(runs[0]?.pfn === range.basePfn).toBe(shared);
      expect(runs.reduce((sum, run) => sum + run.pages, 0)).toBe(2);
      mm.store(addr, 1, 3n);
      expect([...range.span(0, 1)]).toEqual([shared ? 3 : 0]);
      for (const run of runs) run.unpin();
    }
  });
});

describe('a mapping and its file', () => {
  it('hold each other by reference: splitting and forking open, unmapping closes', async () => {
    const { mm, map, file, inode } = setUp();
    const log: string[] = [];
    const mapping = { ...registers().mapping, open: () => void log.push('open'), close: () => void log.push('close') };
    const addr = map(mapping, { pages: 3 });
    expect([log.splice(0), file.count, inode.size]).toEqual([[], 2, 1]);
    mm.munmap(addr + PAGE, PAGE_SIZE);
    await mm.settled();
    expect([log.splice(0), file.count, inode.size]).toEqual([['open', 'open', 'close'], 3, 2]);
    const child = mm.fork();
    expect([log.splice(0), file.count, inode.size]).toEqual([['open', 'open'], 5, 4]);
    mm.exit();
    child.exit();
    await Promise.all([mm.settled(), child.settled()]);
    expect([log, file.count, inode.size]).toEqual([['close', 'close', 'close', 'close'], 1, 0]);
  });

  it('release the file when the mapping was the last to hold it', async () => {
    const { mm, map, file } = setUp();
    let released = false;
    file.release = async () => {
      await Promise.resolve();
      released = true;
    };
    const addr = map(registers().mapping);
    await file.put();
    expect(released).toBe(false);
    mm.munmap(addr, PAGE_SIZE);
    await mm.settled();
    expect(released).toBe(true);
  });

  it('keep a mapping read-only that may not be written', () => {
    const { mm, map } = setUp();
    const addr = map({ ...registers().mapping, mayWrite: false }, { prot: Prot.READ });
    expect(() => mm.mprotect(addr, PAGE_SIZE, RW)).toThrow(errno('EACCES'));
  });

  it('is zapped in the pieces that mprotect makes of it', () => {
    const { mm, map, inode } = setUp();
    let enabled = true;
    const addr = map(registers({ fault: () => (enabled ? undefined : 'SIGBUS') }).mapping, { pages: 3 });
    mm.mprotect(addr + PAGE, PAGE_SIZE, Prot.READ);
    for (let page = 0n; page < 3n; page++) mm.load(addr + page * PAGE, 4);
    expect(inode.size).toBe(3);
    enabled = false;
    inode.zap(0, 2 * PAGE_SIZE);
    expect(() => mm.load(addr, 4)).toThrow(fault('SIGBUS', addr));
    expect(() => mm.load(addr + PAGE, 4)).toThrow(fault('SIGBUS', addr + PAGE));
    mm.load(addr + 2n * PAGE, 4);
  });
});
