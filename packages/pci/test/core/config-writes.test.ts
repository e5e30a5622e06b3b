/*
 * Writes to config space that stand for something else: the pin is masked, a function is reset, sleeps, is given messages, or
 * reads its vital product data.
 */
import { IrqSetFlag, irqSet, PciIrqIndex, Request } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import type { PciWidth } from '../../src/bus/function.js';
import { PowerState } from '../../src/bus/power-state.js';
import { CapId, Command, Exp, ExpType, Msi, Pm, Reg, Status, Vpd } from '../../src/bus/regs.js';
import type { FakeOptions } from '../bus/fake-function.js';
import { afCap, expCap, LabFunction, msiCap, pmCap } from '../bus/service-lab.js';
import { ConfigLab } from './config-lab.js';
import { errno, int32 } from './core-lab.js';

const { INTX_DISABLE } = Command;
const { DATA_EVENTFD, DATA_NONE, ACTION_TRIGGER } = IrqSetFlag;

/** An endpoint whose pin is asserted by hand. */
class PinFunction extends LabFunction {
  #asserted = false;

  constructor(options: FakeOptions = {}) {
    super({ pcie: true, pin: 1, bars: { 0: { size: 0x4000 } }, caps: [expCap(ExpType.ENDPOINT, true)], ...options });
  }

  setPin(asserted: boolean): void {
    this.#asserted = asserted;
    const status = this.readConfig(Reg.STATUS, 2) & ~Status.INTERRUPT;
    this.set(Reg.STATUS, 2, asserted ? status | Status.INTERRUPT : status);
    this.#drive();
  }

  override writeConfig(offset: number, width: PciWidth, value: number): void {
    super.writeConfig(offset, width, value);
    if (offset === Reg.COMMAND || offset === Reg.COMMAND + 1) this.#drive();
  }

  get masked(): boolean {
    return (this.readConfig(Reg.COMMAND, 2) & INTX_DISABLE) !== 0;
  }

  #drive(): void {
    if (this.#asserted && !this.masked) this.port?.raiseIntx();
    else this.port?.lowerIntx();
  }
}

async function connect({ user }: ConfigLab, index: number, fds: readonly number[]): Promise<number> {
  const flags = (fds.length === 0 ? DATA_NONE : DATA_EVENTFD) | ACTION_TRIGGER;
  const head = irqSet.encode(
    { argsz: irqSet.size + 4 * fds.length, flags, index, start: 0, count: fds.length },
    'little',
  );
  return await user.ioctl(Request.DEVICE_SET_IRQS, Buffer.concat([head, ...fds.map(int32)]));
}

/** Takes what an eventfd has counted. */
function take({ user }: ConfigLab, fd: number): number {
  const bytes = new Uint8Array(8);
  try {
    void user.process.read(fd, bytes);
  } catch {
    return 0;
  }
  return bytes[0] ?? 0;
}

const eventfd = ({ user }: ConfigLab) => user.process.eventfd(0, { nonblock: true });

/** How many have ended, after everybody had a few turns. */
async function endedSoon(all: readonly Promise<unknown>[]): Promise<number> {
  let ended = 0;
  for (const one of all) void one.finally(() => ended++);
  for (let turn = 0; turn < 20; turn++) await Promise.resolve();
  return ended;
}

describe('the disable bit of the pin', () => {
  it('PCI-111 stops signals, and signals what is still asserted when it is cleared', async () => {
    const fn = new PinFunction();
    await using lab = await ConfigLab.open(fn);
    const event = eventfd(lab);
    await connect(lab, PciIrqIndex.INTX, [event]);
    await lab.write(Reg.COMMAND, 2, INTX_DISABLE);
    expect([lab.device.virqDisabled, fn.masked]).toEqual([true, true]);
    fn.setPin(true);
    expect(take(lab, event)).toBe(0);
    expect((await lab.read(Reg.COMMAND, 2)) & INTX_DISABLE).toBe(INTX_DISABLE);
    await lab.write(Reg.COMMAND, 2, 0);
    expect(take(lab, event)).toBe(1);
    fn.setPin(false);
  });

  it('PCI-112 is all that a write of the upper byte changes', async () => {
    const fn = new PinFunction();
    await using lab = await ConfigLab.open(fn);
    await lab.user.enableMemory();
    const before = fn.readConfig(Reg.BASE_ADDRESS_0, 4);
    fn.set(Reg.BASE_ADDRESS_0, 4, 0);
    await lab.write(Reg.COMMAND + 1, 1, INTX_DISABLE >> 8);
    expect([fn.masked, lab.device.virqDisabled]).toEqual([true, true]);
    // A lost BAR is not looked for here, and memory stays as it is.
    expect(fn.readConfig(Reg.BASE_ADDRESS_0, 4)).toBe(0);
    expect(lab.device.config?.commandMemory).toBe(true);
    await lab.write(Reg.COMMAND + 1, 1, 0);
    expect([fn.masked, lab.device.virqDisabled]).toEqual([false, false]);
    await lab.user.enableMemory();
    expect(fn.readConfig(Reg.BASE_ADDRESS_0, 4)).toBe(before);
  });

  it('stays with the user of a function that can not mask its pin', async () => {
    const fn = new PinFunction();
    await using lab = await ConfigLab.open(fn, { params: { nointxmask: '1' } });
    expect((await lab.probe(Reg.COMMAND, 2, INTX_DISABLE)) & INTX_DISABLE).toBe(INTX_DISABLE);
    expect(fn.masked).toBe(false);
  });

  it('hazard 13: waits for whoever configures interrupts', async () => {
    const fn = new PinFunction();
    await using lab = await ConfigLab.open(fn);
    const held = await lab.device.igate.lock();
    const write = lab.write(Reg.COMMAND, 2, INTX_DISABLE);
    expect(await endedSoon([write])).toBe(0);
    expect(fn.masked).toBe(false);
    held.release();
    await write;
    expect(fn.masked).toBe(true);
  });
});

describe('power states', () => {
  it('PCI-123 D3hot takes BARs away, not config space; D0 gives all back', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true), pmCap()] });
    const pm = lab.fn.cap(CapId.PM);
    await lab.user.enableMemory();
    await lab.write(pm + Pm.CTRL, 2, 3);
    expect(lab.pdev.currentState).toBe(PowerState.D3hot);
    expect((await lab.read(pm + Pm.CTRL, 2)) & 3).toBe(3);
    expect(await lab.read(0, 4)).toBe(0x5678_1234);
    await expect(async () => await lab.user.read(0, 0, 4)).rejects.toEqual(errno('EIO'));
    const bar = lab.fn.readConfig(Reg.BASE_ADDRESS_0, 4);
    await lab.write(pm + Pm.CTRL, 1, 0);
    expect(lab.fn.kinds).toContain('pm');
    expect(lab.pdev.currentState).toBe(PowerState.D0);
    expect(lab.fn.readConfig(Reg.BASE_ADDRESS_0, 4)).toBe(bar);
    expect(await lab.user.read(0, 0, 4)).toHaveLength(4);
  });

  it('PCI-122 are what the hardware says, not what was written', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true), pmCap()] });
    const pm = lab.fn.cap(CapId.PM);
    // It has neither D1 nor D2.
    expect(await lab.probe(pm + Pm.CTRL, 2, 2)).toBe(0);
    // Only a write that begins at the register asks for a state.
    await lab.write(pm + Pm.CTRL + 1, 1, 3);
    expect(lab.pdev.currentState).toBe(PowerState.D0);
  });
});

describe('resets', () => {
  it('PCI-124 are asked for in device control, once, and the bit reads as zero', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true)] });
    const control = lab.fn.cap(CapId.EXP) + Exp.DEVCTL;
    lab.fn.kinds.length = 0;
    await lab.user.enableMemory();
    const address = await lab.user.mmap(0, 0, 4096);
    let revoked = false;
    const zap = lab.device.mapping.zap.bind(lab.device.mapping);
    lab.device.mapping.zap = (start, end) => {
      revoked = true;
      zap(start, end);
    };
    expect(await lab.probe(control, 2, Exp.DEVCTL_BCR_FLR)).toBe(0);
    expect(lab.fn.kinds).toEqual(['flr']);
    expect(revoked).toBe(true);
    expect(lab.user.process.mm.load(address, 4)).toBe(0n);
    await lab.write(control, 2, 0);
    expect(lab.fn.kinds).toEqual(['flr']);
  });

  it('PCI-124 are not done by a function without FLR', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, false), pmCap()] });
    const control = lab.fn.cap(CapId.EXP) + Exp.DEVCTL;
    lab.fn.kinds.length = 0;
    expect(await lab.probe(control, 2, Exp.DEVCTL_BCR_FLR)).toBe(0);
    expect(lab.fn.kinds).toEqual([]);
  });

  it('PCI-124 that can not be done are not told of', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true)] });
    lab.fn.kinds.length = 0;
    {
      using _held = await lab.pdev.lock.lock();
      expect(await lab.write(lab.fn.cap(CapId.EXP) + Exp.DEVCTL, 2, Exp.DEVCTL_BCR_FLR)).toBe(2);
    }
    expect(lab.fn.kinds).toEqual([]);
  });

  it('PCI-125 by advanced features need both of its bits', async () => {
    const exp = expCap(ExpType.ENDPOINT, false);
    const kindsWith = async (bits: number) => {
      const caps = [exp, { ...afCap, bytes: [6, bits, 0, 0] }];
      await using lab = await ConfigLab.open({ caps });
      const control = lab.fn.cap(CapId.AF) + 4;
      lab.fn.kinds.length = 0;
      expect((await lab.probe(control, 1, 1)) & 1).toBe(0);
      return lab.fn.kinds.length;
    };
    expect(await kindsWith(3)).toBe(1);
    expect(await kindsWith(2)).toBe(0);
    expect(await kindsWith(1)).toBe(0);
  });

  it('hazard 20: PCI-126 payload stays with the user, and read requests are no smaller than it', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true)] });
    const control = lab.fn.cap(CapId.EXP) + Exp.DEVCTL;
    // 512 bytes of payload, as the host has set it.
    lab.fn.set(control, 2, 0x2040);
    expect(await lab.probe(control, 2, 0x20a0)).toBe(0x20a0);
    expect(lab.fn.readConfig(control, 2) & 0xe0).toBe(0x40);
    expect(await lab.probe(control, 2, 0x0000)).toBe(0);
    expect(lab.fn.readConfig(control, 2) & 0x7000).toBe(0x2000);
    await lab.write(control, 2, 0x4000);
    expect(lab.fn.readConfig(control, 2) & 0x7000).toBe(0x4000);
    // There is nothing above 4096 bytes.
    expect(await lab.probe(control, 2, 0x7000)).toBe(0x7000);
    expect(lab.fn.readConfig(control, 2) & 0x7000).toBe(0x4000);
  });
});

describe('MSI', () => {
  it('PCI-121 is not enabled here, nor for more vectors than there are', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true), msiCap(3)] });
    const flags = lab.fn.cap(CapId.MSI) + Msi.FLAGS;
    expect((await lab.probe(flags, 2, 0x0071)) & 0x71).toBe(0);
    expect(lab.fn.readConfig(flags, 2) & 0x71).toBe(0);
    await connect(lab, PciIrqIndex.MSI, [eventfd(lab), eventfd(lab), eventfd(lab)]);
    expect((await lab.probe(flags, 2, 0x0071)) & 0x71).toBe(0x21);
    expect(lab.fn.readConfig(flags, 2) & 0x71).toBe(0x21);
    expect((await lab.probe(flags, 2, 0x0010)) & 0x71).toBe(0x10);
    await connect(lab, PciIrqIndex.MSI, []);
    expect((await lab.probe(flags, 2, 0x0001)) & 1).toBe(0);
  });

  it('PCI-121 keeps what is written of its other bits, up to the byte that is reserved', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true), msiCap(3)] });
    const flags = lab.fn.cap(CapId.MSI) + Msi.FLAGS;
    expect(await lab.read(flags, 2)).toBe(0x0186);
    expect(await lab.probe(flags, 2, 0xffff)).toBe(0x018e);
    expect(await lab.probe(flags, 1, 0)).toBe(0);
    expect(await lab.read(flags + 1, 1)).toBe(1);
  });
});

/** A function with vital product data. */
class VpdFunction extends LabFunction {
  readonly store = new Uint8Array(0x8000);
  stuck = false;

  constructor() {
    super({
      pcie: true,
      pin: 1,
      bars: { 0: { size: 0x4000 } },
      caps: [
        expCap(ExpType.ENDPOINT, true),
        { id: CapId.VPD, bytes: [0, 0, 0, 0, 0, 0], writable: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] },
      ],
    });
    // A name, a word that can be written, the end.
    this.store.set([0x82, 5, 0, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x91, 4, 0, 0, 1, 2, 3, 0x78]);
  }

  override writeConfig(offset: number, width: PciWidth, value: number): void {
    super.writeConfig(offset, width, value);
    const cap = this.cap(CapId.VPD);
    if (offset !== cap + Vpd.ADDR || this.stuck) return;
    const at = value & Vpd.ADDR_MASK;
    if ((value & Vpd.ADDR_F) === 0) {
      this.config.set(this.store.subarray(at, at + 4), cap + Vpd.DATA);
      super.writeConfig(offset, 2, at | Vpd.ADDR_F);
    } else {
      this.store.set(this.config.subarray(cap + Vpd.DATA, cap + Vpd.DATA + 4), at);
      super.writeConfig(offset, 2, at);
    }
  }
}

describe('vital product data', () => {
  it('PCI-128 are read and written a word at a time, and the flag turns around', async () => {
    const fn = new VpdFunction();
    await using lab = await ConfigLab.open(fn);
    const cap = fn.cap(CapId.VPD);
    expect(await lab.probe(cap + Vpd.ADDR, 2, 4)).toBe(0x8004);
    expect(await lab.read(cap + Vpd.DATA, 4)).toBe(0x6f6c_6c65);
    await lab.write(cap + Vpd.DATA, 4, 0x0403_0201);
    expect(await lab.probe(cap + Vpd.ADDR, 2, 0x800c)).toBe(0x000c);
    expect([...fn.store.subarray(12, 16)]).toEqual([1, 2, 3, 4]);
  });

  it('PCI-128 do nothing without the upper byte of the address', async () => {
    const fn = new VpdFunction();
    await using lab = await ConfigLab.open(fn);
    const cap = fn.cap(CapId.VPD);
    expect(await lab.probe(cap + Vpd.ADDR, 1, 4)).toBe(4);
    expect(await lab.read(cap + Vpd.ADDR, 2)).toBe(4);
    expect(await lab.read(cap + Vpd.DATA, 4)).toBe(0);
    expect(await lab.probe(cap + Vpd.ADDR + 1, 1, 0)).toBe(0x80);
  });

  it('PCI-128 leave the flag where it fails', async () => {
    const fn = new VpdFunction();
    await using lab = await ConfigLab.open(fn);
    const cap = fn.cap(CapId.VPD);
    // Behind the end there is nothing to write to, and zeros to read.
    expect(await lab.probe(cap + Vpd.ADDR, 2, 0x8100)).toBe(0x8100);
    await lab.write(cap + Vpd.DATA, 4, 0x55);
    expect(await lab.probe(cap + Vpd.ADDR, 2, 0x0100)).toBe(0x8100);
    expect(await lab.read(cap + Vpd.DATA, 4)).toBe(0);
    fn.stuck = true;
    expect(await lab.probe(cap + Vpd.ADDR, 2, 4)).toBe(4);
    expect(lab.log).toContainEqual(expect.stringContaining('VPD access failed'));
  });

  it('are written to the hardware by the word only', async () => {
    const fn = new VpdFunction();
    await using lab = await ConfigLab.open(fn);
    const cap = fn.cap(CapId.VPD);
    expect(await lab.probe(cap + Vpd.ADDR, 2, 0x800e)).toBe(0x800e);
    expect(fn.store[14]).toBe(3);
  });
});

describe('accesses while the function is being reset', () => {
  it('wait where they need the hardware, and only there', async () => {
    await using lab = await ConfigLab.open({ bars: { 0: { size: 0x4000 } } });
    let free = () => {};
    lab.pdev.cfgBlocked = new Promise<void>((resolve) => {
      free = () => {
        lab.pdev.cfgBlocked = undefined;
        resolve();
      };
    });
    expect(await lab.probe(Reg.BASE_ADDRESS_0, 4, 0xffff_ffff)).toBe(0xffff_c000);
    const read = lab.read(Reg.REVISION_ID, 4);
    const written = lab.write(Reg.CACHE_LINE_SIZE, 1, 8);
    const command = lab.write(Reg.COMMAND, 2, Command.MEMORY);
    expect(await endedSoon([read, written, command])).toBe(0);
    free();
    expect(await read).toBe(0xff00_0010);
    expect([await written, await command]).toEqual([1, 2]);
    expect(lab.fn.readConfig(Reg.COMMAND, 2) & Command.MEMORY).toBe(Command.MEMORY);
  });
});
