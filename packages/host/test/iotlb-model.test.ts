import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { createSeams, DmaEngine, IommuDomain, IommuProt, IommuUnit, PhysicalMemory } from '../src/index.js';
import { vtd } from './iommu-lab.js';

const PAGE = 4096;
const P = 4096n;
const PAGES = 10;
const FRAMES = 6;
const FREED = 0xff;

/** Two domains, six frames and a device, as tables that are walked for every byte. */
class Walk {
  readonly tables = [0, 1].map(() => new Map<number, { frame: number; prot: number }>());
  readonly dirty = [0, 1].map(() => new Set<number>());
  readonly frames: (Uint8Array | undefined)[] = Array.from({ length: FRAMES }, () => new Uint8Array(PAGE));
  attached = 0;

  /** Says whether the request ended without a fault. */
  access(write: boolean, at: number, bytes: Uint8Array): boolean {
    for (let i = 0; i < bytes.length; i++) {
      const page = Math.floor((at + i) / PAGE);
      const entry = this.tables[this.attached]?.get(page);
      if (entry === undefined || (entry.prot & (write ? IommuProt.WRITE : IommuProt.READ)) === 0) return false;
      const frame = this.frames[entry.frame];
      if (!write) bytes[i] = frame?.[(at + i) % PAGE] ?? FREED;
      else if (frame !== undefined) frame[(at + i) % PAGE] = bytes[i] ?? 0;
      if (write) this.dirty[this.attached]?.add(page);
    }
    return true;
  }
}

/** The same of the host, with the walk beside it: every step compares what both say. */
class Beside {
  readonly #walk = new Walk();
  readonly #seams = createSeams();
  readonly #memory = new PhysicalMemory(this.#seams);
  readonly #unit = new IommuUnit(this.#seams, 'dmar0', { ...vtd, dirtyTracking: true });
  readonly #domains = [0, 1].map(
    () => new IommuDomain(this.#seams, this.#unit, { kind: 'unmanaged', dirtyTracking: true }),
  );
  readonly #dma = new DmaEngine('a', this.#memory, undefined, {
    unit: () => this.#unit,
    domain: () => this.#domains[this.#walk.attached],
  });
  readonly #ranges = this.#walk.frames.map(() => this.#memory.alloc(1, 'test'));
  readonly #phys = this.#ranges.map(({ basePfn }) => basePfn * PAGE);

  constructor() {
    for (const domain of this.#domains) domain.setDirtyTracking(true);
  }

  map(domain: number, page: number, frame: number, prot: number): void {
    const table = this.#walk.tables[domain]!;
    if (table.has(page)) return;
    this.#domains[domain]!.map(BigInt(page) * P, this.#phys[frame]!, P, prot);
    table.set(page, { frame, prot });
  }

  unmap(domain: number, page: number, count: number): void {
    const size = this.#domains[domain]!.unmap(BigInt(page) * P, BigInt(count) * P);
    for (let i = 0; i < Number(size / P); i++) {
      expect(this.#walk.tables[domain]!.delete(page + i)).toBe(true);
      this.#walk.dirty[domain]!.delete(page + i);
    }
  }

  /** @param domain - 2 for neither */
  attach(domain: number): void {
    this.#walk.attached = domain;
  }

  /** Frees a frame, or gives the one that is free to somebody else. */
  free(frame: number): void {
    const free = this.#walk.frames.indexOf(undefined);
    if (free < 0) {
      this.#ranges[frame]!.put();
      this.#walk.frames[frame] = undefined;
      return;
    }
    this.#ranges[free] = this.#memory.alloc(1, 'test');
    expect(this.#ranges[free].basePfn * PAGE).toBe(this.#phys[free]);
    this.#walk.frames[free] = new Uint8Array(PAGE);
  }

  /** Writes as a processor does. */
  poke(frame: number, value: number): void {
    this.#memory.write(this.#phys[frame]!, Uint8Array.of(value));
    this.#walk.frames[frame]?.fill(value, 0, 1);
  }

  access(write: boolean, at: number, length: number, value: number): void {
    const [real, model] = [new Uint8Array(length).fill(value), new Uint8Array(length).fill(value)];
    let done = true;
    try {
      void this.#dma[write ? 'write' : 'read'](BigInt(at), real);
    } catch (error) {
      expect(error).toMatchObject({ code: 'EFAULT' });
      done = false;
    }
    expect(done).toBe(this.#walk.access(write, at, model));
    expect(Buffer.compare(real, model)).toBe(0);
  }

  /** Compares what is in memory, and the record of writes. */
  finish(): void {
    for (const [i, frame] of this.#walk.frames.entries()) {
      const bytes = new Uint8Array(PAGE);
      this.#memory.read(this.#phys[i]!, bytes);
      expect(Buffer.compare(bytes, frame ?? new Uint8Array(PAGE).fill(FREED))).toBe(0);
    }
    for (const [i, domain] of this.#domains.entries()) {
      const found: number[] = [];
      domain.readAndClearDirty(0n, BigInt(PAGES + 2) * P, (iova) => void found.push(Number(iova / P)));
      expect(found).toEqual([...this.#walk.dirty[i]!].sort((a, b) => a - b));
    }
  }
}

type Step = (beside: Beside) => void;

const domain = fc.nat(1);
/** Mostly the same few, some of which share a place in the engine. */
const page = fc.constantFrom(0, 0, 0, 1, 1, 2, 8, 8, PAGES - 1);
const frame = fc.nat(FRAMES - 1);
const value = fc.nat(255);
const offset = fc.constantFrom(0, 0, 1, 2048, 4080);
const length = fc.constantFrom(1, 16, 2048, PAGE, PAGE, 5000);

const map = fc.tuple(domain, page, frame, fc.integer({ min: 1, max: 3 })).map(
  (at): Step =>
    (beside) =>
      beside.map(...at),
);
const unmap = fc.tuple(domain, page, fc.integer({ min: 1, max: 2 })).map(
  (at): Step =>
    (beside) =>
      beside.unmap(...at),
);
const attach = fc.nat(2).map(
  (to): Step =>
    (beside) =>
      beside.attach(to),
);
const free = frame.map(
  (at): Step =>
    (beside) =>
      beside.free(at),
);
const poke = fc.tuple(frame, value).map(
  (at): Step =>
    (beside) =>
      beside.poke(...at),
);
const access = fc.tuple(fc.boolean(), page, offset, length, value).map(([write, page, offset, length, value]): Step => {
  return (beside) => beside.access(write, page * PAGE + offset, length, value);
});
const step = fc.oneof(
  { weight: 3, arbitrary: map },
  { weight: 4, arbitrary: fc.oneof(unmap, attach, free, poke) },
  { weight: 8, arbitrary: access },
);

describe('an engine that remembers pages, against a walk for every byte', () => {
  it('reads, writes, refuses and records alike', () => {
    fc.assert(
      fc.property(fc.array(step, { minLength: 20, maxLength: 120 }), (steps) => {
        const beside = new Beside();
        for (const step of steps) step(beside);
        beside.finish();
      }),
      { numRuns: 200 },
    );
  });
});
