import { describe, expect, it } from 'vitest';
import { AddressSpace, HUGE_PAGE_SIZE, PAGE_SIZE, Prot, TASK_SIZE } from '../src/index.js';
import { createLab, errno } from './process-lab.js';

const RW = Prot.READ | Prot.WRITE;
const PAGE = BigInt(PAGE_SIZE);
const MIB = 2 ** 20;

function setUp(options = {}) {
  const { host, memory } = createLab(options);
  return { host, memory, mm: new AddressSpace(host, memory) };
}

describe('AddressSpace.mapRange', () => {
  it('maps memory that exists, and keeps it until it is unmapped', () => {
    const { memory, mm } = setUp();
    const buffer = new ArrayBuffer(2 * PAGE_SIZE);
    const range = memory.adopt(buffer, 'test');
    const address = mm.mapRange(range, { prot: RW });
    range.put();
    mm.copyTo(address + 5n, Uint8Array.of(1, 2, 3));
    expect([...new Uint8Array(buffer, 5, 3)]).toEqual([1, 2, 3]);
    const [run] = mm.pinPages(address, 2, true);
    expect([run?.pfn, run?.pages, run?.reserved]).toEqual([range.basePfn, 2, false]);
    run?.unpin();
    mm.munmap(address, 2 * PAGE_SIZE);
    expect(range.count).toBe(0);
    expect(() => mm.copyFrom(address, 1)).toThrow(errno('EFAULT'));
  });

  it('maps at an address, and for reading only', () => {
    const { memory, mm } = setUp();
    const range = memory.alloc(1, 'test');
    const address = mm.mapRange(range, { prot: Prot.READ, addr: 0x7000_0000n, fixed: true });
    expect(address).toBe(0x7000_0000n);
    expect(() => mm.copyTo(address, Uint8Array.of(1))).toThrow(errno('EFAULT'));
    mm.munmap(address, PAGE_SIZE);
    range.put();
  });
});

describe('AddressSpace.mmap', () => {
  it('gives zeroed memory of whole pages, where there is room', () => {
    const { mm } = setUp();
    const a = mm.mmap({ length: 1, prot: RW });
    const b = mm.mmap({ length: 3 * PAGE_SIZE, prot: RW });
    expect(a % PAGE).toBe(0n);
    expect(b).toBe(a - 3n * PAGE);
    expect(mm.copyFrom(a, PAGE_SIZE)).toEqual(new Uint8Array(PAGE_SIZE));
    expect(() => mm.copyFrom(a, PAGE_SIZE + 1)).toThrow(errno('EFAULT'));
    expect(mm.size).toBe(4 * PAGE_SIZE);
  });

  it('fills holes once the room below is no better', () => {
    const { mm } = setUp();
    const areas = Array.from({ length: 4 }, () => mm.mmap({ length: 2 * PAGE_SIZE, prot: RW }));
    mm.munmap(areas[1]!, 2 * PAGE_SIZE);
    expect(mm.mmap({ length: PAGE_SIZE, prot: RW })).toBe(areas[1]! + PAGE);
    expect(mm.mmap({ length: 2 * PAGE_SIZE, prot: RW })).toBe(areas[3]! - 2n * PAGE);
    expect(mm.mmap({ length: PAGE_SIZE, prot: RW })).toBe(areas[1]!);
  });

  it('takes a wish when it is free, and something else when not', () => {
    const { mm } = setUp();
    const addr = 0x7000_0000n;
    expect(mm.mmap({ addr: addr + 5n, length: PAGE_SIZE, prot: RW })).toBe(addr);
    expect(mm.mmap({ addr, length: PAGE_SIZE, prot: RW })).not.toBe(addr);
    expect(mm.mmap({ addr: 1n, length: PAGE_SIZE, prot: RW })).toBe(0x1_0000n);
  });

  it('replaces what is there at a fixed address', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 3 * PAGE_SIZE, prot: RW });
    mm.copyTo(addr, new Uint8Array(3 * PAGE_SIZE).fill(7));
    mm.mmap({ addr: addr + PAGE, length: PAGE_SIZE, prot: RW, fixed: true });
    const bytes = mm.copyFrom(addr, 3 * PAGE_SIZE);
    expect([bytes[0], bytes[PAGE_SIZE], bytes[2 * PAGE_SIZE]]).toEqual([7, 0, 7]);
  });

  it.each([
    ['EINVAL', { length: 0 }],
    ['EINVAL', { length: PAGE_SIZE, fixed: true, addr: 0x10001n }],
    ['EPERM', { length: PAGE_SIZE, fixed: true, addr: 0x1000n }],
    ['ENOMEM', { length: PAGE_SIZE, fixed: true, addr: BigInt(TASK_SIZE) }],
    ['ENOMEM', { length: 2n ** 60n }],
    ['ENOMEM', { length: 2n ** 47n - 4096n }],
  ] as const)('is %s for %o', (code, options) => {
    const { host, mm } = setUp();
    expect(() => mm.mmap({ prot: RW, ...options })).toThrow(errno(code));
    expect(host.tracker.leaks()).toEqual([]);
  });

  it('maps below 64 KiB for who may', () => {
    const { mm } = setUp();
    expect(mm.mmap({ addr: 0n, length: PAGE_SIZE, prot: RW, fixed: true, lowAddresses: true })).toBe(0n);
  });

  it('is ENOMEM at the 65531st mapping, and when a cut would make one', () => {
    const { mm } = setUp();
    const first = mm.mmap({ length: 3 * PAGE_SIZE, prot: RW });
    for (let i = 1; i < 65530; i++) mm.mmap({ length: PAGE_SIZE, prot: RW });
    expect(() => mm.mmap({ length: PAGE_SIZE, prot: RW })).toThrow(errno('ENOMEM'));
    expect(() => mm.munmap(first + PAGE, PAGE_SIZE)).toThrow(errno('ENOMEM'));
    expect(() => mm.mprotect(first + PAGE, PAGE_SIZE, Prot.READ)).toThrow(errno('ENOMEM'));
    mm.munmap(first, PAGE_SIZE);
    expect(mm.copyFrom(first + PAGE, 1)).toEqual(Uint8Array.of(0));
  });

  it('undoes everything when a step fails', () => {
    const { host, mm } = setUp({ hugePages: 4 });
    for (const hugetlb of [false, true]) {
      const recording = host.faults.record();
      mm.munmap(mm.mmap({ length: HUGE_PAGE_SIZE, prot: RW, hugetlb }), HUGE_PAGE_SIZE);
      recording.stop();
      expect(recording.steps.length).toBeGreaterThan(1);
      for (const [i] of recording.steps.entries()) {
        using arm = host.faults.failAt(i);
        expect(() => mm.mmap({ length: HUGE_PAGE_SIZE, prot: RW, hugetlb })).toThrow(errno('ENOMEM'));
        expect(arm.fired).toBe(true);
        expect(host.tracker.leaks()).toEqual([]);
        expect(mm.size).toBe(0);
      }
    }
  });
});

describe('AddressSpace.mmap with hugetlb', () => {
  it('is ENOMEM without a pool', () => {
    expect(() => setUp().mm.mmap({ length: HUGE_PAGE_SIZE, prot: RW, hugetlb: true })).toThrow(errno('ENOMEM'));
  });

  it('gives aligned whole huge pages, which are not cut', () => {
    const { mm, memory } = setUp({ hugePages: 4 });
    mm.mmap({ length: PAGE_SIZE, prot: RW });
    const addr = mm.mmap({ length: HUGE_PAGE_SIZE + 1, prot: RW, hugetlb: true });
    expect(Number(addr) % HUGE_PAGE_SIZE).toBe(0);
    expect(memory.hugePagesFree).toBe(2);
    expect(() => mm.munmap(addr, PAGE_SIZE)).toThrow(errno('EINVAL'));
    expect(() => mm.mprotect(addr + PAGE, HUGE_PAGE_SIZE, Prot.READ)).toThrow(errno('EINVAL'));
    mm.munmap(addr, HUGE_PAGE_SIZE);
    mm.munmap(addr + BigInt(HUGE_PAGE_SIZE), HUGE_PAGE_SIZE);
    expect(memory.hugePagesFree).toBe(4);
  });

  it('charges the pool once for shared memory of a parent and a child, and twice for private memory', () => {
    const { mm, memory } = setUp({ hugePages: 3 });
    mm.mmap({ length: HUGE_PAGE_SIZE, prot: RW, hugetlb: true, shared: true });
    const child = mm.fork();
    expect(memory.hugePagesFree).toBe(2);
    child.exit();
    mm.mmap({ length: HUGE_PAGE_SIZE, prot: RW, hugetlb: true });
    const second = mm.fork();
    expect(memory.hugePagesFree).toBe(0);
    expect(() => mm.fork()).toThrow(errno('ENOMEM'));
    second.exit();
    mm.exit();
    expect(memory.hugePagesFree).toBe(3);
  });
});

describe('AddressSpace.munmap', () => {
  it.each([
    ['an address inside a page', 0x10001n, PAGE_SIZE],
    ['length 0', 0x10000n, 0],
    ['an address past user space', 2n ** 47n, PAGE_SIZE],
    ['a length past user space', 0x10000n, 2n ** 47n],
  ] as const)('is EINVAL for %s', (_, addr, length) => {
    expect(() => setUp().mm.munmap(addr, length)).toThrow(errno('EINVAL'));
  });

  it('leaves the outer parts, and frees the memory with the last of them', () => {
    const { host, mm } = setUp();
    const addr = mm.mmap({ length: 5 * PAGE_SIZE, prot: RW });
    mm.munmap(addr + PAGE, PAGE_SIZE);
    mm.munmap(addr + 3n * PAGE, PAGE_SIZE);
    expect(mm.vmas()).toHaveLength(3);
    mm.munmap(addr, 4 * PAGE_SIZE);
    expect(host.tracker.count('memory')).toBe(1);
    mm.munmap(addr, 5 * PAGE_SIZE);
    expect(host.tracker.leaks()).toEqual([]);
  });
});

describe('AddressSpace.mprotect', () => {
  it('does nothing for length 0, mapped or not', () => {
    expect(setUp().mm.mprotect(0x10000n, 0, Prot.READ)).toBeUndefined();
  });

  it('is ENOMEM over a hole, with the part before it changed', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 3 * PAGE_SIZE, prot: RW });
    mm.munmap(addr + PAGE, PAGE_SIZE);
    expect(() => mm.mprotect(addr, 3 * PAGE_SIZE, Prot.READ)).toThrow(errno('ENOMEM'));
    expect(() => mm.copyTo(addr, Uint8Array.of(1))).toThrow(errno('EFAULT'));
    mm.copyTo(addr + 2n * PAGE, Uint8Array.of(1));
  });

  it('is EINVAL for an address inside a page', () => {
    expect(() => setUp().mm.mprotect(0x10001n, PAGE_SIZE, Prot.READ)).toThrow(errno('EINVAL'));
  });
});

describe('AddressSpace.copyTo', () => {
  it('writes up to the fault', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    expect(() => mm.copyTo(addr + PAGE - 2n, Uint8Array.of(1, 2, 3))).toThrow(errno('EFAULT'));
    expect([...mm.copyFrom(addr + PAGE - 2n, 2)]).toEqual([1, 2]);
  });

  it.each([-1n, 0n, BigInt(TASK_SIZE), 2n ** 63n, 2n ** 64n - 1n])('is EFAULT at %i', (addr) => {
    const { mm } = setUp();
    expect(() => mm.copyTo(addr, Uint8Array.of(1))).toThrow(errno('EFAULT'));
    expect(() => mm.copyFrom(addr, 1)).toThrow(errno('EFAULT'));
  });
});

describe('AddressSpace.userBuffer', () => {
  it('is the memory in place when that is contiguous', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 2 * PAGE_SIZE, prot: RW });
    const buffer = mm.userBuffer(addr + 8n, 2 * PAGE_SIZE - 8, 'write');
    expect(buffer.bytes.length).toBe(buffer.length);
    buffer.bytes[PAGE_SIZE] = 9;
    expect([...mm.copyFrom(addr + 8n + PAGE, 1)]).toEqual([9]);
  });

  it('ends where the memory ends', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    const buffer = mm.userBuffer(addr + PAGE - 3n, 8, 'write');
    expect([buffer.length, buffer.bytes.length]).toEqual([8, 3]);
    expect(mm.userBuffer(addr + PAGE, 8, 'read').bytes.length).toBe(0);
  });

  it('gathers memory in pieces, and writes the part that was filled', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 3 * MIB, prot: RW }); // two blocks
    const split = addr + BigInt(HUGE_PAGE_SIZE);
    mm.copyTo(split - 4n, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect([...mm.userBuffer(split - 4n, 8, 'read').bytes]).toEqual([1, 2, 3, 4, 5, 6, 7, 8]);
    const buffer = mm.userBuffer(split - 4n, 8, 'write');
    buffer.bytes.fill(9);
    buffer.commit(6);
    expect([...mm.copyFrom(split - 4n, 8)]).toEqual([9, 9, 9, 9, 9, 9, 7, 8]);
  });

  it('gathers up to the first byte that cannot be accessed', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 3 * PAGE_SIZE, prot: RW });
    mm.mprotect(addr + PAGE, PAGE_SIZE, RW); // a piece of its own
    mm.mprotect(addr + 2n * PAGE, PAGE_SIZE, Prot.READ);
    expect(mm.userBuffer(addr, 3 * PAGE_SIZE, 'write').bytes.length).toBe(2 * PAGE_SIZE);
    expect(mm.userBuffer(addr, 3 * PAGE_SIZE, 'read').bytes.length).toBe(3 * PAGE_SIZE);
  });

  it('is EFAULT for a range that leaves user space', () => {
    expect(() => setUp().mm.userBuffer(BigInt(TASK_SIZE) - 4n, 8, 'read')).toThrow(errno('EFAULT'));
  });
});

describe('AddressSpace.load and store', () => {
  const fault = (signal: string, address: bigint) =>
    expect.objectContaining({ name: 'SegmentationFault', signal, address });

  it.each([
    ['little', 0x0807_0605_0403_0201n],
    ['big', 0x0102_0304_0506_0708n],
  ] as const)('are in the byte order of the process: %s', (order, expected) => {
    const { host, memory } = createLab();
    const mm = new AddressSpace(host, memory, order);
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    mm.copyTo(addr, Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8));
    expect(mm.load(addr, 8)).toBe(expected);
    mm.store(addr + 16n, 4, 0x1122_3344n);
    expect([...mm.copyFrom(addr + 16n, 4)]).toEqual(
      order === 'little' ? [0x44, 0x33, 0x22, 0x11] : [0x11, 0x22, 0x33, 0x44],
    );
  });

  it('cut a value to the width', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    mm.store(addr, 2, -1n);
    expect(mm.load(addr, 4)).toBe(0xffffn);
  });

  it('raise SIGSEGV where nothing is mapped, or not for that', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: Prot.READ });
    expect(() => mm.load(0n, 4)).toThrow(fault('SIGSEGV', 0n));
    expect(() => mm.load(2n ** 63n, 4)).toThrow(fault('SIGSEGV', 2n ** 63n));
    expect(() => mm.store(addr, 4, 1n)).toThrow(fault('SIGSEGV', addr));
    expect(() => mm.load(addr + PAGE - 2n, 4)).toThrow(fault('SIGSEGV', addr + PAGE));
    mm.mprotect(addr, PAGE_SIZE, Prot.NONE);
    expect(() => mm.load(addr, 4)).toThrow(fault('SIGSEGV', addr));
  });

  it('read what can only be written, as x86 does', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: Prot.WRITE });
    mm.store(addr, 1, 5n);
    expect(mm.load(addr, 1)).toBe(5n);
  });

  it('store all or nothing over a border', () => {
    const { mm } = setUp();
    const addr = mm.mmap({ length: 2 * PAGE_SIZE, prot: RW });
    mm.mprotect(addr + PAGE, PAGE_SIZE, Prot.READ);
    expect(() => mm.store(addr + PAGE - 1n, 2, 0xffffn)).toThrow(fault('SIGSEGV', addr + PAGE));
    expect(mm.load(addr + PAGE - 1n, 2)).toBe(0n);
    mm.mprotect(addr + PAGE, PAGE_SIZE, RW);
    mm.store(addr + PAGE - 1n, 2, 0xabcdn);
    expect(mm.load(addr + PAGE - 1n, 2)).toBe(0xabcdn);
  });
});

describe('AddressSpace.withBytes', () => {
  it('maps bytes in place, and nothing after them', () => {
    const { mm } = setUp();
    const bytes = Uint8Array.of(1, 2, 3, 4);
    let used = 0n;
    const result = mm.withBytes(bytes, (addr) => {
      used = addr;
      expect([...mm.copyFrom(addr + 1n, 3)]).toEqual([2, 3, 4]);
      expect(() => mm.copyFrom(addr, 5)).toThrow(errno('EFAULT'));
      expect(mm.userBuffer(addr, 8, 'read').bytes).toHaveLength(4);
      mm.copyTo(addr + 2n, Uint8Array.of(9));
      return 'done';
    });
    expect(result).toBe('done');
    expect([...bytes]).toEqual([1, 2, 9, 4]);
    expect(() => mm.copyFrom(used, 1)).toThrow(errno('EFAULT'));
  });

  it('keeps them until a promise is settled, beside those of other calls', async () => {
    const { mm } = setUp();
    let go = () => {};
    const wait = new Promise<void>((resolve) => {
      go = resolve;
    });
    const first = mm.withBytes(Uint8Array.of(1), async (addr) => {
      await wait;
      return mm.copyFrom(addr, 1);
    });
    const second = mm.withBytes(Uint8Array.of(2), (addr) => {
      expect([...mm.copyFrom(addr, 1)]).toEqual([2]);
      return addr;
    });
    go();
    expect([...(await first)]).toEqual([1]);
    expect(() => mm.copyFrom(second, 1)).toThrow(errno('EFAULT'));
  });

  it('unmaps them when the call throws', () => {
    const { mm } = setUp();
    let used = 0n;
    const call = () =>
      mm.withBytes(Uint8Array.of(1), (addr) => {
        used = addr;
        throw new RangeError('no');
      });
    expect(call).toThrow('no');
    expect(() => mm.copyFrom(used, 1)).toThrow(errno('EFAULT'));
  });

  it('has an address for no bytes at all', () => {
    const { mm } = setUp();
    mm.withBytes(new Uint8Array(0), (addr) => {
      expect(addr).not.toBe(0n);
      expect(() => mm.copyFrom(addr, 1)).toThrow(errno('EFAULT'));
    });
  });
});

describe('AddressSpace.accountLocked', () => {
  it('charges up to the limit, and nothing beyond it', () => {
    const { mm } = setUp();
    mm.accountLocked(10, 16);
    expect(() => mm.accountLocked(7, 16)).toThrow(errno('ENOMEM'));
    expect(mm.lockedVm).toBe(10);
    mm.accountLocked(6, 16);
    mm.accountLocked(100, undefined);
    mm.accountLocked(-116, 0);
    expect(mm.lockedVm).toBe(0);
  });
});

describe('AddressSpace.fork', () => {
  it('copies private memory and shares shared memory', () => {
    const { mm } = setUp();
    const own = mm.mmap({ length: 3 * MIB, prot: RW });
    const shared = mm.mmap({ length: PAGE_SIZE, prot: RW, shared: true });
    mm.copyTo(own + 5n, Uint8Array.of(1));
    const child = mm.fork();
    mm.copyTo(own + 5n, Uint8Array.of(2));
    mm.copyTo(shared, Uint8Array.of(3));
    expect([...child.copyFrom(own + 5n, 1), ...child.copyFrom(shared, 1)]).toEqual([1, 3]);
    child.exit();
    expect([...mm.copyFrom(own + 5n, 1)]).toEqual([2]);
  });

  it('leaves the pinned frames to the parent', () => {
    const { mm, memory } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    const [run] = mm.pinPages(addr, 1, true);
    const child = mm.fork();
    memory.write(run!.pfn * PAGE_SIZE, Uint8Array.of(7));
    expect([...mm.copyFrom(addr, 1), ...child.copyFrom(addr, 1)]).toEqual([7, 0]);
    run!.unpin();
  });

  it('starts a child without locked pages', () => {
    const { mm } = setUp();
    mm.accountLocked(3, undefined);
    expect(mm.fork().lockedVm).toBe(0);
  });

  it('leaves nothing behind when memory runs out', () => {
    const { host, mm } = setUp();
    mm.mmap({ length: PAGE_SIZE, prot: RW, shared: true });
    mm.mmap({ length: PAGE_SIZE, prot: RW });
    mm.mmap({ length: PAGE_SIZE, prot: RW });
    host.faults.failOn('dup_mmap:private memory', 2);
    expect(() => mm.fork()).toThrow(errno('ENOMEM'));
    mm.exit();
    expect(host.tracker.leaks()).toEqual([]);
  });
});

describe('AddressSpace.exit', () => {
  it('ends all access', () => {
    const { host, mm } = setUp();
    const addr = mm.mmap({ length: PAGE_SIZE, prot: RW });
    mm.exit();
    expect(mm.alive).toBe(false);
    expect(() => mm.copyFrom(addr, 1)).toThrow(errno('EFAULT'));
    expect(() => mm.pinPages(addr, 1, false)).toThrow(errno('EFAULT'));
    expect(() => mm.mmap({ length: PAGE_SIZE, prot: RW })).toThrow(errno('ENOMEM'));
    expect(host.tracker.leaks()).toEqual([]);
  });
});
