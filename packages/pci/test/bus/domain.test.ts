import { Host, PAGE_SIZE, VirtualClock } from '@vfio/host';
import { forEachFault } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { type PciBusType, pciInit } from '../../src/bus/bus-type.js';
import { disableDevice, enableDevice } from '../../src/bus/enable.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { iomap, releaseSelectedRegions, requestSelectedRegions } from '../../src/bus/resources.js';
import { FakeFunction, rootOf } from './fake-function.js';
import { q35, rootPort, vtd } from './machine.js';

const newHost = () => new Host({ checked: true, clock: new VirtualClock(), iommu: vtd });
const code = (value: string) => expect.objectContaining({ code: value });

describe('addRoot', () => {
  it('leaves nothing behind whichever of its steps fails', async () => {
    const small = () =>
      rootOf(
        new Map([
          [0x08, rootPort([[0, new FakeFunction({ bars: { 0: { size: 0x1000 } } })]])],
          [0x10, new FakeFunction({ pin: 1, multifunction: true, bars: { 0: { size: 0x1000 } } })],
          [0x11, new FakeFunction()],
        ]),
        { acpi: true },
      );
    const report = await forEachFault({
      prepare: async () => {
        const host = newHost();
        return { host, bus: await pciInit(host), [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
      },
      scenario: async ({ bus }: { host: Host; bus: PciBusType }) => {
        const domain = await bus.addRoot(small());
        await bus.removeRoot(domain);
      },
      check: ({ host, bus }) => {
        expect(bus.domains).toEqual([]);
        expect(bus.devices).toEqual([]);
        expect(host.sysfs.devices.lookup('pci0000:00')).toBeUndefined();
        expect(host.iommu.groups.size).toBe(0);
      },
    });
    expect(report.steps.length).toBeGreaterThan(100);
  });

  it('refuses a second root of the same number', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    await expect(bus.addRoot(rootOf(new Map()))).rejects.toEqual(code('EEXIST'));
    const other = await bus.addRoot(rootOf(new Map([[0, new FakeFunction()]]), { domain: 1, memory: [], io: [] }));
    expect(bus.find(1, 0, 0)?.name).toBe('0001:00:00.0');
    await bus.removeRoot(other);
    expect(bus.find(1, 0, 0)).toBeUndefined();
  });

  it('brings up 200 functions in time that does not grow with their square', async () => {
    const machine = (ports: number) => {
      const functions = new Map<number, FakeFunction>();
      for (let index = 0; index < ports; index++) {
        const behind: [number, FakeFunction][] = [];
        for (let fn = 0; fn < 8; fn++) {
          behind.push([fn, new FakeFunction({ multifunction: true, pin: 1, bars: { 0: { size: 0x4000 } } })]);
        }
        functions.set((index + 1) * 8, rootPort(behind));
      }
      return functions;
    };
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(machine(25)));
    expect(bus.devices).toHaveLength(225);
    expect(
      bus.devices.every((dev) => (dev as PciDev).resource[0]?.size === 0 || (dev as PciDev).resource[0]?.parent),
    ).toBe(true);
  });
});

describe('memory below the host bridge', () => {
  it('is reached by DMA of others, as far as functions and bridges decode it', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const pdev = bus.find(0, 6, 0x08) as PciDev;
    const start = pdev.resource[0]?.start ?? 0;
    const into = new Uint8Array(6);
    host.memory.read(start + 2, into);
    expect([...into]).toEqual([255, 255, 255, 255, 255, 255]);
    await enableDevice(pdev);
    host.memory.write(start + 2, Uint8Array.of(1, 2, 3, 4, 5, 6));
    host.memory.read(start + 2, into);
    expect([...into]).toEqual([1, 2, 3, 4, 5, 6]);
    expect(pdev.hw.readBar(0, 4, 4)).toBe(0x0605_0403);
    host.memory.read(start + 2 * PAGE_SIZE * 1024, into);
    disableDevice(pdev);
  });
});

describe('regions of a driver', () => {
  it('are its own, all or none', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const fn = new FakeFunction({ bars: { 0: { size: 0x1000 }, 1: { size: 0x1000 } } });
    await bus.addRoot(rootOf(new Map([[0x10, fn]])));
    const pdev = bus.find(0, 0, 0x10) as PciDev;
    requestSelectedRegions(pdev, 0b10, 'other');
    expect(() => requestSelectedRegions(pdev, 0b11, 'mine')).toThrow(code('EBUSY'));
    requestSelectedRegions(pdev, 0b01, 'mine');
    releaseSelectedRegions(pdev, 0b11);
    requestSelectedRegions(pdev, 0b11, 'mine');
    releaseSelectedRegions(pdev, 0b11);
  });

  it('are mapped for the kernel, wide accesses in two halves', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const fn = new FakeFunction({ bars: { 0: { size: 0x1000 } } });
    await bus.addRoot(rootOf(new Map([[0x10, fn]])));
    const pdev = bus.find(0, 0, 0x10) as PciDev;
    await enableDevice(pdev);
    using bar = iomap(pdev, 0);
    bar.write64(8, 0x1122_3344_5566_7788n);
    expect(bar.read(12, 4)).toBe(0x1122_3344);
    expect(bar.read64(8)).toBe(0x1122_3344_5566_7788n);
    expect(bar.length).toBe(0x1000);
    expect(() => iomap(pdev, 1)).toThrow(code('ENOMEM'));
  });
});
