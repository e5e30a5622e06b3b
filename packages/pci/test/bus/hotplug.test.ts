import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { readConfigWord } from '../../src/bus/config.js';
import { rescanBus, stopAndRemoveBusDevice, surpriseRemove } from '../../src/bus/hotplug.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { PCI_ANY_ID, PciDriver, registerDriver, unregisterDriver } from '../../src/bus/pci-driver.js';
import { ExpType, Reg } from '../../src/bus/regs.js';
import { FakeFunction, pcieCap, rootOf } from './fake-function.js';
import { q35, rootPort, vtd } from './machine.js';

const newHost = () => new Host({ checked: true, clock: new VirtualClock(), iommu: vtd });

async function echo(host: Host, path: string, text: string): Promise<void> {
  const process = host.spawn();
  const fd = await process.open(path, 1);
  await process.write(fd, Buffer.from(text));
  await process.close(fd);
}

describe('removal', () => {
  it('takes everything below a bridge off, drivers first, last function first', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const events: string[] = [];
    const driver = new PciDriver({
      name: 'watcher',
      bus,
      idTable: [
        { vendor: 0x1234, device: 0x11e8, subvendor: PCI_ANY_ID, subdevice: PCI_ANY_ID, class: 0, classMask: 0 },
      ],
      probe: () => {},
      remove: (pdev) => void events.push(pdev.name),
    });
    await registerDriver(driver);
    await stopAndRemoveBusDevice(bus.find(0, 0, 0x60) as PciDev);
    expect(events).toEqual(['0000:06:02.0', '0000:06:01.0']);
    expect(bus.find(0, 5, 0)).toBeUndefined();
    expect(bus.devices.map(({ name }) => name).filter((name) => /:0[56]:|0c\.0/.test(name))).toEqual([]);
    expect(host.iommu.groups.has(15)).toBe(false);
    await unregisterDriver(driver);
  });

  it('by the file `remove`, and back by the file `rescan`, at the same addresses', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const before = bus.find(0, 1, 0)?.resource[0]?.start;
    await echo(host, '/sys/bus/pci/devices/0000:01:00.0/remove', '1\n');
    expect(bus.find(0, 1, 0)).toBeUndefined();
    await echo(host, '/sys/bus/pci/rescan', '1');
    const again = bus.find(0, 1, 0) as PciDev;
    expect(again.resource[0]).toMatchObject({ start: before, name: '0000:01:00.0' });
    expect(again.iommuGroup?.id).toBe(11);
    expect((again.hw as FakeFunction).port).toBeDefined();
  });

  it('ends what the hardware could do: its pin is let go, its DMA meets nothing', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const functions = q35();
    await bus.addRoot(rootOf(functions));
    const fn = functions.get(0x10) as FakeFunction;
    const port = fn.port;
    await stopAndRemoveBusDevice(bus.find(0, 0, 0x10) as PciDev);
    port?.raiseIntx();
    expect(() => port?.dma.read(0x1000n, new Uint8Array(4))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
  });
});

describe('surprise removal', () => {
  it('lets drivers go while config space reads as all ones', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const functions = q35();
    await bus.addRoot(rootOf(functions));
    const seen: number[] = [];
    const driver = new PciDriver({
      name: 'watcher',
      bus,
      idTable: [
        { vendor: 0x1234, device: 0x5678, subvendor: PCI_ANY_ID, subdevice: PCI_ANY_ID, class: 0, classMask: 0 },
      ],
      probe: () => {},
      remove: (pdev) => void seen.push(readConfigWord(pdev, Reg.VENDOR_ID)),
    });
    await registerDriver(driver);
    const pdev = bus.find(0, 1, 0) as PciDev;
    expect(pdev.driver).toBe(driver);
    await surpriseRemove(pdev);
    expect(seen).toEqual([0xffff]);
    expect(bus.find(0, 1, 0)).toBeUndefined();
    await unregisterDriver(driver);
  });
});

describe('slots', () => {
  it('take out and bring back what is in them by the file `power`', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const behind: [number, FakeFunction][] = [
      [0, new FakeFunction({ multifunction: true })],
      [1, new FakeFunction()],
    ];
    await bus.addRoot(rootOf(new Map([[0x08, rootPort(behind)]])));
    const [name = ''] = bus.slotsDir.list();
    await echo(host, `/sys/bus/pci/slots/${name}/power`, '0');
    expect(bus.find(0, 0, 0x08)?.subordinate?.devices).toEqual([]);
    await echo(host, `/sys/bus/pci/slots/${name}/power`, '1');
    expect(bus.find(0, 0, 0x08)?.subordinate?.devices.map((pdev) => pdev.slot?.name)).toEqual([name, name]);
    for (const text of ['2', '255']) {
      const refused = echo(host, `/sys/bus/pci/slots/${name}/power`, text);
      await expect(refused).rejects.toEqual(expect.objectContaining({ code: 'EINVAL' }));
    }
    expect(bus.find(0, 0, 0x08)?.subordinate?.devices).toHaveLength(2);
    await echo(host, `/sys/bus/pci/slots/${name}/power`, 'off');
    expect(bus.find(0, 0, 0x08)?.subordinate?.devices).toEqual([]);
    await echo(host, `/sys/bus/pci/slots/${name}/power`, '257\n');
    expect(bus.find(0, 0, 0x08)?.subordinate?.devices).toHaveLength(2);
  });

  it('are not there where firmware keeps them to itself', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const root = rootOf(new Map([[0x08, rootPort([[0, new FakeFunction()]])]]), { nativeHotplug: false });
    await bus.addRoot(root);
    expect(bus.slotsDir.list()).toEqual([]);
    expect(bus.find(0, 0, 0x08)?.driver?.name).toBe('pcieport');
    expect(bus.find(0, 0, 0x08)?.subordinate?.devices[0]?.slot).toBeUndefined();
  });
});

describe('everybody at once', () => {
  it('removes each function once, and leaves a bus that can be scanned again', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    await bus.addRoot(rootOf(q35()));
    const count = bus.devices.length;
    const [port, card] = [bus.find(0, 0, 0x58) as PciDev, bus.find(0, 4, 1) as PciDev];
    const slots = bus.slotsDir.list();
    await Promise.all([
      stopAndRemoveBusDevice(card),
      echo(host, '/sys/bus/pci/devices/0000:04:00.0/remove', '1'),
      stopAndRemoveBusDevice(port),
      rescanBus(port.pciBus),
      ...slots.map((name) => echo(host, `/sys/bus/pci/slots/${name}/power`, '0')),
      stopAndRemoveBusDevice(port),
    ]);
    await echo(host, '/sys/bus/pci/rescan', '1');
    expect(bus.devices).toHaveLength(count);
  });
});

describe('rescan', () => {
  it('finds a card that came to an empty slot, in the room that its bridge was given', async () => {
    await using host = newHost();
    const bus = await pciInit(host);
    const empty = new Map<number, FakeFunction>();
    const port = new FakeFunction({
      classCode: 0x06_0400,
      pcie: true,
      caps: [pcieCap(ExpType.ROOT_PORT, { slot: true })],
      behind: empty,
    });
    const { rootBus } = await bus.addRoot(
      rootOf(
        new Map([
          [0x08, port],
          [0x10, rootPort([[0, new FakeFunction()]])],
        ]),
      ),
    );
    empty.set(0, new FakeFunction({ bars: { 0: { size: 0x8000 }, 1: { size: 0x20, bits: 1 } } }));
    await rescanBus(rootBus);
    const pdev = bus.find(0, 1, 0);
    expect(pdev?.resource[0]?.parent).toBe(bus.find(0, 0, 0x08)?.resource[14]);
    expect(pdev?.resource[1]?.parent).toBe(bus.find(0, 0, 0x08)?.resource[13]);
    expect(pdev?.slot).toBe(bus.find(0, 0, 0x08)?.subordinate?.slots[0]);
  });
});
