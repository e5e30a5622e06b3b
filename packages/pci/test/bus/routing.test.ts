import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { disableDevice, enableDevice } from '../../src/bus/enable.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { Command, Reg } from '../../src/bus/regs.js';
import { FakeFunction, rootOf } from './fake-function.js';
import { q35 } from './machine.js';

const newHost = () => new Host({ checked: true, clock: new VirtualClock() });

describe('interrupt pins', () => {
  it('have the number of firmware until the function is enabled, then that of their line', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const pdev = bus.find(0, 0, 0x10) as PciDev;
    expect([pdev.irq, pdev.irqLine]).toEqual([11, undefined]);
    await enableDevice(pdev);
    expect([pdev.irq, pdev.irqLine?.irq, pdev.irqLine?.level]).toEqual([18, 18, true]);
  });

  it('are shifted by slot at each bridge', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const line = async (number: number, devfn: number) => {
      const pdev = bus.find(0, number, devfn) as PciDev;
      await enableDevice(pdev);
      return pdev.irqLine?.irq;
    };
    expect(await line(0, 0x60)).toBe(16);
    expect(await line(5, 0)).toBe(16);
    expect(await line(6, 0x08)).toBe(17);
    expect(await line(6, 0x10)).toBe(18);
  });

  it('share a wire, which is asserted while one of them is', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const [a, b] = [new FakeFunction({ pin: 1 }), new FakeFunction({ pin: 1 })];
    await bus.addRoot(
      rootOf(
        new Map([
          [0x10, a],
          [0x30, b],
        ]),
      ),
    );
    const [one, two] = [bus.find(0, 0, 0x10) as PciDev, bus.find(0, 0, 0x30) as PciDev];
    a.port?.raiseIntx();
    await enableDevice(one);
    await enableDevice(two);
    expect(one.irqLine).toBe(two.irqLine);
    expect(one.irqLine?.asserted).toBe(true);
    b.port?.raiseIntx();
    a.port?.lowerIntx();
    expect(one.irqLine?.asserted).toBe(true);
    b.port?.lowerIntx();
    expect(one.irqLine?.asserted).toBe(false);
  });

  it('that lead nowhere have no line', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35(), { routeIntx: () => undefined }));
    const pdev = bus.find(0, 0, 0x10) as PciDev;
    await enableDevice(pdev);
    expect(pdev.irqLine).toBeUndefined();
  });
});

describe('enableDevice', () => {
  it('switches on what there is, here and in the bridges above, and is counted', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const pdev = bus.find(0, 6, 0x08) as PciDev;
    await enableDevice(pdev);
    await enableDevice(pdev);
    const bridge = pdev.pciBus.self;
    expect(pdev.hw.readConfig(Reg.COMMAND, 2)).toBe(Command.MEMORY);
    expect((bridge?.hw.readConfig(Reg.COMMAND, 2) ?? 0) & Command.MASTER).toBe(Command.MASTER);
    disableDevice(pdev);
    expect(pdev.enableCnt).toBe(1);
    disableDevice(pdev);
    expect([pdev.enableCnt, pdev.isBusmaster]).toEqual([0, false]);
  });

  it('refuses a function whose BAR has found no room', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const fn = new FakeFunction({ bars: { 0: { size: 0x10_0000 } } });
    await bus.addRoot(rootOf(new Map([[0x10, fn]]), { memory: [{ start: 0xc000_0000, end: 0xc000_ffff }] }));
    const pdev = bus.find(0, 0, 0x10) as PciDev;
    await expect(enableDevice(pdev)).rejects.toEqual(expect.objectContaining({ code: 'EINVAL' }));
    expect(pdev.enableCnt).toBe(0);
  });
});
