import type { IommuGroup } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DmaMapFlag, DmaUnmapFlag } from '../../src/uapi/vfio.js';
import { type Container, Machine, P, type User } from './harness.js';

/** IOVA and memory of the model, in pages. */
const space = 48;
const memoryPages = 32;
/** Pages that the user may lock. */
const limit = 40;

type Command =
  | { readonly do: 'map'; readonly page: number; readonly pages: number; readonly from: number; readonly prot: number }
  | { readonly do: 'unmap'; readonly page: number; readonly pages: number; readonly report: boolean }
  | { readonly do: 'unmapAll' }
  | {
      readonly do: 'pin';
      readonly page: number;
      readonly pages: number;
      readonly prot: number;
      readonly hardware: boolean;
    }
  | { readonly do: 'unpin'; readonly page: number; readonly pages: number }
  | { readonly do: 'rw'; readonly page: number; readonly value: number; readonly write: boolean }
  | { readonly do: 'hardware'; readonly attach: boolean }
  | { readonly do: 'track'; readonly on: boolean }
  | { readonly do: 'report'; readonly page: number; readonly pages: number };

const page = fc.nat(space - 1);
const pages = fc.integer({ min: 1, max: 12 });
const prot = fc.constantFrom(1, 2, 3, 3, 3);

const command: fc.Arbitrary<Command> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({ do: fc.constant('map' as const), page, pages, from: fc.nat(memoryPages - 1), prot }),
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('unmap' as const), page, pages, report: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('unmapAll' as const) }) },
  { weight: 4, arbitrary: fc.record({ do: fc.constant('pin' as const), page, pages, prot, hardware: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('unpin' as const), page, pages }) },
  {
    weight: 3,
    arbitrary: fc.record({ do: fc.constant('rw' as const), page, value: fc.nat(255), write: fc.boolean() }),
  },
  { weight: 2, arbitrary: fc.record({ do: fc.constant('hardware' as const), attach: fc.boolean() }) },
  { weight: 1, arbitrary: fc.record({ do: fc.constant('track' as const), on: fc.boolean() }) },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('report' as const), page, pages }) },
);

/** A page of IOVA, as simple as can be: everything is looked up page by page. */
interface ModelPage {
  /** Which mapping it belongs to. */
  readonly mapping: number;
  readonly from: number;
  readonly prot: number;
  pins: number;
  dirty: boolean;
}

/** Type1 as a table of pages. Each operation answers with an errno, or undefined for success. */
class Model {
  readonly table: (ModelPage | undefined)[] = [];
  readonly memory = new Array<number>(memoryPages).fill(0);
  hardware = false;
  hardwarePinned = false;
  tracking = false;
  #mappings = 0;

  get charge(): number {
    return this.table.filter((entry) => entry && (this.hardware || entry.pins > 0)).length;
  }

  get mappings(): number {
    return new Set(this.table.flatMap((entry) => (entry ? [entry.mapping] : []))).size;
  }

  map({ page, pages, from, prot }: Extract<Command, { do: 'map' }>): string | undefined {
    for (let i = page; i < page + pages; i++) if (this.table[i]) return 'EEXIST';
    if (this.hardware) {
      const there = Math.min(pages, memoryPages - from);
      if (this.charge + there > limit) return 'ENOMEM';
      if (there < pages) return 'EFAULT';
    }
    const mapping = this.#mappings++;
    for (let i = 0; i < pages; i++) this.table[page + i] = { mapping, from: from + i, prot, pins: 0, dirty: false };
    return undefined;
  }

  cuts(page: number, pages: number): boolean {
    const apart = (a: number, b: number) => {
      const left = this.table[a];
      return left !== undefined && left.mapping === this.table[b]?.mapping;
    };
    return apart(page - 1, page) || apart(page + pages - 1, page + pages);
  }

  unmap(page: number, pages: number): number {
    let removed = 0;
    for (let i = page; i < page + pages; i++) {
      if (this.table[i]) removed++;
      this.table[i] = undefined;
    }
    return removed;
  }

  pin({ page, pages, prot, hardware }: Extract<Command, { do: 'pin' }>): string | undefined {
    const done: ModelPage[] = [];
    const failure = this.#pinAll(page, pages, prot, done);
    if (failure) for (const entry of done) entry.pins--;
    else if (hardware) this.hardwarePinned = true;
    return failure;
  }

  #pinAll(page: number, pages: number, prot: number, done: ModelPage[]): string | undefined {
    for (let i = page; i < page + pages; i++) {
      const entry = this.table[i];
      if (!entry) return 'EINVAL';
      if ((entry.prot & prot) !== prot) return 'EPERM';
      if (entry.pins === 0) {
        if (entry.from >= memoryPages) return 'EFAULT';
        if (!this.hardware && this.charge + 1 > limit) return 'ENOMEM';
        // stays when a later page fails: it was accessible for a moment
        entry.dirty = this.tracking;
      }
      entry.pins++;
      done.push(entry);
    }
    return undefined;
  }

  /** How many pages before a hole. */
  unpin(page: number, pages: number): number {
    for (let i = page; i < page + pages; i++) {
      const entry = this.table[i];
      if (!entry) return i - page;
      if (entry.pins > 0) entry.pins--;
    }
    return pages;
  }

  rw({ page, value, write }: Extract<Command, { do: 'rw' }>): string | undefined {
    const entry = this.table[page];
    if (!entry) return 'EINVAL';
    if ((entry.prot & DmaMapFlag.READ) === 0 || (write && (entry.prot & DmaMapFlag.WRITE) === 0)) return 'EPERM';
    if (entry.from >= memoryPages) return 'EFAULT';
    if (write) {
      this.memory[entry.from] = value;
      if (this.tracking) entry.dirty = true;
    }
    return undefined;
  }

  attach(): string | undefined {
    // mapping by mapping: what is not there is found unless the pages before it are over the limit
    let charge = this.charge;
    for (const entry of this.table) {
      if (!entry) continue;
      if (entry.from >= memoryPages) return 'EFAULT';
      if (entry.pins === 0 && ++charge > limit) return 'ENOMEM';
    }
    this.hardware = true;
    this.hardwarePinned = false;
    return undefined;
  }

  detach(): void {
    if (!this.hardwarePinned && this.tracking) for (const entry of this.table) if (entry) entry.dirty = true;
    this.hardware = false;
  }

  track(on: boolean): void {
    if (on === this.tracking) return;
    this.tracking = on;
    for (const entry of this.table) if (entry) entry.dirty = on && entry.pins > 0;
  }

  /** The dirty pages of a range, and the state after they were reported. */
  report(page: number, pages: number): number[] {
    const dirty: number[] = [];
    for (let i = page; i < page + pages; i++) {
      const entry = this.table[i];
      if (!entry) continue;
      if (entry.dirty || (this.hardware && !this.hardwarePinned)) dirty.push(i - page);
      entry.dirty = entry.pins > 0;
    }
    return dirty;
  }
}

/** The real thing, driven by the same commands. */
class Real {
  readonly #machine: Machine;
  readonly #container: Container;
  readonly #model: Model;
  readonly user: User;
  readonly #emulated: IommuGroup;
  readonly #hardware: IommuGroup;
  readonly #memory: bigint;
  readonly #firstFrame: number;

  private constructor(
    machine: Machine,
    container: Container,
    model: Model,
    emulated: IommuGroup,
    hardware: IommuGroup,
  ) {
    const memlock = { soft: BigInt(limit) * P, hard: BigInt(limit) * P };
    this.#machine = machine;
    this.#container = container;
    this.#model = model;
    this.#emulated = emulated;
    this.#hardware = hardware;
    this.user = container.user(machine.host.spawn({ comm: 'user', uid: 1000, limits: { memlock } }));
    // nothing is mapped behind it: memory ends where the model's does
    this.#memory = this.user.process.mm.mmap({ addr: 0x1000_0000n, length: memoryPages * Number(P), prot: 3 });
    const [run] = this.user.process.mm.pinPages(this.#memory, 1, true);
    this.#firstFrame = run!.pfn;
    run!.unpin();
  }

  static async create(machine: Machine, model: Model): Promise<Real> {
    const emulated = await machine.emulated('mtty');
    const hardware = await machine.hardware('0000:00:02.0');
    const container = await machine.container([emulated]);
    const real = new Real(machine, container, model, emulated, hardware);
    await container.listen({ dmaUnmap: (iova, length) => real.#letGo(Number(iova / P), Number(length / P)) });
    return real;
  }

  /** The device drops all its pins in a range. */
  async #letGo(first: number, count: number): Promise<void> {
    for (let page = first; page < first + count; page++) {
      const entry = this.#model.table[page];
      for (; entry && entry.pins > 0; entry.pins--) await this.#container.backend.unpinPages(BigInt(page) * P, 1);
    }
  }

  map({ page, pages, from, prot }: Extract<Command, { do: 'map' }>): Promise<string | undefined> {
    return errno(this.user.map(BigInt(page) * P, this.#memory + BigInt(from) * P, BigInt(pages) * P, prot));
  }

  pin({ page, pages, prot, hardware }: Extract<Command, { do: 'pin' }>): Promise<string | undefined> {
    const group = hardware ? this.#hardware : this.#emulated;
    return errno(this.#container.backend.pinPages(group, BigInt(page) * P, pages, prot));
  }

  async unpin(page: number, pages: number): Promise<void> {
    await this.#container.backend.unpinPages(BigInt(page) * P, pages);
  }

  async rw({ page, value, write }: Extract<Command, { do: 'rw' }>): Promise<string | undefined> {
    return errno(this.#container.backend.dmaRw(BigInt(page) * P + 7n, new Uint8Array([value]), write));
  }

  attach(): Promise<string | undefined> {
    return errno(this.#container.attach(this.#hardware));
  }

  async detach(): Promise<void> {
    await this.#container.detach(this.#hardware);
  }

  async agree(): Promise<void> {
    const model = this.#model;
    expect(this.user.lockedVm).toBe(model.charge);
    expect((await this.user.info()).avail).toBe(65535 - model.mappings);
    for (let page = 0; page < space + 12; page++) {
      const entry = model.table[page];
      const found = this.#hardware.domain?.translate(BigInt(page) * P, 1);
      if (!entry || !model.hardware) {
        expect(found).toBeUndefined();
      } else {
        expect(found?.phys).toBe((this.#firstFrame + entry.from) * Number(P));
        expect((found?.prot ?? 0) & 3).toBe(entry.prot);
      }
    }
    for (const [index, value] of model.memory.entries()) {
      expect(this.user.process.mm.load(this.#memory + BigInt(index) * P + 7n, 1)).toBe(BigInt(value));
    }
  }

  /** Nothing is left when the devices let go and the user unmaps all. */
  async finish(): Promise<void> {
    await this.#letGo(0, space + 12);
    if (!this.#model.hardware) expect(this.#machine.host.tracker.count('pin')).toBe(0);
    await this.user.unmapAll();
    expect(this.user.lockedVm).toBe(0);
    expect(this.#machine.host.tracker.count('pin')).toBe(0);
  }
}

function errno(attempt: Promise<unknown>): Promise<string | undefined> {
  return attempt.then(
    () => undefined,
    (error: { code?: string }) => error.code ?? String(error),
  );
}

async function step(command: Command, model: Model, real: Real): Promise<void> {
  const { user } = real;
  switch (command.do) {
    case 'map':
      expect(await real.map(command)).toBe(model.map(command));
      break;
    case 'unmap': {
      const iova = BigInt(command.page) * P;
      const size = BigInt(command.pages) * P;
      if (command.report) {
        await unmapWithReport(command.page, command.pages, model, user);
      } else if (model.cuts(command.page, command.pages)) {
        expect(await errno(user.unmap(iova, size))).toBe('EINVAL');
      } else {
        const removed = await user.unmap(iova, size);
        expect(removed).toBe(BigInt(model.unmap(command.page, command.pages)) * P);
      }
      break;
    }
    case 'unmapAll': {
      const removed = await user.unmap(0n, 0n, DmaUnmapFlag.ALL);
      expect(removed).toBe(BigInt(model.unmap(0, space + 12)) * P);
      break;
    }
    case 'pin':
      if (command.hardware && !model.hardware) break;
      expect(await real.pin(command)).toBe(model.pin(command));
      break;
    case 'unpin': {
      // the kernel warns of a hole; a driver stops before it
      const count = model.unpin(command.page, command.pages);
      if (count > 0) await real.unpin(command.page, count);
      break;
    }
    case 'rw':
      expect(await real.rw(command)).toBe(model.rw(command));
      break;
    case 'hardware':
      if (command.attach === model.hardware) break;
      if (command.attach) {
        expect(await real.attach()).toBe(model.attach());
      } else {
        await real.detach();
        model.detach();
      }
      break;
    case 'track':
      await user.dirty(command.on ? 1 : 2);
      model.track(command.on);
      break;
    case 'report': {
      const attempt = user.dirtyPages(BigInt(command.page) * P, BigInt(command.pages) * P);
      if (!model.tracking || model.cuts(command.page, command.pages)) expect(await errno(attempt)).toBe('EINVAL');
      else expect(await attempt).toEqual(model.report(command.page, command.pages));
      break;
    }
  }
}

async function unmapWithReport(page: number, pages: number, model: Model, user: User): Promise<void> {
  const data = user.anon(1);
  const attempt = user.unmap(BigInt(page) * P, BigInt(pages) * P, 0, { data });
  if (!model.tracking || model.cuts(page, pages)) {
    expect(await errno(attempt)).toBe('EINVAL');
  } else {
    const removed = await attempt;
    const words = new BigUint64Array(user.process.mm.copyFrom(data, 8).buffer);
    const dirty = Array.from({ length: 64 }, (_, i) => i).filter((i) => ((words[0] ?? 0n) >> BigInt(i)) & 1n);
    expect(dirty).toEqual(model.report(page, pages));
    expect(removed).toBe(BigInt(model.unmap(page, pages)) * P);
  }
  user.process.mm.munmap(data, P);
}

describe('type1', () => {
  it('agrees with a table of pages under any commands: mappings, pins, charge, dirty bits, memory', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(command, { minLength: 1, maxLength: 40 }), async (commands) => {
        await using machine = await Machine.create();
        const model = new Model();
        const real = await Real.create(machine, model);
        for (const next of commands) {
          await step(next, model, real);
          await real.agree();
        }
        await real.finish();
        expect(machine.host.log.warnings()).toEqual([]);
      }),
      { numRuns: 150 },
    );
  }, 120_000);
});
