/*
 * Config space against a model that knows nothing of cycles, tables by byte or what happens beside a write: each register is a
 * row of the specification, and each bit is looked at on its own. Reads and writes of any length at any place must agree with it.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Af, CapId, Command, Exp, ExpType, ExtCapId, Msi, Pm, Reg } from '../../src/bus/regs.js';
import type { FakeCap } from '../bus/fake-function.js';
import { expCap, LabFunction, pmCap } from '../bus/service-lab.js';
import { ConfigLab } from './config-lab.js';
import { CONFIG } from './core-lab.js';

const SIZE = 0x1000;
const BAR0 = Reg.BASE_ADDRESS_0;
const ALL = 0xffff_ffff;

/** Offset, bytes, virtual bits, writable bits. */
type Row = readonly [number, number, number, number];

// biome-ignore format: a table reads in columns
const header: readonly Row[] = [
  [0x00, 4, ALL, 0],
  [0x04, 2, 0x0400, ALL],
  [0x06, 2, 0x0010, 0],
  [0x0c, 2, 0, ALL],
  [0x0f, 1, 0, ALL],
  ...[0, 1, 2, 3, 4, 5].map((bar): Row => [BAR0 + 4 * bar, 4, ALL, ALL]),
  [0x30, 4, ALL, ALL],
  [0x34, 1, ALL, 0],
  [0x3c, 1, ALL, ALL],
  [0x3d, 1, ALL, 0],
];

/** A capability of the model: how many bytes are its own, and the rows; all else in it can only be read. */
interface Known {
  readonly cap: FakeCap;
  readonly length: number;
  readonly rows: readonly Row[];
  /** Writes go to the hardware as they are: a vendor's, and what is hidden and so belongs to nobody. */
  readonly raw?: boolean;
}

const soft = (id: number, size: number, head: number, bytes: readonly number[] = []): FakeCap => ({
  id,
  bytes: Array.from({ length: size - head }, (_, at) => bytes[at] ?? 0),
});
const NEXT: Row = [1, 1, ALL, 0];
const EXT: Row = [0, 4, ALL, 0];
const { id: expId, bytes: expBytes } = expCap(ExpType.ENDPOINT, false);

// biome-ignore format: a table reads in columns
const caps: readonly Known[] = [
  { cap: pmCap({ keeps: true }), length: 8, rows: [NEXT, [2, 2, 0xf800, 0], [4, 4, 0x8100, ~0x8103]] },
  { cap: soft(CapId.SSVID, 8, 2), length: 8, rows: [], raw: true },
  {
    cap: soft(CapId.MSI, 24, 2, [0x88, 0x01]), length: 24,
    rows: [NEXT, [2, 1, ALL, ALL], [4, 4, ALL, ALL], [8, 4, ALL, ALL], [12, 2, ALL, ALL], [16, 4, 0, ALL], [20, 4, 0, ALL]],
  },
  { cap: soft(CapId.VNDR, 9, 2, [9, 1, 2, 3, 4, 5, 6]), length: 9, rows: [NEXT], raw: true },
  { cap: { id: expId, bytes: expBytes.slice(0, 0x32) }, length: 0x34, rows: [NEXT, [8, 2, 0xf0e0, ~0x0200], [0x28, 2, 0, ~0x20]] },
  { cap: soft(CapId.HT, 24, 2, [0, 0xe0]), length: 24, rows: [NEXT] },
  { cap: soft(CapId.AF, 6, 2, [6, 0]), length: 6, rows: [NEXT, [4, 1, 1, 1]] },
];
// biome-ignore format: a table reads in columns
const extCaps: readonly Known[] = [
  {
    cap: soft(ExtCapId.ERR, 0x2c, 4), length: 0x2c,
    rows: [
      EXT, [4, 4, 0, 0x03ff_f031], [8, 4, 0, 0x03ff_f031], [12, 4, 0, 0x03ff_f031],
      [16, 4, 0, 0xf1c1], [20, 4, 0, 0xf1c1], [24, 4, 0, 0x140],
    ],
  },
  { cap: soft(ExtCapId.PASID, 8, 4), length: 8, rows: [], raw: true },
  { cap: soft(ExtCapId.PWR, 16, 4), length: 16, rows: [EXT, [8, 1, 0, ALL]] },
  { cap: soft(ExtCapId.ARI, 8, 4), length: 8, rows: [EXT] },
  { cap: soft(ExtCapId.DVSEC, 12, 4, [0, 0, 0xc0, 0]), length: 12, rows: [EXT], raw: true },
];

/** A reset leaves everything but the command register, so that the model need not know of resets. */
class Steady extends LabFunction {
  override busReset(): void {
    this.set(Reg.COMMAND, 2, 0);
  }
}

function makeFunction(): Steady {
  return new Steady({
    pcie: true,
    bars: { 0: { size: 0x4000 }, 1: { size: 0x20, bits: 1 }, 2: { size: 0x1_0000, bits: 12 } },
    caps: caps.map(({ cap }) => cap),
    extCaps: extCaps.map(({ cap }) => cap),
  });
}

/** The user's bits, beside the hardware's, which are looked at where they are. */
class Model {
  readonly #virt = new Uint8Array(SIZE);
  readonly #write = new Uint8Array(SIZE).fill(0xff);
  readonly #raw = new Uint8Array(SIZE).fill(1);
  readonly #own: Uint8Array;
  /** Where capabilities are. */
  readonly #at = new Map<number, number>();

  /** @param fn - open, and not yet used */
  constructor(fn: Steady) {
    this.#own = Uint8Array.from(fn.config);
    this.#write.fill(0, 0, 0x40);
    this.#raw.fill(0, 0, 0x40);
    this.#add(0, header);
    this.#place(0x40, caps);
    this.#place(0x100, extCaps);
    // Lists go past what is hidden.
    this.#own[this.at(CapId.PM) + 1] = fn.config[fn.cap(CapId.SSVID) + 1] ?? 0;
    const next = fn.readConfig(fn.extCap(ExtCapId.PASID), 4) >>> 20;
    this.#own[0x102] = ((fn.config[0x102] ?? 0) & 0xf) | ((next & 0xf) << 4);
    this.#own[0x103] = next >>> 4;
    // It has no interrupt, and never wakes anybody.
    this.#own[Reg.INTERRUPT_PIN] = 0;
    this.#own[this.at(CapId.PM) + Pm.PMC + 1] = 0;
    this.#own[this.at(CapId.PM) + Pm.CTRL + 1] = 0;
    this.#settle();
  }

  at(id: number): number {
    return this.#at.get(id) ?? 0;
  }

  /** @param alone - the byte behind it is not read with it */
  read(hw: Uint8Array, at: number, alone: boolean): number {
    // The id in front of a vendor's registers is the user's only together with the link to the next capability.
    if (at === this.at(CapId.VNDR) && !alone) return CapId.VNDR;
    const virt = this.#virt[at] ?? 0;
    return ((hw[at] ?? 0) & ~virt) | ((this.#own[at] ?? 0) & virt);
  }

  /** @returns what the hardware has afterwards */
  write({ config, writable }: Steady, at: number, bytes: readonly number[]): Uint8Array {
    const after = Uint8Array.from(config);
    for (const [index, byte] of bytes.entries()) {
      for (let bit = 1; bit < 0x100; bit <<= 1) this.#writeBit(after, at + index, bit, byte);
    }
    this.#settle();
    // What the hardware keeps of it is the hardware's business.
    for (const [where, mask] of writable.entries()) {
      after[where] = ((config[where] ?? 0) & ~mask) | ((after[where] ?? 0) & mask);
    }
    const flags = this.at(CapId.MSI) + Msi.FLAGS;
    if (at <= flags && flags < at + bytes.length) after[flags] = this.#own[flags] ?? 0;
    return after;
  }

  #writeBit(hw: Uint8Array, at: number, bit: number, byte: number): void {
    if (((this.#write[at] ?? 0) & bit) === 0) return;
    const virtual = this.#raw[at] === 0 && ((this.#virt[at] ?? 0) & bit) !== 0;
    const into = virtual ? this.#own : hw;
    into[at] = ((into[at] ?? 0) & ~bit) | (byte & bit);
  }

  #add(start: number, rows: readonly Row[]): void {
    for (const [offset, width, virt, write] of rows) {
      for (let byte = 0; byte < width; byte++) {
        this.#virt[start + offset + byte] = virt >>> (8 * byte);
        this.#write[start + offset + byte] = write >>> (8 * byte);
      }
    }
  }

  /** Capabilities lie behind each other, at dwords. */
  #place(first: number, known: readonly Known[]): void {
    let at = first;
    for (const { cap, length, rows, raw = false } of known) {
      if (first === 0x40) this.#at.set(cap.id, at);
      if (!raw) {
        this.#write.fill(0, at, at + length);
        this.#raw.fill(0, at, at + length);
      }
      this.#add(at, raw ? rows.map(([offset, width, virt]): Row => [offset, width, virt, ALL]) : rows);
      at = (at + length + 3) & ~3;
    }
  }

  /** What registers become that were written: nothing resets the function, and no interrupt is in use. */
  #settle(): void {
    const own = new DataView(this.#own.buffer);
    const fix = (at: number, mask: number, bits: number) =>
      own.setUint32(at, ((own.getUint32(at, true) & mask) | bits) >>> 0, true);
    fix(BAR0, 0xffff_c000, 0);
    fix(BAR0 + 4, 0xffff_ffe0, 1);
    fix(BAR0 + 8, 0xffff_0000, 12);
    fix(BAR0 + 16, 0, 0);
    fix(BAR0 + 20, 0, 0);
    fix(Reg.ROM_ADDRESS, 0, 0);
    fix(this.at(CapId.EXP) + Exp.DEVCTL, ~Exp.DEVCTL_BCR_FLR, 0);
    fix(this.at(CapId.AF) + Af.CTRL, ~Af.CTRL_FLR, 0);
    const flags = this.at(CapId.MSI) + Msi.FLAGS;
    this.#own[flags] = (this.#own[flags] ?? 0) & ~(Msi.FLAGS_ENABLE | Msi.FLAGS_QSIZE);
  }
}

/** The hardware's registers, but for bits that the bus has changed on behalf of the user. */
function settled(model: Model, hw: Uint8Array): Uint8Array {
  const bytes = Uint8Array.from(hw);
  const clear = (at: number, mask: number) => {
    bytes[at] = (bytes[at] ?? 0) & ~mask;
  };
  clear(Reg.COMMAND + 1, Command.INTX_DISABLE >> 8);
  clear(model.at(CapId.PM) + Pm.CTRL, Pm.CTRL_STATE_MASK);
  clear(model.at(CapId.EXP) + Exp.DEVCTL + 1, Exp.DEVCTL_READRQ >> 8);
  return bytes;
}

const access = fc.record({
  // Most of what is there is in front.
  at: fc.oneof(fc.integer({ min: 0, max: 0x17f }), fc.integer({ min: 0, max: SIZE - 1 })),
  bytes: fc.array(fc.oneof(fc.constantFrom(0, 0xff), fc.integer({ min: 0, max: 0xff })), {
    minLength: 1,
    maxLength: 12,
  }),
  write: fc.boolean(),
});

describe('config space', () => {
  it('agrees with a model that looks at every bit on its own', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(access, { minLength: 1, maxLength: 60 }), async (accesses) => {
        await using lab = await ConfigLab.open(makeFunction());
        const { fn, user } = lab;
        const model = new Model(fn);
        const initial = Uint8Array.from(fn.config);
        // Nothing but the user's permissions protects the hardware.
        fn.writable.fill(0xff, 0x40);
        const compare = async (at: number, length: number) => {
          const expected = Array.from({ length }, (_, index) =>
            model.read(fn.config, at + index, index + 1 === length),
          );
          expect({ at, bytes: [...(await user.read(CONFIG, at, length))] }).toEqual({ at, bytes: expected });
        };
        for (const { at, bytes, write } of accesses) {
          const data = bytes.slice(0, SIZE - at);
          if (write) {
            const expected = settled(model, model.write(fn, at, data));
            await user.write(CONFIG, at, data);
            expect(settled(model, fn.config)).toEqual(expected);
          }
          await compare(at, data.length);
        }
        await compare(0, SIZE);
        fn.config.set(initial.subarray(0x40), 0x40);
      }),
      { numRuns: 40 },
    );
  });
});
