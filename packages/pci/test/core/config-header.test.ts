/*
 * The header of config space: ids, command and status, BARs, and how accesses are cut.
 */
import { describe, expect, it } from 'vitest';
import type { PciWidth } from '../../src/bus/function.js';
import { Command, ExpType, Reg } from '../../src/bus/regs.js';
import { expCap } from '../bus/service-lab.js';
import { ConfigLab } from './config-lab.js';
import { CONFIG, CoreLab, errno, isolatingPort, NAME, physical } from './core-lab.js';

const { IO, MASTER, MEMORY } = Command;
const BAR0 = Reg.BASE_ADDRESS_0;

describe('accesses', () => {
  it('PCI-100 that are not wholly inside fail with EFAULT, and transfer nothing', async () => {
    await using lab = await ConfigLab.open();
    const bytes = new Uint8Array(8).fill(0xaa);
    const at = CONFIG * 2 ** 40;
    await expect(async () => await lab.user.process.pread(lab.user.fd, bytes, at + 0xffc)).rejects.toEqual(
      errno('EFAULT'),
    );
    await expect(async () => await lab.user.process.pread(lab.user.fd, bytes, at + 0x1000)).rejects.toEqual(
      errno('EFAULT'),
    );
    expect(bytes.every((byte) => byte === 0xaa)).toBe(true);
    await expect(lab.write(0xffe, 4, 0)).rejects.toEqual(errno('EFAULT'));
    expect(await lab.write(0xfff, 1, 0)).toBe(1);
  });

  it('PCI-100 end with EFAULT where the buffer does, and what was done is done', async () => {
    await using lab = await ConfigLab.open();
    const { process, fd } = lab.user;
    const page = await process.mm.mmap({ length: 4096, prot: 3 });
    const argument = { addr: page + 4092n, length: 8 };
    const at = CONFIG * 2 ** 40 + Reg.CACHE_LINE_SIZE;
    process.mm.store(page + 4092n, 4, 0x0042n);
    lab.fn.set(Reg.CACHE_LINE_SIZE, 1, 0, 0xff);
    await expect(async () => await process.pwrite(fd, argument, at)).rejects.toEqual(errno('EFAULT'));
    expect(lab.fn.readConfig(Reg.CACHE_LINE_SIZE, 1)).toBe(0x42);
    await expect(async () => await process.pread(fd, argument, at)).rejects.toEqual(errno('EFAULT'));
  });

  it('PCI-101 of three bytes at an odd offset are one byte and two', async () => {
    await using lab = await ConfigLab.open();
    const cycles = cyclesOf(lab.fn);
    await lab.read(0x09, 3);
    expect(cycles.filter(([offset]) => offset >= 0x09 && offset < 0x0c)).toEqual([
      [0x09, 1],
      [0x0a, 2],
    ]);
  });

  it('never cross a dword or two capabilities', async () => {
    await using lab = await ConfigLab.open({ caps: [expCap(ExpType.ENDPOINT, true), { id: 9, bytes: [6, 1, 2, 3] }] });
    const vendor = lab.fn.cap(9);
    const cycles = cyclesOf(lab.fn);
    await lab.read(vendor + 4, 4);
    await lab.read(0xfe, 4);
    expect(cycles).toEqual([
      [vendor + 4, 2],
      [vendor + 6, 2],
      [0xfe, 2],
      [0x100, 2],
    ]);
  });
});

/** Reads of the hardware from now on. */
function cyclesOf(fn: { readConfig(offset: number, width: PciWidth): number }): [number, number][] {
  const cycles: [number, number][] = [];
  const before = fn.readConfig.bind(fn);
  fn.readConfig = (offset, width) => {
    cycles.push([offset, width]);
    return before(offset, width);
  };
  return cycles;
}

describe('the header', () => {
  it('PCI-103 drops writes to the ids and to what nobody may change', async () => {
    await using lab = await ConfigLab.open();
    expect(await lab.probe(0, 4, 0xffff_ffff)).toBe(0x5678_1234);
    expect(await lab.probe(Reg.REVISION_ID, 4, 0)).toBe(0xff00_0010);
    expect(await lab.probe(Reg.SUBSYSTEM_VENDOR_ID, 4, 0)).toBe(0x1100_1af4);
  });

  it('hazard 17: PCI-102 of a virtual function has its ids, no pin, and memory enabled', async () => {
    const pf = physical(2);
    for (const vf of pf.vfs) vf.set(Reg.INTERRUPT_PIN, 1, 1);
    await using lab = await CoreLab.create({
      functions: [[0x08, isolatingPort([[0, pf]])]],
      params: { enable_sriov: '1' },
      bind: [NAME],
    });
    const vfs = `/sys/bus/pci/devices/${NAME}/sriov_numvfs`;
    await lab.root.writeFile(vfs, '1');
    const options = ' vf_token=2ab74924-c335-45f4-9b16-8569e5b08258';
    const owner = await lab.open(NAME, { options });
    const user = await lab.open('0000:01:10.0', { options });
    expect(pf.vfs[0]?.readConfig(0, 4)).toBe(0xffff_ffff);
    expect([...(await user.read(CONFIG, 0, 4))]).toEqual([0x34, 0x12, 0xca, 0x10]);
    expect([...(await user.read(CONFIG, Reg.INTERRUPT_PIN, 1))]).toEqual([0]);
    expect(lab.host.log.entries.map(({ text }) => text)).toContain('Masking broken INTx support');
    const memory = async () => ((await user.read(CONFIG, Reg.COMMAND, 2))[0] ?? 0) & MEMORY;
    pf.vfs[0]?.set(Reg.COMMAND, 2, 0, 0);
    expect(await memory()).toBe(MEMORY);
    await user.command(0);
    expect(await memory()).toBe(0);
    await user.process.exit();
    await owner.process.exit();
    await lab.root.writeFile(vfs, '0');
  });

  it('hides the pin of a function that has no interrupt', async () => {
    await using lab = await ConfigLab.open({ pin: 0 });
    expect(await lab.read(Reg.INTERRUPT_PIN, 1)).toBe(0);
  });

  it('keeps the interrupt line for the user, and the pin as it is', async () => {
    await using lab = await ConfigLab.open({ line: 11 });
    expect(await lab.probe(Reg.INTERRUPT_LINE, 2, 0xffff)).toBe(0x01ff);
    expect(lab.fn.readConfig(Reg.INTERRUPT_LINE, 1)).toBe(11);
  });

  it('PCI-107 does not let errors be cleared', async () => {
    await using lab = await ConfigLab.open();
    lab.fn.set(Reg.STATUS, 2, 0xf910, 0xf900);
    const writes: number[] = [];
    const before = lab.fn.writeConfig.bind(lab.fn);
    lab.fn.writeConfig = (offset, width, value) => {
      writes.push(offset);
      before(offset, width, value);
    };
    expect(await lab.probe(Reg.STATUS, 2, 0xffff)).toBe(0xf910);
    expect(writes).toEqual([]);
  });
});

describe('BARs', () => {
  const bars = { 0: { size: 0x4000 }, 1: { size: 0x100, bits: 1 }, 2: { size: 0x1_0000, bits: 12 } };

  it('PCI-104 tell their size without the hardware being written', async () => {
    await using lab = await ConfigLab.open({ bars });
    const real = lab.fn.readConfig(BAR0, 4);
    expect(await lab.probe(BAR0, 4, 0xffff_ffff)).toBe(0xffff_c000);
    expect(await lab.probe(BAR0, 4, 0x1234_5678)).toBe(0x1234_4000);
    expect(await lab.probe(BAR0 + 4, 4, 0xffff_ffff)).toBe(0xffff_ff01);
    expect(await lab.probe(BAR0 + 4, 4, 0)).toBe(1);
    expect(lab.fn.readConfig(BAR0, 4)).toBe(real);
    // Byte by byte, as well.
    expect(await lab.probe(BAR0 + 1, 1, 0xff)).toBe(0xc0);
  });

  it('PCI-105 of 64 bits have two dwords, and those without an address are zero', async () => {
    await using lab = await ConfigLab.open({
      bars: { 2: { size: 0x1_0000, bits: 12 }, 4: { size: 2 ** 33, bits: 12 } },
    });
    await lab.write(BAR0 + 8, 4, 0xffff_ffff);
    await lab.write(BAR0 + 12, 4, 0xffff_ffff);
    expect(await lab.read(BAR0 + 8, 4)).toBe(0xffff_000c);
    expect(await lab.read(BAR0 + 12, 4)).toBe(0xffff_ffff);
    expect(await lab.probe(BAR0, 4, 0xffff_ffff)).toBe(0);
    await lab.write(BAR0 + 16, 4, 0xffff_ffff);
    await lab.write(BAR0 + 20, 4, 0xffff_ffff);
    expect(await lab.read(BAR0 + 16, 4)).toBe(0xc);
    expect(await lab.read(BAR0 + 20, 4)).toBe(0xffff_fffe);
  });

  it('a port whose address has bit 2 is taken for a wide BAR', async () => {
    await using lab = await ConfigLab.open({ bars: { 0: { size: 4, bits: 1 }, 1: { size: 0x4000 } } });
    await lab.write(BAR0 + 4, 4, 0xffff_ffff);
    expect(await lab.probe(BAR0, 4, 0x1005)).toBe(0x1005);
    expect(await lab.read(BAR0 + 4, 4)).toBe(0xffff_ffff);
    await lab.write(BAR0 + 4, 4, 0xffff_ffff);
    expect(await lab.probe(BAR0, 4, 0x1001)).toBe(0x1001);
    expect(await lab.read(BAR0 + 4, 4)).toBe(0xffff_c000);
  });

  it('PCI-106 of a ROM keep the bit that enables it', async () => {
    await using lab = await ConfigLab.open({ rom: 0x1_0000 });
    expect(await lab.probe(Reg.ROM_ADDRESS, 4, 0xffff_ffff)).toBe(0xffff_0001);
    expect(await lab.probe(Reg.ROM_ADDRESS, 4, 0xffff_f800)).toBe(0xffff_0000);
    expect(lab.fn.readConfig(Reg.ROM_ADDRESS, 4) & 1).toBe(0);
  });

  it('PCI-106 of a ROM are zero where there is none', async () => {
    await using lab = await ConfigLab.open();
    expect(await lab.probe(Reg.ROM_ADDRESS, 4, 0xffff_ffff)).toBe(0);
  });
});

describe('the command register', () => {
  it('PCI-108 takes mappings away when memory is switched off', async () => {
    await using lab = await ConfigLab.open({ bars: { 0: { size: 0x4000 } } });
    await lab.user.enableMemory();
    const { mm } = lab.user.process;
    const address = await lab.user.mmap(0, 0, 0x1000);
    mm.load(address, 4);
    await lab.write(Reg.COMMAND, 2, 0);
    expect(() => mm.load(address, 4)).toThrow('SIGBUS');
    await lab.write(Reg.COMMAND, 1, MEMORY);
    expect(mm.load(address, 4)).toBe(0n);
  });

  it('PCI-109 gives bus mastering to the hardware, and keeps the disable bit of the pin', async () => {
    await using lab = await ConfigLab.open({ pin: 0 });
    expect(await lab.probe(Reg.COMMAND, 2, 0xffff)).toBe(0x0507);
    expect(lab.fn.readConfig(Reg.COMMAND, 2)).toBe(IO | MEMORY | MASTER | 0x100);
  });

  it('PCI-110 puts BARs back that the hardware has lost', async () => {
    await using lab = await ConfigLab.open({ bars: { 0: { size: 0x4000 }, 1: { size: 0x100, bits: 1 } }, rom: 0x800 });
    const real = [0, 4, 0x20].map((offset) => lab.fn.readConfig(BAR0 + offset, 4));
    await lab.user.enableMemory();
    lab.fn.busReset();
    lab.fn.set(BAR0, 4, 0);
    lab.fn.set(BAR0 + 4, 4, 1);
    await lab.write(Reg.COMMAND, 2, MEMORY);
    expect([0, 4, 0x20].map((offset) => lab.fn.readConfig(BAR0 + offset, 4))).toEqual(real);
    expect(lab.log).toContain('vfio_bar_restore: reset recovery - restoring BARs');
  });

  it('PCI-110 leaves the hardware alone while nothing is lost', async () => {
    await using lab = await ConfigLab.open();
    await lab.user.enableMemory();
    await lab.write(Reg.COMMAND, 2, 0);
    await lab.user.enableMemory();
    expect(lab.log).not.toContain('vfio_bar_restore: reset recovery - restoring BARs');
  });
});
