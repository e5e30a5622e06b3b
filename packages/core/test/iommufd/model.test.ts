import { isSystemError } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { deviceAttach, deviceDetach } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind, type IommufdDevice } from '../../src/iommufd/device.js';
import { errnoOf, Machine, MSI, P, R, RW, TOP, U64_MAX, type User } from './harness.js';

type Range = readonly [start: bigint, last: bigint];

interface Mapped {
  readonly start: bigint;
  readonly last: bigint;
  /** Bytes into the first page. */
  readonly offset: bigint;
}

/** What an IOAS has, as lists that are searched from end to end. */
class Model {
  areas: Mapped[] = [];
  allowed: Range[] = [];
  reserved: Range[] = [];
  alignment = 1n;

  meets(ranges: readonly Range[], start: bigint, last: bigint): boolean {
    return ranges.some(([from, to]) => from <= last && to >= start);
  }

  get taken(): Range[] {
    return this.areas.map(({ start, last }) => [start, last]);
  }

  /** Walks all room from below, as the kernel does. */
  choose(address: bigint, length: bigint): bigint | string {
    let alignment = 1n;
    while (alignment < length) alignment *= 2n;
    for (let bit = 1n; bit < alignment; bit *= 2n) if ((address & bit) !== 0n) alignment = bit;
    if (alignment > 2n << 20n) alignment = 2n << 20n;
    if (alignment < this.alignment) return 'EINVAL';
    const offset = address % P;
    const place = (start: bigint, last: bigint) => {
      const at = (((start + alignment - 1n) / alignment) * alignment) | offset;
      return at < last && last - at >= length - 1n ? at : undefined;
    };
    const edges = [P, U64_MAX - P] as const;
    const allowed = join(this.allowed).map(([from, to]): Range => [max(from, edges[0]), min(to, edges[1])]);
    for (const [from, to] of allowed.length === 0 ? [edges] : allowed) {
      const start = from <= to ? place(from, to) : undefined;
      if (start === undefined) continue;
      for (const [low, high] of gaps(join([...this.reserved, ...this.taken]), start, to)) {
        const found = place(low, high);
        if (found !== undefined) return found;
      }
    }
    return 'ENOSPC';
  }

  map(address: bigint, length: bigint, iova: bigint | undefined): bigint | string {
    if (length % this.alignment !== 0n) return 'EINVAL';
    let at = iova;
    if (at === undefined) {
      const found = this.choose(address, length);
      if (typeof found === 'string') return found;
      at = found;
    } else {
      if (at % this.alignment !== 0n) return 'EINVAL';
      if (this.meets(this.reserved, at, at + length - 1n)) return 'EINVAL';
      if (this.meets(this.taken, at, at + length - 1n)) return 'EEXIST';
    }
    if ((address % P) % this.alignment !== 0n) return 'EINVAL';
    this.areas.push({ start: at, last: at + length - 1n, offset: address % P });
    this.areas.sort((a, b) => (a.start < b.start ? -1 : 1));
    return at;
  }

  unmap(start: bigint, length: bigint): bigint | string {
    const last = start + length - 1n;
    let bytes = 0n;
    for (const area of [...this.areas]) {
      if (area.last < start || area.start > last) continue;
      if (area.start < start || area.last > last) return 'ENOENT';
      this.areas.splice(this.areas.indexOf(area), 1);
      bytes += area.last - area.start + 1n;
    }
    return bytes === 0n ? 'ENOENT' : bytes;
  }

  allow(ranges: readonly Range[]): string | undefined {
    for (const [index, [start, last]] of ranges.entries()) {
      if (start >= last || this.meets(ranges.slice(0, index), start, last)) return 'EINVAL';
    }
    if (ranges.some(([start, last]) => this.meets(this.reserved, start, last))) return 'EADDRINUSE';
    this.allowed = [...ranges];
    return undefined;
  }

  attach(): string | undefined {
    const unaligned = this.areas.some(({ start, last, offset }) => (start | (last + 1n) | offset) % P !== 0n);
    const narrow: Range[] = [
      [MSI.start, MSI.end],
      [TOP + 1n, U64_MAX],
    ];
    const meets = (ranges: readonly Range[]) => narrow.some(([start, last]) => this.meets(ranges, start, last));
    if (unaligned || meets(this.taken) || meets(this.allowed)) return 'EADDRINUSE';
    this.reserved = narrow;
    this.alignment = P;
    return undefined;
  }

  detach(): void {
    this.reserved = [];
    this.alignment = 1n;
  }
}

const min = (a: bigint, b: bigint) => (a < b ? a : b);
const max = (a: bigint, b: bigint) => (a > b ? a : b);

function join(ranges: readonly Range[]): Range[] {
  const joined: [bigint, bigint][] = [];
  for (const [start, last] of [...ranges].sort((a, b) => (a[0] < b[0] ? -1 : 1))) {
    const top = joined.at(-1);
    if (top && start <= top[1] + 1n) top[1] = max(top[1], last);
    else joined.push([start, last]);
  }
  return joined;
}

function gaps(used: readonly Range[], start: bigint, last: bigint): Range[] {
  const found: Range[] = [];
  let from = start;
  for (const [low, high] of used) {
    if (high < from || low > last) continue;
    if (low > from) found.push([from, low - 1n]);
    from = high + 1n;
  }
  if (from <= last) found.push([from, last]);
  return found;
}

/** Places where things meet: low memory, the interrupt window, the end of the aperture. */
const place = fc
  .tuple(fc.constantFrom(0n, 0x10000n, MSI.start, TOP + 1n), fc.integer({ min: -6, max: 6 }))
  .map(([base, pages]) => max(base + BigInt(pages) * P, 0n));
const size = fc.oneof(
  { weight: 4, arbitrary: fc.integer({ min: 1, max: 6 }).map((pages) => BigInt(pages) * P) },
  { weight: 1, arbitrary: fc.constantFrom(16n, 0x800n) },
);

type Step =
  | {
      readonly do: 'map';
      readonly page: number;
      readonly offset: bigint;
      readonly length: bigint;
      readonly at?: bigint;
    }
  | { readonly do: 'unmap'; readonly start: bigint; readonly length: bigint }
  | { readonly do: 'allow'; readonly ranges: readonly Range[] }
  | { readonly do: 'attach' | 'detach' };

const step: fc.Arbitrary<Step> = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('map' as const),
      page: fc.nat(15),
      offset: fc.constantFrom(0n, 0n, 0n, 0x10n, 0x340n),
      length: size,
      at: fc.option(place, { nil: undefined }),
    }) as fc.Arbitrary<Step>,
  },
  { weight: 3, arbitrary: fc.record({ do: fc.constant('unmap' as const), start: place, length: size }) },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('allow' as const),
      ranges: fc.array(
        fc.tuple(place, size).map(([start, length]): Range => [start, start + length * 3n - 1n]),
        { maxLength: 3 },
      ),
    }),
  },
  { weight: 1, arbitrary: fc.record({ do: fc.constantFrom('attach' as const, 'detach' as const) }) },
);

/** What a call answers: its value, or the errno. */
async function answer<T>(call: Promise<T>): Promise<T | string> {
  try {
    return await call;
  } catch (error) {
    if (isSystemError(error)) return error.code;
    throw error;
  }
}

class Player {
  readonly model = new Model();
  readonly user: User;
  readonly bound: IommufdDevice;
  readonly ioas: number;
  readonly memory: bigint;
  attached = false;

  constructor(user: User, bound: IommufdDevice, ioas: number) {
    this.user = user;
    this.bound = bound;
    this.ioas = ioas;
    this.memory = user.anon(32);
  }

  async play(action: Step): Promise<void> {
    const { model, user, ioas } = this;
    switch (action.do) {
      case 'map': {
        const address = this.memory + BigInt(action.page) * P + action.offset;
        const writable = action.page % 2 === 0;
        const got = await answer(user.map(ioas, address, action.length, action.at, writable ? RW : R));
        expect(got).toBe(model.map(address, action.length, action.at));
        return;
      }
      case 'unmap':
        expect(await answer(user.unmap(ioas, action.start, action.length))).toBe(
          model.unmap(action.start, action.length),
        );
        return;
      case 'allow':
        expect(await errnoOf(user.allow(ioas, action.ranges))).toBe(model.allow(action.ranges));
        return;
      case 'attach':
        if (this.attached) return;
        this.attached = await this.#attach();
        return;
      case 'detach':
        if (!this.attached) return;
        await deviceDetach(this.bound);
        model.detach();
        this.attached = false;
    }
  }

  async #attach(): Promise<boolean> {
    const code = await errnoOf(deviceAttach(this.bound, this.ioas));
    expect(code).toBe(this.model.attach());
    return code === undefined;
  }

  /** Everything that can be seen from outside agrees. */
  async compare(): Promise<void> {
    const { model, user, ioas, bound } = this;
    const seen = await user.ranges(ioas);
    expect(seen.list).toEqual(gaps(join(model.reserved), 0n, U64_MAX).map((range) => [...range]));
    expect(seen.alignment).toBe(model.alignment);
    const { domain } = bound.igroup.group;
    for (const { start, last } of model.areas) {
      expect(domain?.iovaToPhys(start) !== undefined && domain?.iovaToPhys(last) !== undefined).toBe(this.attached);
    }
    if (!this.attached) expect(user.process.mm.pinnedVm).toBe(0);
  }
}

describe('the page table', () => {
  it('CORE-189 CORE-190 CORE-193 agrees with a naive model under any sequence of calls', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(step, { minLength: 1, maxLength: 40 }), async (steps) => {
        await using machine = await Machine.start();
        const user = await machine.user();
        const bound = await deviceBind(user.context, await machine.device());
        const player = new Player(user, bound, await user.ioas());
        for (const action of steps) {
          await player.play(action);
          await player.compare();
        }
        await user.unmap(player.ioas);
        expect(user.process.mm.pinnedVm).toBe(0);
        if (player.attached) await deviceDetach(bound);
        await deviceUnbind(bound);
        expect(machine.host.log.warnings()).toEqual([]);
      }),
      { numRuns: 60 },
    );
  }, 60_000);

  it('finds room among twenty thousand mappings without looking at all of them', async () => {
    await using machine = await Machine.start({ host: { checked: false } });
    const user = await machine.user();
    const ioas = await user.ioas();
    const { Ioas } = await import('../../src/iommufd/ioas.js');
    const { mapUserPages } = await import('../../src/iommufd/map.js');
    using held = user.context.objects.hold(ioas, Ioas);
    const { iopt } = held.object;
    const request = {
      iommufd: machine.iommufd,
      caller: user.process,
      accountMode: 'user',
      length: P,
      writable: true,
    } as const;
    const m = user.anon(1);
    const count = 20_000;
    for (let index = 0; index < count; index++) await mapUserPages(iopt, request, m, undefined, 3);
    expect(iopt.areas.size).toBe(count);
    // a hole at the bottom is found at once, and so is the end
    expect(await user.unmap(ioas, 77n * P, P)).toBe(P);
    expect(await user.map(ioas, m, P)).toBe(77n * P);
    expect(await user.map(ioas, m, P)).toBe(BigInt(count + 1) * P);
    expect(await user.unmap(ioas)).toBe(BigInt(count + 1) * P);
  }, 60_000);
});
