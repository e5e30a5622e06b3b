import { Feature, FeatureFlag, IrqSetFlag, irqSet, PciIrqIndex, Request } from '@vfio/core';
import { describe, expect, it, vi } from 'vitest';
import { doRecovery } from '../../src/bus/aer-recovery.js';
import { PowerState } from '../../src/bus/power-state.js';
import { CapId, Pm, Reg } from '../../src/bus/regs.js';
import { aerErrDetected } from '../../src/core/events.js';
import { setPowerState } from '../../src/core/power.js';
import { expCap, pmCap } from '../bus/service-lab.js';
import { CONFIG, CoreLab, errno, everyBar, int32, labBridge, NAME, type OpenFunction } from './core-lab.js';

const ENTRY = Feature.LOW_POWER_ENTRY;
const WITH_WAKEUP = Feature.LOW_POWER_ENTRY_WITH_WAKEUP;
const EXIT = Feature.LOW_POWER_EXIT;

async function connect(open: OpenFunction, index: number, fd: number): Promise<number> {
  const flags = IrqSetFlag.DATA_EVENTFD | IrqSetFlag.ACTION_TRIGGER;
  const head = irqSet.encode({ argsz: irqSet.size + 4, flags, index, start: 0, count: 1 }, 'little');
  return await open.ioctl(Request.DEVICE_SET_IRQS, Buffer.concat([head, int32(fd)]));
}

/** What an eventfd has counted. */
function count({ process }: OpenFunction, fd: number): bigint {
  const bytes = new Uint8Array(8);
  try {
    void process.read(fd, bytes);
  } catch {
    return 0n;
  }
  return new DataView(bytes.buffer).getBigUint64(0, true);
}

const wakeup = (fd: number) => [...int32(fd), 0, 0, 0, 0];

describe('low power', () => {
  it('PCI-147 is entered once and left as often as one likes', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    const { pm } = lab.pdev();
    await expect(open.feature(ENTRY | FeatureFlag.GET)).rejects.toEqual(errno('EINVAL'));
    expect(await open.setFeature(ENTRY)).toBe(0);
    expect(pm.status).toBe('suspended');
    await expect(open.setFeature(ENTRY)).rejects.toEqual(errno('EINVAL'));
    expect(pm.status).toBe('suspended');
    expect(await open.setFeature(EXIT)).toBe(0);
    expect(await open.setFeature(EXIT)).toBe(0);
    expect(pm.status).toBe('active');
    expect(pm.usageCount).toBe(1);
    await open.process.exit();
    expect(pm.usageCount).toBe(0);
  });

  it('without a wake-up lasts over accesses, which wake the function for as long as they take', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    await open.enableMemory();
    await open.setFeature(ENTRY);
    const { pm } = lab.pdev();
    const resumed = vi.spyOn(pm, 'resumeAndGet');
    expect(await open.read(0, 0x1000, 4)).toHaveLength(4);
    expect(await open.read(CONFIG, 0, 4)).toHaveLength(4);
    expect((await open.info()).numRegions).toBe(9);
    expect(resumed).toHaveBeenCalledTimes(3);
    expect(pm.status).toBe('suspended');
    expect(lab.device().pmRuntimeEngaged).toBe(true);
    await open.process.exit();
    expect(lab.device().pmRuntimeEngaged).toBe(false);
  });

  it('PCI-148 tells of the wake-up once, which ends it', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    const event = open.process.eventfd(0, { nonblock: true });
    await expect(open.setFeature(WITH_WAKEUP, wakeup(-1))).rejects.toEqual(errno('EINVAL'));
    await expect(open.setFeature(WITH_WAKEUP, wakeup(999))).rejects.toEqual(errno('EBADF'));
    await expect(open.setFeature(WITH_WAKEUP, wakeup(open.fd))).rejects.toEqual(errno('EINVAL'));
    await expect(open.setFeature(WITH_WAKEUP, wakeup(event).slice(1))).rejects.toEqual(errno('EINVAL'));
    expect(await open.setFeature(WITH_WAKEUP, wakeup(event))).toBe(0);
    expect(lab.pdev().pm.status).toBe('suspended');
    expect(count(open, event)).toBe(0n);
    await open.info();
    expect(count(open, event)).toBe(1n);
    expect(lab.pdev().pm.status).toBe('active');
    expect(lab.device().pmRuntimeEngaged).toBe(false);
    await open.info();
    expect(count(open, event)).toBe(0n);
    expect(await open.setFeature(EXIT)).toBe(0);
    expect(lab.pdev().pm.usageCount).toBe(1);
    await open.process.exit();
  });

  it('PCI-148 an access to mapped memory is SIGBUS and wakes nobody', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    await open.enableMemory();
    const address = await open.mmap(4, 0, 4096);
    const event = open.process.eventfd(0, { nonblock: true });
    open.process.mm.load(address, 4);
    await open.setFeature(WITH_WAKEUP, wakeup(event));
    expect(() => open.process.mm.load(address, 4)).toThrow('SIGBUS');
    expect(lab.pdev().pm.status).toBe('suspended');
    expect(count(open, event)).toBe(0n);
    await open.setFeature(EXIT);
    expect(open.process.mm.load(address, 4)).toBe(0n);
    await open.process.exit();
  });

  it('PCI-148 also where an administrator keeps the function awake', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    await open.enableMemory();
    const address = await open.mmap(4, 0, 4096);
    await lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/power/control`, 'on');
    await open.setFeature(ENTRY);
    expect(lab.pdev().pm.status).toBe('active');
    expect(() => open.process.mm.load(address, 4)).toThrow('SIGBUS');
    await open.setFeature(EXIT);
    expect(open.process.mm.load(address, 4)).toBe(0n);
    await lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/power/control`, 'auto');
    await open.process.exit();
  });

  it('gives the eventfd back when it is refused, left or closed', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    const event = open.process.eventfd(0, { nonblock: true });
    await open.setFeature(ENTRY);
    await expect(open.setFeature(WITH_WAKEUP, wakeup(event))).rejects.toEqual(errno('EINVAL'));
    await open.setFeature(EXIT);
    await open.setFeature(WITH_WAKEUP, wakeup(event));
    await open.process.exit();
    expect(lab.device().pmWakeEventfd).toBeUndefined();
  });

  it('PCI-149 masks the pin while the function sleeps, and unmasks it only if it did', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    const device = lab.device();
    const event = open.process.eventfd(0, { nonblock: true });
    await connect(open, PciIrqIndex.INTX, event);
    expect(device.irqs.intx.masked).toBe(false);
    await open.setFeature(ENTRY);
    expect([device.pmIntxMasked, device.irqs.intx.masked]).toEqual([true, true]);
    await open.setFeature(EXIT);
    expect(device.irqs.intx.masked).toBe(false);
    device.irqs.intxMask();
    await open.setFeature(ENTRY);
    expect(device.pmIntxMasked).toBe(false);
    await open.setFeature(EXIT);
    expect(device.irqs.intx.masked).toBe(true);
    await open.process.exit();
  });

  it('is in the function what sysfs says', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const status = () => lab.root.readFile(`/sys/bus/pci/devices/${NAME}/power/runtime_status`);
    const state = () => fn.readConfig(lab.pdev().pmCap + Pm.CTRL, 2) & Pm.CTRL_STATE_MASK;
    expect([await status(), state()]).toEqual(['suspended\n', 3]);
    const open = await lab.open();
    expect([await status(), state()]).toEqual(['active\n', 0]);
    await open.process.exit();
    expect([await status(), state()]).toEqual(['suspended\n', 3]);
  });
});

describe('power states', () => {
  it('a function that forgets in D3 gets its state back with D0', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    await open.enableMemory();
    expect(lab.device().needsPmRestore).toBe(true);
    const bar = fn.readConfig(Reg.BASE_ADDRESS_0, 4);
    await setPowerState(lab.device(), PowerState.D3hot);
    expect(lab.device().pmSave).toBeDefined();
    await setPowerState(lab.device(), PowerState.D0);
    expect(fn.kinds.at(-1)).toBe('pm');
    expect(lab.device().pmSave).toBeUndefined();
    expect(fn.readConfig(Reg.BASE_ADDRESS_0, 4)).toBe(bar);
    expect(fn.readConfig(Reg.COMMAND, 2) & 2).toBe(2);
    await open.process.exit();
  });

  it('one that keeps it is left alone', async () => {
    const fn = everyBar({ caps: [expCap(0, true), pmCap({ keeps: true })] });
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    expect(lab.device().needsPmRestore).toBe(false);
    await setPowerState(lab.device(), PowerState.D3hot);
    expect(lab.device().pmSave).toBeUndefined();
    await setPowerState(lab.device(), PowerState.D0);
    await open.process.exit();
  });

  it('a reset and a close find a function in D3, and bring it back', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME] });
    const open = await lab.open();
    await setPowerState(lab.device(), PowerState.D3hot);
    expect(await open.reset()).toBe(0);
    expect(lab.pdev().currentState).toBe(PowerState.D0);
    await setPowerState(lab.device(), PowerState.D3hot);
    await open.process.exit();
    expect(lab.device().pmSave).toBeUndefined();
    expect(lab.device().needsReset).toBe(false);
  });
});

describe('events', () => {
  it('PCI-150 an error is signalled, and answered in the same way without somebody who listens', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    expect(await aerErrDetected(lab.pdev())).toBe('can-recover');
    const event = open.process.eventfd(0, { nonblock: true });
    await connect(open, PciIrqIndex.ERR, event);
    expect(await aerErrDetected(lab.pdev())).toBe('can-recover');
    expect(count(open, event)).toBe(1n);
    await doRecovery(lab.pdev(), 'non-fatal');
    expect(count(open, event)).toBe(1n);
    await open.process.exit();
  });

  it('PCI-151 a request is signalled each time; without somebody who listens it is warned of once', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    const device = lab.device();
    for (let time = 0; time < 3; time++) device.request(time);
    const event = open.process.eventfd(0, { nonblock: true });
    await connect(open, PciIrqIndex.REQ, event);
    for (let time = 0; time < 12; time++) device.request(time);
    expect(count(open, event)).toBe(12n);
    const said = lab.host.log.entries.filter(({ text }) => text.includes('request'));
    expect(said.map(({ level, text }) => [level, text])).toEqual([
      ['warn', 'No device request channel registered, blocked until released by user'],
      ['notice', 'Relaying device request to user (#0)'],
      ['notice', 'Relaying device request to user (#10)'],
    ]);
    await open.process.exit();
  });

  it('PCI-154 a feature of other buses, or of none, is ENOTTY', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    for (const feature of [Feature.BUS_MASTER, 4711, Feature.MIGRATION]) {
      await expect(open.setFeature(feature, Array(16).fill(0))).rejects.toEqual(errno('ENOTTY'));
    }
    await expect(open.ioctl(0x3b99)).rejects.toEqual(errno('ENOTTY'));
    await open.process.exit();
  });

  it('buffers for other devices are offered by vfio-pci, and by others only if they say so', async () => {
    await using lab = await CoreLab.create({ bind: [NAME] });
    const open = await lab.open();
    expect(await open.feature(Feature.DMA_BUF | FeatureFlag.GET | FeatureFlag.PROBE)).toBe(0);
    lab.device().exportsDmaBufs = false;
    await expect(open.feature(Feature.DMA_BUF | FeatureFlag.GET, Array(32).fill(0))).rejects.toEqual(
      errno('EOPNOTSUPP'),
    );
    await open.process.exit();
  });
});

describe('a function that does not wake up any more', () => {
  it('can be taken from its driver, and given to it', async () => {
    const fn = everyBar();
    await using lab = await CoreLab.create({ functions: [[0x08, labBridge([[0, fn]])]], bind: [NAME] });
    expect(lab.pdev().pm.status).toBe('suspended');
    const control = fn.cap(CapId.PM) + Pm.CTRL;
    const readConfig = fn.readConfig.bind(fn);
    vi.spyOn(fn, 'readConfig').mockImplementation((offset, width) =>
      offset === control ? readConfig(offset, width) | Pm.CTRL_STATE_MASK : readConfig(offset, width),
    );
    await lab.unbind();
    expect(lab.pdev().driver).toBeUndefined();
    await lab.bind();
    expect(lab.pdev().driver?.name).toBe('vfio-pci');
  });
});
