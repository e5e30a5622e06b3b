import { DeviceInfoFlag, IrqSetFlag, irqSet, PciIrqIndex, Request } from '@vfio/core';
import { describe, expect, it, vi } from 'vitest';
import { readConfigWord, writeConfigWord } from '../../src/bus/config.js';
import { PciDriver, registerDriver, unregisterDriver } from '../../src/bus/pci-driver.js';
import { Command, Reg } from '../../src/bus/regs.js';
import { releaseSelectedRegions, requestSelectedRegions } from '../../src/bus/resources.js';
import type { FakeFunction } from '../bus/fake-function.js';
import {
  CoreLab,
  errno,
  everyBar,
  int32,
  labBridge,
  NAME,
  type OpenFunction,
  OTHER,
  plainDriver,
  stubborn,
} from './core-lab.js';

/** Two functions of one device behind a port. */
function pair(first: FakeFunction, second: FakeFunction): [number, FakeFunction][] {
  first.set(Reg.HEADER_TYPE, 1, 0x80);
  return [
    [
      0x08,
      labBridge([
        [0, first],
        [1, second],
      ]),
    ],
  ];
}

async function connect(open: OpenFunction, index: number, fd: number): Promise<number> {
  const flags = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER;
  const head = irqSet.encode({ argsz: irqSet.size + 4, flags, index, start: 0, count: 1 }, 'little');
  return await open.ioctl(Request.DEVICE_SET_IRQS, Buffer.concat([head, int32(fd)]));
}

describe('open', () => {
  it('PCI-037 takes bus mastering away before the state is saved', async () => {
    // awake, so that nothing but the open itself touches the bit
    await using lab = await CoreLab.create({ bind: [NAME], params: { disable_idle_d3: '1' } });
    const pdev = lab.pdev();
    writeConfigWord(pdev, Reg.COMMAND, Command.MASTER);
    const open = await lab.open();
    expect((lab.device().pciSavedState?.header[1] ?? 0) & Command.MASTER).toBe(0);
    expect(readConfigWord(pdev, Reg.COMMAND) & Command.MASTER).toBe(0);
    await open.close();
  });

  it('PCI-038 fails with EAGAIN while somebody has the lock, and leaves the function off and asleep', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const pdev = lab.pdev();
    const held = await pdev.lock.lock();
    await expect(lab.open()).rejects.toEqual(errno('EAGAIN'));
    held.release();
    expect(pdev.enableCnt).toBe(0);
    expect(pdev.pm.status).toBe('suspended');
    expect(lab.device().openCount).toBe(0);
  });

  it('PCI-039 CORE-132 succeeds without a way to reset; the device says so and refuses RESET', async () => {
    await using lab = await CoreLab.create({ functions: pair(stubborn(), stubborn()), bind: [NAME] });
    const open = await lab.open();
    expect((await open.info()).flags).toBe(DeviceInfoFlag.PCI);
    await expect(open.reset()).rejects.toEqual(errno('EINVAL'));
    await open.close();
  });

  it('says RESET and resets with one, to be seen by the function', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    expect((await open.info()).flags).toBe(DeviceInfoFlag.PCI | DeviceInfoFlag.RESET);
    const before = fn.kinds.length;
    await open.reset();
    expect(fn.kinds.slice(before)).toEqual(['flr']);
    await open.close();
  });

  it.each([0x1572, 0x1574, 0x1581, 0x1583, 0x158b, 0x37d2, 0x1563])(
    'PCI-040 a function with a broken pin (8086:%s) has none, and keeps it disabled',
    async (device) => {
      const fn = everyBar({ vendor: 0x8086, device });
      await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
      const open = await lab.open();
      expect(lab.device().nointx).toBe(true);
      expect(lab.device().irqs.count(PciIrqIndex.INTX)).toBe(0);
      expect(fn.readConfig(Reg.COMMAND, 2) & Command.INTX_DISABLE).toBe(Command.INTX_DISABLE);
      await open.close();
    },
  );

  it('PCI-041 clears a disable bit that is set after the reset, when the pin can be masked by it', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const { driver } = lab.pdev();
    if (!(driver instanceof PciDriver)) throw new Error('no driver');
    const resetDone = () => fn.set(Reg.COMMAND, 2, Command.INTX_DISABLE);
    vi.spyOn(driver.pci, 'errHandler', 'get').mockReturnValue({ resetDone });
    const open = await lab.open();
    expect(lab.device().pci23).toBe(true);
    expect(fn.readConfig(Reg.COMMAND, 2) & Command.INTX_DISABLE).toBe(0);
    await open.close();
    lab.pdev().brokenIntxMasking = true;
    const again = await lab.open();
    expect(lab.device().pci23).toBe(false);
    expect(fn.readConfig(Reg.COMMAND, 2) & Command.INTX_DISABLE).toBe(Command.INTX_DISABLE);
    await again.close();
  });

  it('PCI-042 succeeds with a BAR that somebody else has claimed; accesses to that one are EBUSY', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    requestSelectedRegions(lab.pdev(), 1, 'somebody');
    const open = await lab.open();
    await open.enableMemory();
    await expect(open.read(0, 0, 4)).rejects.toEqual(errno('EBUSY'));
    await expect(open.mmap(0, 0, 4096)).rejects.toEqual(errno('EBUSY'));
    expect(await open.read(2, 0, 4)).toHaveLength(4);
    await open.close();
    releaseSelectedRegions(lab.pdev(), 1);
  });

  it('PCI-043 a BAR that is not there has no size and no flags, and can not be read', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    expect(await open.region(3)).toMatchObject({ size: 0n, flags: 0 });
    await expect(open.read(3, 0, 4)).rejects.toEqual(errno('EINVAL'));
    await open.close();
  });

  it('PCI-044 BARs that may not be mapped are described, without MMAP, and refuse accesses with ENODEV', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    lab.pdev().nonMappableBars = true;
    const open = await lab.open();
    await open.enableMemory();
    expect(await open.region(0)).toMatchObject({ size: 0x4000n, flags: 3 });
    await expect(open.read(0, 0, 4)).rejects.toEqual(errno('ENODEV'));
    await expect(open.mmap(0, 0, 4096)).rejects.toEqual(errno('EINVAL'));
    await open.close();
  });

  it('PCI-045 only the first descriptor enables, and only the last one disables', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const first = await lab.open();
    const resets = fn.kinds.length;
    const second = await lab.openBeside(first, NAME);
    expect(fn.kinds).toHaveLength(resets);
    expect(lab.pdev().enableCnt).toBe(1);
    await first.process.close(first.fd);
    expect(lab.pdev().enableCnt).toBe(1);
    expect(fn.kinds).toHaveLength(resets);
    await second.close();
    expect(lab.pdev().enableCnt).toBe(0);
    expect(fn.kinds.length).toBeGreaterThan(resets);
  });
});

describe('close', () => {
  it('PCI-046 ends interrupts before config space, and restores the state after the reset', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    const device = lab.device();
    const order: string[] = [];
    const { config } = device;
    if (!config) throw new Error('not open');
    const disable = device.irqs.disable.bind(device.irqs);
    vi.spyOn(device.irqs, 'disable').mockImplementation(async () => {
      order.push('irqs');
      await disable();
    });
    vi.spyOn(config, 'free').mockImplementation(() => void order.push('config'));
    const reset = fn.writeConfig.bind(fn);
    vi.spyOn(fn, 'writeConfig').mockImplementation((offset, width, value) => {
      const kinds = fn.kinds.length;
      reset(offset, width, value);
      if (fn.kinds.length > kinds) order.push('reset');
      else if (offset === Reg.BASE_ADDRESS_0) order.push('restore');
    });
    await open.close();
    expect(order).toEqual(['irqs', 'config', 'reset', 'restore']);
  });

  it('PCI-047 the command register has only the disable bit during the reset', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    await open.command(Command.MEMORY | Command.MASTER);
    const seen: number[] = [];
    const write = fn.writeConfig.bind(fn);
    vi.spyOn(fn, 'writeConfig').mockImplementation((offset, width, value) => {
      const before = fn.readConfig(Reg.COMMAND, 2);
      const kinds = fn.kinds.length;
      write(offset, width, value);
      if (fn.kinds.length > kinds) seen.push(before);
    });
    await open.close();
    expect(seen).toEqual([Command.INTX_DISABLE]);
  });

  it('PCI-048 does not reset while somebody has the lock of the bridge; the state is restored, the need stays', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    const resets = fn.kinds.length;
    await open.command(Command.MASTER | Command.MEMORY);
    const bridge = lab.pdev().pciBus.self;
    if (!bridge) throw new Error('no bridge');
    const held = await bridge.lock.lock();
    await open.close();
    held.release();
    expect(fn.kinds).toHaveLength(resets);
    expect(lab.device().needsReset).toBe(true);
    expect(fn.readConfig(Reg.COMMAND, 2) & Command.MASTER).toBe(0);
  });

  it('PCI-049 does not tell the own driver of the reset, which an open does', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const { driver } = lab.pdev();
    if (!(driver instanceof PciDriver)) throw new Error('no driver');
    const handlers = driver.pci.errHandler;
    const told: string[] = [];
    if (!handlers) throw new Error('no handlers');
    vi.spyOn(driver.pci, 'errHandler', 'get').mockReturnValue({
      ...handlers,
      resetPrepare: () => void told.push('prepare'),
      resetDone: () => void told.push('done'),
    });
    const open = await lab.open();
    expect(told).toEqual(['prepare', 'done']);
    await open.close();
    expect(told).toEqual(['prepare', 'done']);
  });

  it('PCI-050 the last one of a set resets the bus once, if one of them was not reset', async () => {
    const first = stubborn();
    const second = stubborn();
    await using lab = await CoreLab.create({ functions: pair(first, second), bind: [NAME, OTHER] });
    const open = await lab.open();
    const other = await lab.openBeside(open, OTHER);
    await open.process.close(open.fd);
    expect(first.kinds).toEqual([]);
    expect(lab.device(NAME).needsReset).toBe(true);
    await open.process.close(other.fd);
    expect(first.kinds).toEqual(['bus']);
    expect(second.kinds).toEqual(['bus']);
    expect(lab.device(NAME).needsReset).toBe(false);
    expect(lab.device(OTHER).needsReset).toBe(false);
    await open.process.exit();
  });

  it('H20 with two drivers in one set it is reset once, with the last close of both', async () => {
    const first = stubborn();
    const second = stubborn();
    await using lab = await CoreLab.create({ functions: pair(first, second), bind: [NAME] });
    const driver = await plainDriver(lab);
    await lab.bind(OTHER, 'plain');
    const open = await lab.open();
    const other = await lab.openBeside(open, OTHER);
    await open.process.close(other.fd);
    expect([first.kinds, second.kinds]).toEqual([[], []]);
    await open.process.close(open.fd);
    expect([first.kinds, second.kinds]).toEqual([['bus'], ['bus']]);
    expect([NAME, OTHER].map((name) => lab.device(name).needsReset)).toEqual([false, false]);
    await open.process.exit();
    await lab.unbind(OTHER);
    await unregisterDriver(driver);
  });

  it('PCI-051 another open member keeps the bus from being reset', async () => {
    const first = stubborn();
    await using lab = await CoreLab.create({ functions: pair(first, stubborn()), bind: [NAME, OTHER] });
    const open = await lab.open();
    await lab.openBeside(open, OTHER);
    await open.process.close(open.fd);
    expect(first.kinds).toEqual([]);
    expect(lab.device(NAME).needsReset).toBe(true);
    await open.process.exit();
  });

  it('PCI-052 so does a function of another driver', async () => {
    const first = stubborn();
    await using lab = await CoreLab.create({ functions: pair(first, stubborn()), bind: [NAME] });
    const driver = new PciDriver({ name: 'foreign', bus: lab.bus, managesDma: true, probe: () => {} });
    await registerDriver(driver);
    await lab.root.writeFile(`/sys/bus/pci/devices/${OTHER}/driver_override`, 'foreign');
    await lab.root.writeFile('/sys/bus/pci/drivers/foreign/bind', OTHER);
    const open = await lab.open();
    await open.close();
    expect(first.kinds).toEqual([]);
    expect(lab.device(NAME).needsReset).toBe(true);
    await unregisterDriver(driver);
  });

  it('PCI-053 drops the eventfds of errors and requests', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    await connect(open, PciIrqIndex.ERR, open.process.eventfd(0, {}));
    await connect(open, PciIrqIndex.REQ, open.process.eventfd(0, {}));
    const { irqs } = lab.device();
    expect([irqs.err.connected, irqs.req.connected]).toEqual([true, true]);
    await open.process.close(open.fd);
    expect([irqs.err.connected, irqs.req.connected]).toEqual([false, false]);
    await open.process.exit();
  });

  it('gives back every claim and mapping, whatever the user has left', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    await open.command(Command.MEMORY | Command.MASTER);
    await open.mmap(0, 0, 4096);
    await open.process.exit();
    for (const resource of lab.pdev().resource) expect(resource.children).toEqual([]);
    expect(lab.device().barmap.every((mapped) => typeof mapped !== 'object')).toBe(true);
    expect(lab.pdev().isBusmaster).toBe(false);
  });
});
