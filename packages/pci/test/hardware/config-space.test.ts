import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PciWidth } from '../../src/bus/function.js';
import { ConfigSpace } from '../../src/hardware/config-space.js';

/** The same, bit by bit. */
class NaiveBits {
  readonly value: boolean[] = new Array<boolean>(2048).fill(false);
  readonly initial: boolean[] = new Array<boolean>(2048).fill(false);
  readonly kind: ('fixed' | 'writable' | 'clearable')[] = new Array<'fixed'>(2048).fill('fixed');
  readonly sticky: boolean[] = new Array<boolean>(2048).fill(false);

  write(offset: number, width: PciWidth, value: number): void {
    for (let bit = 0; bit < 8 * width; bit++) {
      const one = ((value >>> bit) & 1) === 1;
      const at = 8 * offset + bit;
      if (this.kind[at] === 'writable') this.value[at] = one;
      else if (this.kind[at] === 'clearable' && one) this.value[at] = false;
    }
  }

  read(offset: number, width: PciWidth): number {
    let value = 0;
    for (let bit = 0; bit < 8 * width; bit++) if (this.value[8 * offset + bit]) value += 2 ** bit;
    return value;
  }

  reset(): void {
    for (let at = 0; at < 2048; at++) if (!this.sticky[at]) this.value[at] = this.initial[at] ?? false;
  }
}

const width = fc.constantFrom<PciWidth>(1, 2, 4);
const place = fc.record({ width, at: fc.nat(255) }).map((p) => ({ ...p, at: p.at & ~(p.width - 1) }));
const dword = fc.nat(0xffff_ffff);
const action = fc.oneof(
  fc.record({ do: fc.constant('write' as const), place, value: dword }),
  fc.record({ do: fc.constant('put' as const), place, value: dword }),
  fc.record({ do: fc.constant('reset' as const), place, value: dword }),
);

describe('ConfigSpace', () => {
  it('does with each bit what its kind says, whatever is written in whatever width', () => {
    const kinds = fc.array(fc.record({ initial: dword, writable: dword, clearable: dword, sticky: dword }), {
      minLength: 64,
      maxLength: 64,
    });
    fc.assert(
      fc.property(kinds, fc.array(action, { maxLength: 40 }), (registers, actions) => {
        const config = new ConfigSpace(256);
        const naive = new NaiveBits();
        for (const [index, { initial, writable, clearable, sticky }] of registers.entries()) {
          config.set(4 * index, 4, initial);
          config.allow(4 * index, 4, writable);
          config.clearOnOne(4 * index, 4, clearable);
          config.keep(4 * index, 4, sticky);
          for (let bit = 0; bit < 32; bit++) {
            const at = 32 * index + bit;
            const has = (mask: number) => ((mask >>> bit) & 1) === 1;
            naive.value[at] = naive.initial[at] = has(initial);
            naive.kind[at] = has(clearable) ? 'clearable' : has(writable) ? 'writable' : 'fixed';
            naive.sticky[at] = has(sticky);
          }
        }
        for (const step of actions) {
          const { at, width: bytes } = step.place;
          if (step.do === 'write') {
            config.write(at, bytes, step.value);
            naive.write(at, bytes, step.value);
          } else if (step.do === 'put') {
            config.put(at, bytes, step.value);
            for (let bit = 0; bit < 8 * bytes; bit++) naive.value[8 * at + bit] = ((step.value >>> bit) & 1) === 1;
          } else {
            config.reset();
            naive.reset();
          }
          expect(config.read(at, bytes)).toBe(naive.read(at, bytes));
        }
        for (let at = 0; at < 256; at += 4) expect(config.read(at, 4)).toBe(naive.read(at, 4));
      }),
    );
  });

  it('tells hooks what was there, and which bytes were written', () => {
    const config = new ConfigSpace(256);
    const seen: number[][] = [];
    config.set(0x40, 4, 0x1111_2222);
    config.allow(0x40, 4, 0xffff_ffff);
    config.hook(0x42, { written: (...args) => seen.push(args) });
    config.write(0x42, 2, 0xabcd_3333);
    config.write(0x41, 1, 0x44);
    config.write(0x44, 4, 1);
    expect(seen).toEqual([
      [0x1111_2222, 0xffff_0000, 0x3333_0000],
      [0x3333_2222, 0x0000_ff00, 0x0000_4400],
    ]);
  });

  it('asks hooks before it reads', () => {
    const config = new ConfigSpace(256);
    let reads = 0;
    config.hook(0x40, { read: () => config.put(0x40, 4, ++reads) });
    expect([config.read(0x40, 1), config.read(0x40, 4), config.read(0x44, 4)]).toEqual([1, 2, 0]);
    expect(reads).toBe(2);
  });

  it('is all ones behind its end, where writes are lost', () => {
    const config = new ConfigSpace(256);
    config.write(0x100, 4, 0);
    expect([config.read(0x100, 4), config.read(0x100, 2), config.read(0x400, 1)]).toEqual([0xffff_ffff, 0xffff, 0xff]);
  });
});
