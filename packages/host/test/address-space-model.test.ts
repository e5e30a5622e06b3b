import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { AddressSpace, isSystemError, PAGE_SIZE, Prot, SegmentationFault } from '../src/index.js';
import { createLab } from './process-lab.js';

const PAGES = 24;
const BASE = 0x1000_0000n;

/** Memory as a list of pages, each by itself. */
class NaiveMemory {
  readonly pages: ({ prot: number; bytes: Uint8Array } | undefined)[] = Array(PAGES).fill(undefined);

  map(first: number, count: number, prot: number): void {
    for (let i = first; i < first + count; i++) this.pages[i] = { prot, bytes: new Uint8Array(PAGE_SIZE) };
  }

  unmap(first: number, count: number): void {
    this.pages.fill(undefined, first, first + count);
  }

  /** Changes pages up to the first hole. */
  protect(first: number, count: number, prot: number): boolean {
    for (let i = first; i < first + count; i++) {
      const page = this.pages[i];
      if (page === undefined) return false;
      page.prot = prot;
    }
    return true;
  }

  /** Bytes up to the first that cannot be read. */
  read(offset: number, length: number): Uint8Array {
    const parts: Uint8Array[] = [];
    for (let at = offset; at < offset + length; ) {
      const page = this.pages[Math.floor(at / PAGE_SIZE)];
      if (page === undefined || page.prot === Prot.NONE) break;
      const part = page.bytes.subarray(at % PAGE_SIZE, Math.min(PAGE_SIZE, (at % PAGE_SIZE) + offset + length - at));
      parts.push(part);
      at += part.length;
    }
    return Buffer.concat(parts);
  }

  /** Writes up to the first byte that cannot be written; how many. */
  write(offset: number, bytes: Uint8Array): number {
    for (let i = 0; i < bytes.length; i++) {
      const page = this.pages[Math.floor((offset + i) / PAGE_SIZE)];
      if (page === undefined || (page.prot & Prot.WRITE) === 0) return i;
      page.bytes[(offset + i) % PAGE_SIZE] = bytes[i]!;
    }
    return bytes.length;
  }

  clone(): NaiveMemory {
    const copy = new NaiveMemory();
    this.pages.forEach((page, i) => {
      copy.pages[i] = page && { prot: page.prot, bytes: page.bytes.slice() };
    });
    return copy;
  }
}

type Step =
  | { op: 'map' | 'protect'; first: number; count: number; prot: number }
  | { op: 'unmap'; first: number; count: number }
  | { op: 'write' | 'store'; offset: number; bytes: Uint8Array }
  | { op: 'read'; offset: number; length: number }
  | { op: 'fork' };

const range = fc
  .record({ first: fc.nat(PAGES - 1), count: fc.integer({ min: 1, max: 8 }) })
  .map(({ first, count }) => ({ first, count: Math.min(count, PAGES - first) }));
const prot = fc.constantFrom(Prot.NONE, Prot.READ, Prot.READ | Prot.WRITE, Prot.WRITE);
const offset = fc
  .tuple(fc.nat(PAGES - 2), fc.integer({ min: -9, max: 9 }))
  .map(([page, delta]) => (page + 1) * PAGE_SIZE + delta);
const step: fc.Arbitrary<Step> = fc.oneof(
  fc.tuple(range, prot).map(([at, p]) => ({ op: 'map', ...at, prot: p }) as const),
  fc.tuple(range, prot).map(([at, p]) => ({ op: 'protect', ...at, prot: p }) as const),
  range.map((at) => ({ op: 'unmap', ...at }) as const),
  fc
    .tuple(offset, fc.uint8Array({ minLength: 1, maxLength: 40 }))
    .map(([o, bytes]) => ({ op: 'write', offset: o, bytes }) as const),
  fc
    .tuple(offset, fc.uint8Array({ minLength: 8, maxLength: 8 }))
    .map(([o, bytes]) => ({ op: 'store', offset: o, bytes }) as const),
  fc
    .tuple(offset, fc.integer({ min: 1, max: 2 * PAGE_SIZE }))
    .map(([o, length]) => ({ op: 'read', offset: o, length }) as const),
  fc.constant({ op: 'fork' } as const),
);

const addressOf = (page: number): bigint => BASE + BigInt(page * PAGE_SIZE);

function fails(code: string, fn: () => void): boolean {
  try {
    fn();
    return false;
  } catch (error) {
    if (error instanceof SegmentationFault ? error.signal === code : isSystemError(error) && error.code === code)
      return true;
    throw error;
  }
}

function compare(mm: AddressSpace, model: NaiveMemory, at: number, length: number): void {
  const cut = Math.min(length, PAGES * PAGE_SIZE - at);
  const expected = model.read(at, cut);
  const buffer = mm.userBuffer(BASE + BigInt(at), cut, 'read');
  expect(buffer.bytes.length).toBe(expected.length);
  expect(Buffer.compare(buffer.bytes, expected)).toBe(0);
  expect(fails('EFAULT', () => mm.copyFrom(BASE + BigInt(at), cut))).toBe(expected.length < cut);
}

function run(mm: AddressSpace, model: NaiveMemory, action: Step): void {
  switch (action.op) {
    case 'map':
      mm.mmap({ addr: addressOf(action.first), length: action.count * PAGE_SIZE, prot: action.prot, fixed: true });
      model.map(action.first, action.count, action.prot);
      break;
    case 'unmap':
      mm.munmap(addressOf(action.first), action.count * PAGE_SIZE);
      model.unmap(action.first, action.count);
      break;
    case 'protect': {
      const whole = model.protect(action.first, action.count, action.prot);
      const protect = () => mm.mprotect(addressOf(action.first), action.count * PAGE_SIZE, action.prot);
      expect(fails('ENOMEM', protect)).toBe(!whole);
      break;
    }
    case 'write': {
      const written = model.write(action.offset, action.bytes);
      const write = () => mm.copyTo(BASE + BigInt(action.offset), action.bytes);
      expect(fails('EFAULT', write)).toBe(written < action.bytes.length);
      break;
    }
    case 'store': {
      // A store happens as a whole or not at all.
      const whole = model.clone().write(action.offset, action.bytes) === 8;
      if (whole) model.write(action.offset, action.bytes);
      const value = new DataView(action.bytes.buffer, action.bytes.byteOffset).getBigUint64(0, true);
      expect(fails('SIGSEGV', () => mm.store(BASE + BigInt(action.offset), 8, value))).toBe(!whole);
      break;
    }
    case 'read':
      compare(mm, model, action.offset, action.length);
      break;
    case 'fork':
      break;
  }
}

describe('AddressSpace', () => {
  it('agrees with memory that is a list of pages', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 5, maxLength: 60 }), (steps) => {
        const { host, memory } = createLab();
        const spaces: [AddressSpace, NaiveMemory][] = [[new AddressSpace(host, memory), new NaiveMemory()]];
        for (const action of steps) {
          const [mm, model] = spaces.at(-1)!;
          // From here on the child is used; that the parent stays as it was shows in the end.
          if (action.op === 'fork') spaces.push([mm.fork(), model.clone()]);
          else run(mm, model, action);
        }
        for (const [mm, model] of spaces) {
          for (let page = 0; page < PAGES; page++) compare(mm, model, page * PAGE_SIZE, PAGE_SIZE);
          const mapped = model.pages.filter((page) => page !== undefined).length;
          expect(mm.size).toBe(mapped * PAGE_SIZE);
        }
        for (const [mm] of spaces) mm.exit();
        expect(host.tracker.leaks()).toEqual([]);
      }),
      { numRuns: 300 },
    );
  });
});
