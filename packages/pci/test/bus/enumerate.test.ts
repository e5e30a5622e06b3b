import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { readConfigByte, readConfigDword } from '../../src/bus/config.js';
import { ExpType } from '../../src/bus/regs.js';
import { ResourceFlag } from '../../src/bus/resource-tree.js';
import { FakeFunction, pcieCap, rootOf } from './fake-function.js';

const newHost = () => new Host({ checked: true, clock: new VirtualClock() });

describe('enumeration', () => {
  it('finds functions, reads their headers and sizes what they decode', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const fn = new FakeFunction({
      bars: { 0: { size: 0x10_0000 }, 2: { size: 0x20, bits: 1 }, 4: { size: 2 ** 33, bits: 0xc } },
      rom: 0x1_0000,
    });
    await bus.addRoot(rootOf(new Map([[0x10, fn]])));
    const pdev = bus.find(0, 0, 0x10);
    expect(pdev).toMatchObject({ name: '0000:00:02.0', vendor: 0x1234, deviceId: 0x5678, classCode: 0xff_0000 });
    expect(pdev).toMatchObject({ subsystemVendor: 0x1af4, subsystemDevice: 0x1100, revision: 0x10, cfgSize: 256 });
    expect(pdev?.resource.map(({ size }) => size).slice(0, 7)).toEqual([0x10_0000, 0, 0x20, 0, 2 ** 33, 0, 0x1_0000]);
    expect(pdev?.resource[0]?.flags).toBe(0x4_0200);
    expect(pdev?.resource[2]?.flags).toBe(0x4_0101);
    expect(pdev?.resource[4]?.flags).toBe(0x14_220c);
    expect(pdev?.resource[6]?.flags).toBe(0x4_6200);
    const start = pdev?.resource[0]?.start ?? 0;
    expect(start % 0x10_0000).toBe(0);
    expect(readConfigDword(pdev!, 0x10)).toBe(start);
    expect(readConfigDword(pdev!, 0x24)).toBe(Math.floor((pdev?.resource[4]?.start ?? 0) / 2 ** 32));
  });

  it('numbers bridges, opens their windows, and finds what is behind', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const card = new FakeFunction({ pcie: true, caps: [pcieCap(ExpType.ENDPOINT)], bars: { 0: { size: 0x1000 } } });
    const bridge = new FakeFunction({
      classCode: 0x06_0400,
      pcie: true,
      caps: [pcieCap(ExpType.ROOT_PORT)],
      behind: new Map([[0, card]]),
    });
    await bus.addRoot(rootOf(new Map([[0x08, bridge]])));
    const port = bus.find(0, 0, 0x08);
    const pdev = bus.find(0, 1, 0);
    expect(pdev?.name).toBe('0000:01:00.0');
    expect(pdev?.sysfs.path()).toBe('/sys/devices/pci0000:00/0000:00:01.0/0000:01:00.0');
    expect(port?.driver?.name).toBe('pcieport');
    expect([0x18, 0x19, 0x1a].map((register) => readConfigByte(port!, register))).toEqual([0, 1, 1]);
    const [window, bar] = [port?.resource[14], pdev?.resource[0]];
    expect(bar?.parent).toBe(window);
    expect(window?.size).toBe(0x10_0000);
    expect((window?.flags ?? 0) & ResourceFlag.MEM).not.toBe(0);
  });

  it('leaves what firmware has assigned where it is', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const fn = new FakeFunction({ bars: { 0: { size: 0x1000, at: 0xd000_0000 } } });
    await bus.addRoot(rootOf(new Map([[0x10, fn]])));
    expect(bus.find(0, 0, 0x10)?.resource[0]?.start).toBe(0xd000_0000);
  });
});
