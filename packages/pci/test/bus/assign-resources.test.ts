import { Host, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { readConfigDword, readConfigWord } from '../../src/bus/config.js';
import { isPciDev, type PciDev } from '../../src/bus/pci-dev.js';
import { BridgeReg, ExpType, Reg } from '../../src/bus/regs.js';
import { Resource, ResourceFlag, ResourceTree } from '../../src/bus/resource-tree.js';
import { type FakeBar, FakeFunction, pcieCap, rootOf } from './fake-function.js';

const newHost = () => new Host({ checked: true, clock: new VirtualClock() });

/** A function as it is drawn: BARs, or a bridge with more behind it. */
interface Plan {
  readonly bars: readonly FakeBar[];
  readonly behind?: readonly Plan[];
}

const bar = fc.oneof(
  fc.record({ size: fc.integer({ min: 4, max: 24 }).map((bits) => 2 ** bits), bits: fc.constantFrom(0, 4, 8, 0xc) }),
  fc.record({ size: fc.integer({ min: 2, max: 8 }).map((bits) => 2 ** bits), bits: fc.constant(1) }),
);
const leaf: fc.Arbitrary<Plan> = fc.record({ bars: fc.array(bar, { maxLength: 3 }) });
const { tree } = fc.letrec<{ tree: Plan; bridge: Plan }>((tie) => ({
  bridge: fc.record({ bars: fc.constant([]), behind: fc.array(tie('tree'), { maxLength: 3 }) }),
  tree: fc.oneof({ maxDepth: 3 }, leaf, tie('bridge')),
}));

/** Builds functions in consecutive slots. */
function build(plans: readonly Plan[]): Map<number, FakeFunction> {
  return new Map(
    plans.map(({ bars, behind }, slot) => {
      const options = behind ? { classCode: 0x06_0400, behind: build(behind) } : {};
      // A BAR of 64 bits takes the next one too.
      const placed = Object.fromEntries(bars.map((drawn, index) => [2 * index, drawn]));
      return [slot * 8, new FakeFunction({ ...options, bars: behind ? {} : placed })];
    }),
  );
}

function functionsOf(devices: readonly unknown[]): PciDev[] {
  return devices.filter((dev): dev is PciDev => dev instanceof Object && isPciDev(dev as PciDev));
}

describe('assignResources', () => {
  it('gives every BAR its own aligned place, inside of what all bridges above pass on', async () => {
    await fc.assert(
      fc.asyncProperty(fc.array(tree, { minLength: 1, maxLength: 5 }), async (plans) => {
        await using host = newHost();
        const bus = await pciInit(host);
        await bus.addRoot(rootOf(build(plans)));
        for (const pdev of functionsOf(bus.devices)) {
          for (const [index, resource] of pdev.resource.entries()) {
            if (resource.size === 0) continue;
            const { parent, start, end, flags } = resource;
            if (!parent) throw new Error(`${pdev.name} resource ${index} has no place`);
            expect(start).toBeGreaterThanOrEqual(parent.start);
            expect(end).toBeLessThanOrEqual(parent.end);
            if (index >= 6) continue;
            expect(start % resource.size).toBe(0);
            expect((readConfigDword(pdev, Reg.BASE_ADDRESS_0 + 4 * index) & ~0xf) >>> 0).toBe(
              (flags & ResourceFlag.IO) !== 0 ? start & ~0xf : (start % 2 ** 32) - (start % 16),
            );
            const needsLow = (flags & (ResourceFlag.MEM_64 | ResourceFlag.IO)) === 0;
            if (needsLow) expect(end).toBeLessThan(2 ** 32);
          }
        }
      }),
      { numRuns: 40 },
    );
  });

  it('writes windows as bridges decode them, closed where there is nothing', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const behind = new Map([[0, new FakeFunction({ bars: { 0: { size: 0x40_0000 } } })]]);
    await bus.addRoot(rootOf(new Map([[0x08, new FakeFunction({ classCode: 0x06_0400, behind })]])));
    const bridge = bus.find(0, 0, 0x08) as PciDev;
    const window = bridge.resource[14] as Resource;
    expect(window.size).toBe(0x40_0000);
    expect(readConfigWord(bridge, BridgeReg.MEMORY_BASE)).toBe(window.start / 0x1_0000);
    expect(readConfigWord(bridge, BridgeReg.MEMORY_LIMIT)).toBe((window.end + 1) / 0x1_0000 - 0x10);
    expect(readConfigWord(bridge, BridgeReg.PREF_MEMORY_BASE)).toBeGreaterThan(
      readConfigWord(bridge, BridgeReg.PREF_MEMORY_LIMIT),
    );
    expect(bridge.resource[13]?.size).toBe(0);
  });

  it('takes back what firmware has assigned twice', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const fn = () => new FakeFunction({ bars: { 0: { size: 0x1000, at: 0xd000_0000 } } });
    await bus.addRoot(
      rootOf(
        new Map([
          [0x08, fn()],
          [0x10, fn()],
        ]),
      ),
    );
    expect(bus.find(0, 0, 0x08)?.resource[0]?.start).toBe(0xd000_0000);
    const second = bus.find(0, 0, 0x10)?.resource[0];
    expect(second?.parent).toBeDefined();
    expect(second?.start).not.toBe(0xd000_0000);
  });

  it('leaves room for what may come to a hotplug slot', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const port = new FakeFunction({
      classCode: 0x06_0400,
      pcie: true,
      caps: [pcieCap(ExpType.ROOT_PORT, { slot: true })],
      behind: new Map(),
    });
    await bus.addRoot(rootOf(new Map([[0x08, port]])));
    expect(
      bus
        .find(0, 0, 0x08)
        ?.resource.slice(13, 16)
        .map(({ size }) => size),
    ).toEqual([0x1000, 0x20_0000, 0x20_0000]);
  });

  it('has the ROM of the display where firmware has copied it to', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const vga = Object.assign(new FakeFunction({ classCode: 0x03_0000, rom: 0x1_0000 }), {
      platformRom: Uint8Array.of(0x55, 0xaa),
    });
    await bus.addRoot(rootOf(new Map([[0x20, vga]])));
    expect(bus.find(0, 0, 0x20)?.resource[6]).toMatchObject({ start: 0xc_0000, end: 0xd_ffff, flags: 0x212 });
  });
});

describe('ResourceTree', () => {
  it('agrees with a naive model about what overlaps and what is free', () => {
    const range = fc.tuple(fc.nat(200), fc.integer({ min: 1, max: 20 }));
    fc.assert(
      fc.property(fc.array(range, { maxLength: 40 }), (ranges) => {
        const resources = new ResourceTree('test', 255);
        const taken = new Array<boolean>(256).fill(false);
        for (const [start, size] of ranges) {
          const free = taken.slice(start, start + size).every((used) => !used);
          const resource = new Resource('r', start, start + size - 1, ResourceFlag.MEM);
          if (free) resources.request(resources.root, resource);
          else
            expect(() => resources.request(resources.root, resource)).toThrow(
              expect.objectContaining({ code: 'EBUSY' }),
            );
          if (free) taken.fill(true, start, start + size);
        }
        for (let address = 0; address < 256; address++)
          expect(resources.find(address) !== undefined).toBe(taken[address]);
        const first = [...taken.keys()].find((at) => at % 8 === 0 && taken.slice(at, at + 8).every((used) => !used));
        expect(resources.findFree(resources.root, 8, 8)).toBe(first);
      }),
    );
  });
});
