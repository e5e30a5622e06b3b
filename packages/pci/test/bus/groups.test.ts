import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { acsEnabled } from '../../src/bus/acs.js';
import { pciInit } from '../../src/bus/bus-type.js';
import { ExpType } from '../../src/bus/regs.js';
import { FakeFunction, pcieCap, rootOf } from './fake-function.js';
import { q35, vtd } from './machine.js';

const newHost = () => new Host({ checked: true, clock: new VirtualClock(), iommu: vtd });

describe('IOMMU groups', () => {
  it('are those of the recorded machine, in the same order', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const groups = Object.fromEntries(bus.devices.map((dev) => [dev.name.slice(5), dev.iommuGroup?.id]));
    expect(groups).toEqual({
      '00:00.0': 0,
      '00:02.0': 1,
      '00:03.0': 2,
      '00:04.0': 3,
      '00:08.0': 4,
      '00:09.0': 5,
      '00:0a.0': 6,
      '00:0b.0': 7,
      '00:0c.0': 8,
      '00:0d.0': 9,
      '00:1f.0': 10,
      '00:1f.2': 10,
      '00:1f.3': 10,
      '01:00.0': 11,
      '02:00.0': 12,
      '03:00.0': 13,
      '04:00.0': 14,
      '04:00.1': 14,
      '05:00.0': 15,
      '06:01.0': 15,
      '06:02.0': 15,
      '07:00.0': 16,
    });
  });

  it('join everything below a port that does not isolate', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const card = () => new FakeFunction({ pcie: true, caps: [pcieCap(ExpType.ENDPOINT)] });
    const port = (fn: FakeFunction) =>
      new FakeFunction({
        classCode: 0x06_0400,
        pcie: true,
        caps: [pcieCap(ExpType.ROOT_PORT)],
        behind: new Map([[0, fn]]),
      });
    await bus.addRoot(
      rootOf(
        new Map([
          [0x08, port(card())],
          [0x10, port(card())],
        ]),
      ),
    );
    expect(bus.find(0, 1, 0)?.iommuGroup).toBe(bus.find(0, 0, 0x08)?.iommuGroup);
    expect(bus.find(0, 2, 0)?.iommuGroup).toBe(bus.find(0, 0, 0x10)?.iommuGroup);
    expect(bus.find(0, 1, 0)?.iommuGroup).not.toBe(bus.find(0, 2, 0)?.iommuGroup);
  });

  it('need ACS to be switched on, not only to be there', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const port = bus.find(0, 0, 0x40)!;
    expect(acsEnabled(port)).toBe(true);
    port.hw.writeConfig(0x106, 2, 0);
    expect(acsEnabled(port)).toBe(false);
  });

  it('are not there without an IOMMU', async () => {
    await using host = new Host({ checked: true, clock: new VirtualClock() });
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    expect(bus.devices.every((dev) => dev.iommuGroup === undefined)).toBe(true);
  });
});
