import { UserBuffer, userBuffer } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { type AccessTarget, readInSteps, writeInSteps } from '../src/common/access.js';
import { Lab } from './lab.js';

const fault = expect.objectContaining({ code: 'EFAULT' });

/** Memory that writes down how it is accessed, and ends at a position. */
class Memory implements AccessTarget {
  readonly bytes = Uint8Array.from({ length: 64 }, (_, i) => i + 1);
  readonly accesses: string[] = [];
  readonly end: number;

  constructor(end = 64) {
    this.end = end;
  }

  readAccess(position: number, width: number): number | undefined {
    this.accesses.push(`r${width}@${position}`);
    if (position + width > this.end) return undefined;
    let value = 0;
    for (let i = 0; i < width; i++) value += this.bytes[position + i]! * 2 ** (8 * i);
    return value;
  }

  writeAccess(position: number, width: number, value: number): boolean {
    this.accesses.push(`w${width}@${position}=${value.toString(16)}`);
    if (position + width > this.end) return false;
    for (let i = 0; i < width; i++) this.bytes[position + i] = Math.floor(value / 2 ** (8 * i));
    return true;
  }
}

describe('steps', () => {
  it('MTTY-017 seven bytes from 1 on are one, two and four', async () => {
    const memory = new Memory();
    expect(readInSteps(memory, userBuffer(new Uint8Array(7)), 1)).toBe(7);
    expect(memory.accesses).toEqual(['r1@1', 'r2@2', 'r4@4']);

    await using lab = await Lab.create();
    const card = await lab.card();
    expect(Buffer.from(await card.read(7, 1, 7)).toString('hex')).toBe('43533201000002');
  });

  it('are as wide as position and rest allow, and little-endian', () => {
    const memory = new Memory();
    const bytes = Uint8Array.of(0x11, 0x22, 0x33, 0x84, 0x55, 0x66, 0x77, 0x88, 0x99);
    expect(writeInSteps(memory, userBuffer(bytes), 6)).toBe(9);
    expect(memory.accesses).toEqual(['w2@6=2211', 'w4@8=66558433', 'w2@12=8877', 'w1@14=99']);
    expect(memory.bytes.slice(6, 15)).toEqual(bytes);
  });

  it('of nothing are none', () => {
    const memory = new Memory();
    expect(readInSteps(memory, userBuffer(new Uint8Array(0)), 3)).toBe(0);
    expect(memory.accesses).toEqual([]);
  });

  it('cover every range once, aligned, and move the bytes', () => {
    fc.assert(
      fc.property(fc.integer({ min: 0, max: 31 }), fc.integer({ min: 0, max: 32 }), (position, length) => {
        const memory = new Memory();
        const buffer = new Uint8Array(length);
        expect(readInSteps(memory, userBuffer(buffer), position)).toBe(length);
        expect(buffer).toEqual(memory.bytes.slice(position, position + length));
        let at = position;
        for (const access of memory.accesses) {
          const [, width, start] = /^r(\d)@(\d+)$/.exec(access)!.map(Number);
          expect([start, start! % width!]).toEqual([at, 0]);
          at += width!;
        }
        expect(at).toBe(position + length);
      }),
    );
  });
});

describe('failures', () => {
  it('of a step are EFAULT, with the steps before it done', () => {
    const memory = new Memory(10);
    expect(() => writeInSteps(memory, userBuffer(new Uint8Array(8)), 6)).toThrow(fault);
    expect(memory.bytes.slice(5, 11)).toEqual(Uint8Array.of(6, 0, 0, 9, 10, 11));
    const buffer = new Uint8Array(8);
    expect(() => readInSteps(memory, userBuffer(buffer), 4)).toThrow(fault);
    expect([...buffer]).toEqual([5, 6, 0, 0, 0, 0, 0, 0]);
  });

  it('of the memory of the caller are EFAULT: a read happened, a write did not', () => {
    const memory = new Memory();
    const bytes = new Uint8Array(6);
    expect(() => readInSteps(memory, new UserBuffer(8, bytes), 0)).toThrow(fault);
    expect(memory.accesses).toEqual(['r4@0', 'r4@4']);
    expect([...bytes]).toEqual([1, 2, 3, 4, 5, 6]); // up to the fault
    memory.accesses.length = 0;
    expect(() => writeInSteps(memory, new UserBuffer(8, bytes), 0)).toThrow(fault);
    expect(memory.accesses).toEqual(['w4@0=4030201']);
  });
});
