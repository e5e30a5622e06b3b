import { describe, expect, it } from 'vitest';
import { CapId, Command, Exp, ExpType, Msi, Msix, Pm, Reg, Sriov, Status, Vpd } from '../../src/bus/regs.js';
import { MemoryBar } from '../../src/hardware/bar.js';
import { addAdvancedFeatures } from '../../src/hardware/capabilities/advanced-features.js';
import { addExpress } from '../../src/hardware/capabilities/express.js';
import { addMsi } from '../../src/hardware/capabilities/msi.js';
import { addMsix } from '../../src/hardware/capabilities/msix.js';
import { addPowerManagement } from '../../src/hardware/capabilities/power-management.js';
import { addAer } from '../../src/hardware/capabilities/simple.js';
import { addSriov } from '../../src/hardware/capabilities/sriov.js';
import { addVpd } from '../../src/hardware/capabilities/vital-product-data.js';
import { EmulatedFunction } from '../../src/hardware/function.js';
import { VirtualFunction } from '../../src/hardware/virtual-function.js';
import { DOORBELL, decoding, plugged } from './hardware-lab.js';

function plain(): EmulatedFunction {
  const fn = new EmulatedFunction({ vendor: 0x1234, device: 0x5678, classCode: 0xff_0000, pin: 1, extended: true });
  fn.addBar(0, { size: 0x1000, space: 'memory' }, new MemoryBar(0x1000));
  fn.addBar(1, { size: 0x20, space: 'io' }, new MemoryBar(0x20));
  return fn;
}

const address = 0xfee0_0000;

describe('decoding', () => {
  it('answers memory and ports as the command register says', () => {
    const fn = plain();
    plugged(fn);
    expect(fn.readBar(0, 0, 4)).toBe(0xffff_ffff);
    decoding(fn, Command.MEMORY);
    fn.writeBar(0, 4, 4, 0x1234_5678);
    fn.writeBar(1, 4, 1, 0x55);
    expect([fn.readBar(0, 4, 4), fn.readBar(0, 5, 1), fn.readBar(1, 4, 1)]).toEqual([0x1234_5678, 0x56, 0xff]);
    decoding(fn, Command.IO);
    expect([fn.readBar(0, 4, 4), fn.readBar(1, 4, 1)]).toEqual([0xffff_ffff, 0]);
    expect(fn.readBar64(0, 0)).toBe(2n ** 64n - 1n);
  });

  it('shows the size of a BAR to who writes ones', () => {
    const fn = new EmulatedFunction({ vendor: 1, device: 1, classCode: 0 });
    fn.addBar(0, { size: 2 ** 33, space: 'memory', wide: true, prefetch: true }, new MemoryBar(16));
    fn.addBar(2, { size: 0x20, space: 'io' }, new MemoryBar(0x20));
    fn.addRom(new MemoryBar(0x800), 0x800);
    for (const register of [0x10, 0x14, 0x18, Reg.ROM_ADDRESS]) fn.writeConfig(register, 4, 0xffff_ffff);
    expect([0x10, 0x14, 0x18, Reg.ROM_ADDRESS].map((at) => fn.readConfig(at, 4))).toEqual([
      0x0000_000c, 0xffff_fffe, 0xffff_ffe1, 0xffff_f801,
    ]);
    expect(() => fn.addBar(5, { size: 16, space: 'memory', wide: true }, new MemoryBar(16))).toThrow(RangeError);
    expect(() => fn.addBar(3, { size: 48, space: 'memory' }, new MemoryBar(48))).toThrow(RangeError);
  });

  it('answers in the ROM while memory and the ROM are on', () => {
    const fn = plain();
    plugged(fn);
    const rom = new MemoryBar(0x800);
    rom.bytes.set([0x55, 0xaa]);
    fn.addRom(rom, 0x800);
    decoding(fn, Command.MEMORY);
    expect(fn.readBar(6, 0, 2)).toBe(0xffff);
    fn.writeConfig(Reg.ROM_ADDRESS, 4, 1);
    expect(fn.readBar(6, 0, 2)).toBe(0xaa55);
    decoding(fn, 0);
    expect(fn.readBar(6, 0, 2)).toBe(0xffff);
  });

  it('answers nothing when it is out of its slot', () => {
    const fn = plain();
    plugged(fn);
    decoding(fn);
    fn.unplug();
    fn.writeConfig(Reg.INTERRUPT_LINE, 1, 5);
    expect([fn.readConfig(0, 4), fn.readConfig(0, 2), fn.readBar(0, 0, 4)]).toEqual([0xffff_ffff, 0xffff, 0xffff_ffff]);
    expect(fn.isBusMaster).toBe(false);
    plugged(fn);
    expect(fn.readConfig(Reg.INTERRUPT_LINE, 1)).toBe(0);
  });
});

describe('power', () => {
  it.each([true, false])('leaves D3hot with its registers or without (%s)', (noSoftReset) => {
    const fn = plain();
    addPowerManagement(fn, { noSoftReset });
    const noted = plugged(fn);
    decoding(fn);
    fn.writeConfig(Reg.INTERRUPT_LINE, 1, 9);
    fn.setIntx(true);
    const control = fn.capabilities.find(CapId.PM) + Pm.CTRL;
    fn.writeConfig(control, 2, 3);
    expect([fn.readBar(0, 0, 4), fn.isBusMaster, noted.pin]).toEqual([0xffff_ffff, false, false]);
    // Config space is there in D3hot.
    expect(fn.readConfig(Reg.INTERRUPT_LINE, 1)).toBe(9);
    fn.writeConfig(control, 2, 0);
    expect(fn.readConfig(Reg.INTERRUPT_LINE, 1)).toBe(noSoftReset ? 9 : 0);
    expect(fn.readBar(0, 0, 4)).toBe(noSoftReset ? 0 : 0xffff_ffff);
    expect(noted.pin).toBe(noSoftReset);
  });

  it('does not enter a state that it has not', () => {
    const fn = plain();
    addPowerManagement(fn, { d2: true });
    const control = fn.capabilities.find(CapId.PM) + Pm.CTRL;
    const states = [1, 2, 1, 3].map((state) => {
      fn.writeConfig(control, 2, state);
      return fn.readConfig(control, 2) & 3;
    });
    expect(states).toEqual([0, 2, 2, 3]);
  });
});

describe('resets', () => {
  it.each(['express', 'af', 'bus'])('brings everything back that does not survive (%s)', (kind) => {
    const fn = plain();
    if (kind === 'express') addExpress(fn, { type: ExpType.ENDPOINT, flr: true });
    else addAdvancedFeatures(fn);
    const aer = addAer(fn);
    const noted = plugged(fn);
    const kinds: string[] = [];
    fn.onReset((why) => kinds.push(why));
    decoding(fn);
    fn.writeConfig(0x10, 4, 0xfe00_0000);
    fn.writeConfig(aer + 8, 4, 0x10);
    fn.setIntx(true);
    if (kind === 'bus') fn.busReset();
    else if (kind === 'af') fn.writeConfig(fn.capabilities.find(CapId.AF) + 4, 1, 1);
    else fn.writeConfig(fn.capabilities.find(CapId.EXP) + Exp.DEVCTL, 2, 0x8000 | 0x1f);
    expect(kinds).toEqual([kind === 'bus' ? 'bus' : 'flr']);
    expect([fn.readConfig(Reg.COMMAND, 2), fn.readConfig(0x10, 4), noted.pin]).toEqual([0, 0, false]);
    expect(fn.readConfig(Reg.STATUS, 2)).toBe(Status.CAP_LIST);
    expect(fn.readConfig(aer + 8, 4)).toBe(0x10);
    if (kind === 'express') expect(fn.readConfig(fn.capabilities.find(CapId.EXP) + Exp.DEVCTL, 2)).toBe(0x2810);
  });

  it('does not know the reset of one function unless it says so', () => {
    const fn = plain();
    addExpress(fn, { type: ExpType.ENDPOINT });
    plugged(fn);
    decoding(fn);
    fn.writeConfig(fn.capabilities.find(CapId.EXP) + Exp.DEVCTL, 2, 0x8000);
    expect(fn.readConfig(Reg.COMMAND, 2)).not.toBe(0);
    expect(fn.readConfig(fn.capabilities.find(CapId.EXP) + Exp.DEVCTL, 2)).toBe(0);
  });
});

describe('interrupts', () => {
  it('lets the pin out unless its disable bit is set, and says so in its status', () => {
    const fn = plain();
    const noted = plugged(fn);
    fn.setIntx(true);
    expect([noted.pin, fn.readConfig(Reg.STATUS, 2) & Status.INTERRUPT]).toEqual([true, Status.INTERRUPT]);
    fn.writeConfig(Reg.COMMAND, 2, Command.INTX_DISABLE);
    expect([noted.pin, fn.readConfig(Reg.STATUS, 2) & Status.INTERRUPT]).toEqual([false, Status.INTERRUPT]);
    fn.writeConfig(Reg.COMMAND, 2, 0);
    expect(noted.pin).toBe(true);
    fn.setIntx(false);
    expect([noted.pin, fn.readConfig(Reg.STATUS, 2) & Status.INTERRUPT]).toEqual([false, 0]);
  });

  it('sends MSI messages, of which vectors share what they were not given', () => {
    const fn = plain();
    const msi = addMsi(fn, { vectors: 8, maskable: true });
    const { messages } = plugged(fn);
    const at = fn.capabilities.find(CapId.MSI);
    decoding(fn);
    fn.writeConfig(at + Msi.ADDRESS_LO, 4, address);
    fn.writeConfig(at + Msi.DATA_64, 2, 0x47);
    msi.fire(0);
    expect(messages).toEqual([]);
    fn.writeConfig(at + Msi.FLAGS, 2, Msi.FLAGS_ENABLE | (2 << 4));
    msi.fire(1);
    msi.fire(6);
    expect(messages.splice(0)).toEqual([
      { address: DOORBELL, data: 0x45 },
      { address: DOORBELL, data: 0x46 },
    ]);
    fn.writeConfig(at + Msi.MASK_64, 4, 0xffff_ffff);
    expect(fn.readConfig(at + Msi.MASK_64, 4)).toBe(0xff);
    msi.fire(3);
    expect(messages).toEqual([]);
    expect(fn.readConfig(at + Msi.PENDING_64, 4)).toBe(0x08);
    fn.writeConfig(at + Msi.MASK_64, 4, 0);
    expect(messages).toEqual([{ address: DOORBELL, data: 0x47 }]);
    expect(fn.readConfig(at + Msi.PENDING_64, 4)).toBe(0);
    decoding(fn, Command.MEMORY);
    msi.fire(0);
    expect(messages).toHaveLength(1);
  });

  it('sends MSI-X messages out of its table, and keeps those that are masked', () => {
    const fn = plain();
    const msix = addMsix(fn, { vectors: 4, bar: 0, table: 0x800, pba: 0xc00 });
    const { messages } = plugged(fn);
    const flags = fn.capabilities.find(CapId.MSIX) + Msix.FLAGS;
    decoding(fn);
    const entry = (vector: number, field: number) => 0x800 + 16 * vector + field;
    expect(fn.readBar(0, entry(2, 12), 4)).toBe(1);
    fn.writeBar(0, entry(2, 0), 4, address + 0x1000);
    fn.writeBar(0, entry(2, 8), 4, 0x1_0022);
    msix.fire(2);
    expect(fn.readBar(0, 0xc00, 4)).toBe(0);
    fn.writeConfig(flags, 2, Msix.FLAGS_ENABLE | Msix.FLAGS_MASKALL);
    msix.fire(2);
    expect([fn.readBar(0, 0xc00, 4), messages.length]).toEqual([4, 0]);
    fn.writeBar(0, entry(2, 12), 4, 0);
    expect(messages).toEqual([]);
    fn.writeConfig(flags, 2, Msix.FLAGS_ENABLE);
    expect(messages.splice(0)).toEqual([{ address: DOORBELL + 0x1000n, data: 0x1_0022 }]);
    expect(fn.readBar(0, 0xc00, 4)).toBe(0);
    fn.writeBar(0, entry(2, 12), 4, 1);
    msix.fire(2);
    expect(messages).toEqual([]);
    fn.writeBar(0, entry(2, 12), 4, 0);
    expect(messages).toHaveLength(1);
    fn.writeBar(0, 0xc00, 4, 0xff);
    expect(fn.readBar(0, 0xc00, 4)).toBe(0);
    fn.busReset();
    decoding(fn);
    expect([fn.readBar(0, entry(2, 0), 4), fn.readBar(0, entry(2, 12), 4)]).toEqual([0, 1]);
    expect(() => msix.fire(4)).toThrow(RangeError);
  });
});

describe('VPD', () => {
  it('moves four bytes at a time, and turns its flag over', () => {
    const fn = plain();
    const data = Uint8Array.of(1, 2, 3, 4, 5, 6, 7, 8);
    addVpd(fn, data);
    const at = fn.capabilities.find(CapId.VPD);
    fn.writeConfig(at + Vpd.ADDR, 2, 4);
    expect([fn.readConfig(at + Vpd.ADDR, 2), fn.readConfig(at + Vpd.DATA, 4)]).toEqual([0x8004, 0x0807_0605]);
    fn.writeConfig(at + Vpd.DATA, 4, 0x0d0c_0b0a);
    fn.writeConfig(at + Vpd.ADDR, 2, 0x8000);
    expect(fn.readConfig(at + Vpd.ADDR, 2)).toBe(0);
    expect([...data]).toEqual([0x0a, 0x0b, 0x0c, 0x0d, 5, 6, 7, 8]);
  });
});

describe('SR-IOV', () => {
  it('has virtual functions while they are enabled, which decode by the physical one', () => {
    const pf = plain();
    addPowerManagement(pf);
    const makeVf = () => {
      const vf = new VirtualFunction(pf, { classCode: 0x02_0000, extended: true });
      vf.addBar(0, { size: 0x1000, space: 'memory' }, new MemoryBar(0x1000));
      plugged(vf);
      return vf;
    };
    const bars = { 0: { size: 0x4000, wide: true, prefetch: true } };
    addSriov(pf, { totalVfs: 4, offset: 0x80, stride: 2, vfDevice: 0x10ca, bars, makeVf });
    plugged(pf);
    const at = pf.capabilities.findExtended(0x10);
    pf.writeConfig(at + Sriov.BAR, 4, 0xffff_ffff);
    expect(pf.readConfig(at + Sriov.BAR, 4)).toBe(0xffff_c00c);
    pf.writeConfig(at + Sriov.NUM_VF, 2, 2);
    expect(pf.virtualFunction(0)).toBeUndefined();
    pf.writeConfig(at + Sriov.CTRL, 2, Sriov.CTRL_VFE);
    const vf = pf.virtualFunction(1);
    expect([pf.virtualFunction(2), vf?.readConfig(0, 4), vf?.readBar(0, 0, 4)]).toEqual([
      undefined,
      0xffff_ffff,
      0xffff_ffff,
    ]);
    vf?.writeConfig(Reg.COMMAND, 2, 0xffff);
    expect(vf?.readConfig(Reg.COMMAND, 2)).toBe(Command.MASTER);
    pf.writeConfig(at + Sriov.CTRL, 2, Sriov.CTRL_VFE | Sriov.CTRL_MSE);
    expect(vf?.readBar(0, 0, 4)).toBe(0);
    const power = pf.capabilities.find(CapId.PM) + Pm.CTRL;
    pf.writeConfig(power, 2, 3);
    expect(vf?.readBar(0, 0, 4)).toBe(0xffff_ffff);
    pf.writeConfig(power, 2, 0);
    expect(vf?.readBar(0, 0, 4)).toBe(0);
    vf?.writeBar(0, 0, 4, 5);
    pf.busReset();
    expect([pf.virtualFunction(1), vf?.readConfig(Reg.REVISION_ID, 4)]).toEqual([undefined, 0xffff_ffff]);
    // The kernel writes what it had: the same ones are there again, reset.
    pf.writeConfig(at + Sriov.NUM_VF, 2, 2);
    pf.writeConfig(at + Sriov.CTRL, 2, Sriov.CTRL_VFE | Sriov.CTRL_MSE);
    expect([pf.virtualFunction(1), vf?.readConfig(Reg.COMMAND, 2), vf?.readBar(0, 0, 4)]).toEqual([vf, 0, 5]);
  });
});
