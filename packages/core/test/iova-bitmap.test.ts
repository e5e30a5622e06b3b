import { type ByteOrder, Host, IoctlCall, KernelBug, Prot, SystemError, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { IovaBitmap } from '../src/iova-bitmap.js';

/** Memory of a caller from `base` on; pages in `broken` are not writable. Counts the calls, and the bytes that are read. */
class Memory {
  readonly base = 0x10_0000n;
  readonly bytes: Uint8Array;
  readonly order: ByteOrder;
  readonly broken = new Set<number>();
  read = 0;
  calls = 0;

  constructor(length: number, order: ByteOrder = 'little') {
    this.bytes = new Uint8Array(length);
    this.order = order;
  }

  copyInAt(address: bigint, length: number): Uint8Array {
    const at = this.#at(address, length);
    this.read += length;
    return this.bytes.slice(at, at + length);
  }

  copyOutAt(address: bigint, bytes: Uint8Array): void {
    this.bytes.set(bytes, this.#at(address, bytes.length));
  }

  #at(address: bigint, length: number): number {
    this.calls++;
    const at = Number(address - this.base);
    if (at < 0 || at + length > this.bytes.length) throw new SystemError('EFAULT', 'not mapped');
    for (const page of this.broken) {
      if (at < (page + 1) * 4096 && at + length > page * 4096) throw new SystemError('EFAULT', 'not writable');
    }
    return at;
  }

  bitmap(iova: bigint, length: bigint, pageSize = 4096n, offset = 0n): IovaBitmap {
    return new IovaBitmap(this, { iova, length, pageSize, address: this.base + offset });
  }

  /** Numbers of the bits that are set, in words of the caller's byte order. */
  bits(words = Math.floor(this.bytes.length / 8)): number[] {
    const view = new DataView(this.bytes.buffer);
    const found: number[] = [];
    for (let word = 0; word < words; word++) {
      const value = view.getBigUint64(word * 8, this.order === 'little');
      for (let bit = 0; bit < 64; bit++) if ((value >> BigInt(bit)) & 1n) found.push(word * 64 + bit);
    }
    return found;
  }
}

function count(from: number, to: number): number[] {
  return Array.from({ length: to - from }, (_, i) => from + i);
}

const GiB = 1n << 30n;

describe('IovaBitmap', () => {
  it('sets the bit of every page that a range touches', () => {
    const memory = new Memory(64);
    const bitmap = memory.bitmap(0x10_0000n, 512n * 4096n);
    bitmap.set(0x10_0000n, 1n);
    bitmap.set(0x10_2fffn, 2n);
    bitmap.set(0x10_8000n, 0x2000n);
    bitmap.flush();
    expect(memory.bits()).toEqual([0, 2, 3, 8, 9]);
  });

  it('only sets bits: those that the caller had stay', () => {
    const memory = new Memory(16);
    memory.bytes.fill(0xa5);
    const before = memory.bits();
    const bitmap = memory.bitmap(0n, 128n * 4096n);
    bitmap.set(4096n, 4096n);
    bitmap.flush();
    expect(memory.bits()).toEqual([...before, 1].sort((a, b) => a - b));
  });

  it('counts in pages of the size asked for', () => {
    const memory = new Memory(8);
    const bitmap = memory.bitmap(0n, 64n << 21n, 1n << 21n);
    bitmap.set(3n << 21n, 1n);
    bitmap.flush();
    expect(memory.bits()).toEqual([3]);
  });

  it('writes words of the caller in its byte order', () => {
    const memory = new Memory(16, 'big');
    const bitmap = memory.bitmap(0n, 128n * 4096n);
    bitmap.set(0n, 4096n);
    bitmap.set(64n * 4096n, 9n * 4096n);
    bitmap.flush();
    expect([...memory.bytes]).toEqual([0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 1, 0xff]);
  });

  it('leaves out what is past the end, and all of a range that begins outside', () => {
    const memory = new Memory(16);
    const bitmap = memory.bitmap(0x1000n, 10n * 4096n);
    bitmap.set(0xa000n, 100n * 4096n);
    bitmap.set(0n, 0x3000n);
    bitmap.set(0xb000n, 4096n);
    bitmap.set(0x2000n, 0n);
    bitmap.flush();
    expect(memory.bits()).toEqual([9]);
  });

  it('touches no byte past the last that has a bit', () => {
    const memory = new Memory(3);
    const bitmap = memory.bitmap(0n, 20n * 4096n);
    bitmap.set(0n, 20n * 4096n);
    bitmap.flush();
    expect([...memory.bytes]).toEqual([0xff, 0xff, 0x0f]);
  });

  it('works from an address that is not aligned', () => {
    const memory = new Memory(16);
    const bitmap = memory.bitmap(0n, 64n * 4096n, 4096n, 3n);
    bitmap.set(0n, 2n * 4096n);
    bitmap.flush();
    expect(memory.bytes[3]).toBe(3);
  });

  it('writes nothing before it must, and once at the end', () => {
    const memory = new Memory(4096);
    const bitmap = memory.bitmap(0n, 32768n * 4096n);
    bitmap.set(4096n, 4096n);
    expect(memory.bits()).toEqual([]);
    bitmap.flush();
    memory.bytes.fill(0);
    bitmap.flush();
    expect(memory.bits()).toEqual([]);
  });

  it('merges with what the caller wrote since the bit was collected', () => {
    const memory = new Memory(8);
    const bitmap = memory.bitmap(0n, 64n * 4096n);
    bitmap.set(0n, 4096n);
    memory.bytes[0] = 0x80;
    bitmap.flush();
    expect(memory.bits()).toEqual([0, 7]);
  });

  it('reports 64 GiB of dirty 4 KiB pages without reading the bitmap', () => {
    const memory = new Memory(2 << 20);
    const bitmap = memory.bitmap(0n, 64n * GiB);
    bitmap.set(0n, 64n * GiB);
    bitmap.flush();
    expect(memory.bytes.every((byte) => byte === 0xff)).toBe(true);
    expect(memory.read).toBe(0);
  });

  it('reaches to the end of the address space', () => {
    const memory = new Memory(8);
    const bitmap = memory.bitmap((1n << 64n) - 64n * 4096n, 64n * 4096n);
    bitmap.set((1n << 64n) - 4096n, 4096n);
    bitmap.flush();
    expect(memory.bits()).toEqual([63]);
  });

  it('reports a page of the bitmap that is not writable at flush, and writes nothing from there on', () => {
    const memory = new Memory(4 * 4096);
    memory.broken.add(1);
    const bitmap = memory.bitmap(0n, 4n * 32768n * 4096n);
    for (const page of [0n, 1n, 2n, 3n]) bitmap.set(page * 32768n * 4096n, 4096n);
    expect(() => bitmap.flush()).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(memory.bits()).toEqual([0]);
    // the next report starts afresh, with nothing of the one before
    bitmap.set(3n * 32768n * 4096n, 4096n);
    expect(() => bitmap.flush()).not.toThrow();
    expect(memory.bits()).toEqual([0, 3 * 32768]);
  });

  it('reports a run of whole pages that is not writable', () => {
    const memory = new Memory(4096);
    const bitmap = memory.bitmap(0n, 2n * 32768n * 4096n);
    bitmap.set(0n, 2n * 32768n * 4096n);
    expect(() => bitmap.flush()).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });

  it('tries a bitmap that is not there once, however much it should cover', () => {
    const memory = new Memory(0);
    const bitmap = memory.bitmap(0n, 1n << 63n);
    // 2^31 blocks of ones, unless the first failure ends it
    bitmap.set(0n, 1n << 63n);
    expect(memory.calls).toBe(1);
    for (let at = 0n; at < 1n << 63n; at += 1n << 53n) bitmap.set(at + 4096n, 1n << 50n);
    for (let page = 0n; page < 100n; page++) bitmap.set(page * 32768n * 4096n, 4096n);
    expect(() => bitmap.flush()).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(memory.calls).toBe(1);
  });

  it('tries it once also when single bits are collected for it', () => {
    const memory = new Memory(0);
    const bitmap = memory.bitmap(0n, 1n << 63n);
    for (let page = 0n; page < 100n; page++) bitmap.set(page * 32768n * 4096n, 4096n);
    bitmap.set(0n, 1n << 63n);
    expect(() => bitmap.flush()).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(memory.calls).toBe(1);
  });

  it('writes into the memory of a process, as far as that may be written', async () => {
    await using host = new Host({ clock: new VirtualClock(), checked: true });
    const process = host.spawn();
    const address = process.mm.mmap({ length: 3 * 4096, prot: Prot.READ | Prot.WRITE });
    process.mm.store(address, 8, 1n << 63n);
    process.mm.mprotect(address + 4096n, 4096, Prot.READ);
    const call = new IoctlCall(process, 0, 0n);
    const bitmap = new IovaBitmap(call, { iova: 0n, length: 3n * 32768n * 4096n, pageSize: 4096n, address });
    bitmap.set(0n, 4096n);
    bitmap.set(2n * 32768n * 4096n, 64n * 4096n);
    bitmap.flush();
    bitmap.set(32768n * 4096n, 4096n);
    expect(() => bitmap.flush()).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(process.mm.load(address, 8)).toBe((1n << 63n) | 1n);
    expect(process.mm.load(address + 4096n, 8)).toBe(0n);
    expect(process.mm.load(address + 8192n, 8)).toBe((1n << 64n) - 1n);
  });

  it('lets anything but a system error through', () => {
    const memory = new Memory(8);
    memory.copyOutAt = () => {
      throw new KernelBug('use-after-free', 'the process is gone');
    };
    const bitmap = memory.bitmap(0n, 64n * 4096n);
    bitmap.set(0n, 4096n);
    expect(() => bitmap.flush()).toThrow(KernelBug);
  });

  it('refuses a page size that is no power of two', () => {
    for (const pageSize of [0n, 6144n]) expect(() => new Memory(8).bitmap(0n, 4096n, pageSize)).toThrow(RangeError);
  });

  it('agrees with setting one bit at a time', () => {
    const pages = 3 * 32768;
    const spans = fc.array(
      fc.tuple(
        fc.integer({ min: 0, max: pages - 1 }),
        fc.oneof(fc.integer({ min: 1, max: 200 }), fc.integer({ min: 1, max: pages })),
      ),
      { maxLength: 12 },
    );
    fc.assert(
      fc.property(fc.constantFrom<ByteOrder>('little', 'big'), spans, (order, given) => {
        const memory = new Memory(pages / 8, order);
        const bitmap = memory.bitmap(0n, BigInt(pages) * 4096n);
        const naive = new Uint8Array(pages);
        for (const [first, length] of given) {
          bitmap.set(BigInt(first) * 4096n, BigInt(length) * 4096n);
          naive.fill(1, first, Math.min(pages, first + length));
        }
        bitmap.flush();
        const expected = count(0, pages).filter((page) => naive[page] === 1);
        // a plain comparison: printing a difference of this size would take longer than the test
        expect(memory.bits().join() === expected.join()).toBe(true);
      }),
      { numRuns: 25 },
    );
  });
});
