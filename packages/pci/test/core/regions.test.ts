import { DeviceInfoFlag, PciAtomicComp, RegionInfoCap, RegionInfoFlag } from '@vfio/core';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { PowerState } from '../../src/bus/power-state.js';
import { Command, Exp, ExpType } from '../../src/bus/regs.js';
import { mapRom } from '../../src/bus/rom.js';
import { setPowerState } from '../../src/core/power.js';
import { registerDevRegion } from '../../src/core/regions/device-region.js';
import { pcieCap } from '../bus/fake-function.js';
import { expCap, msixCap, pmCap } from '../bus/service-lab.js';
import {
  CoreLab,
  errno,
  everyBar,
  isolatingPort,
  LabFunction,
  labBridge,
  labEndpoint,
  NAME,
  type OpenFunction,
  physical,
  ROM,
  VGA,
} from './core-lab.js';

const { READ, WRITE, MMAP, CAPS } = RegionInfoFlag;

async function opened(
  fn: LabFunction = everyBar(),
  vfio = {},
): Promise<{ lab: CoreLab; open: OpenFunction; fn: LabFunction }> {
  const lab = await CoreLab.create({ functions: [[8, labBridge([[0, fn]])]], bind: [NAME], ...vfio });
  const open = await lab.open();
  await open.enableMemory();
  return { lab, open, fn };
}

/** Cycles that a function sees in its BARs: `r4@0x10`. */
function cycles(fn: LabFunction): string[] {
  const seen: string[] = [];
  const { readBar, writeBar } = fn;
  vi.spyOn(fn, 'readBar').mockImplementation((bar, offset, width) => {
    seen.push(`r${width}@${offset}`);
    return readBar.call(fn, bar, offset, width);
  });
  vi.spyOn(fn, 'writeBar').mockImplementation((bar, offset, width, value) => {
    seen.push(`w${width}@${offset}=${value.toString(16)}`);
    writeBar.call(fn, bar, offset, width, value);
  });
  Object.assign(fn, {
    readBar64: (_bar: number, offset: number) => {
      seen.push(`r8@${offset}`);
      return 0x0807_0605_0403_0201n;
    },
    writeBar64: (_bar: number, offset: number, value: bigint) => void seen.push(`w8@${offset}=${value.toString(16)}`),
  });
  return seen;
}

/** A ROM with one image of 1 KiB in a BAR of 4. */
function withRom(valid = true): LabFunction {
  const fn = everyBar({ rom: 0x1000 });
  const image = new Uint8Array(0x1000).fill(0xff);
  image.fill(0x11, 0, 0x400);
  if (valid) image.set([0x55, 0xaa]);
  image.set([0x20, 0], 0x18);
  image.set([0x50, 0x43, 0x49, 0x52], 0x20);
  image.set([2, 0], 0x30);
  image.set([0x80], 0x35);
  fn.memory.set(ROM, image);
  return fn;
}

afterEach(() => {
  vi.restoreAllMocks();
});

describe('device info', () => {
  it('PCI-072 needs 16 bytes, and writes no more than it is given', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    await expect(open.info(15)).rejects.toEqual(errno('EINVAL'));
    const info = await open.info(16);
    expect(info).toMatchObject({ flags: DeviceInfoFlag.PCI | DeviceInfoFlag.RESET, numRegions: 9, numIrqs: 5 });
    await open.process.exit();
  });

  it('PCI-073 PCI-074 tells atomic operations that reach the root, or how much room that needs', async () => {
    const { id, bytes, writable } = expCap(ExpType.ENDPOINT, true);
    const own = [...bytes];
    own[Exp.DEVCAP2 - 2] = 0x80;
    own[Exp.DEVCAP2 - 1] = 0x03;
    const root = pcieCap(ExpType.ROOT_PORT);
    const port = [...root.bytes];
    port[Exp.DEVCAP2 - 2] = 0x80;
    port[Exp.DEVCAP2 - 1] = 0x01;
    const make = (portBytes: readonly number[]) => {
      const fn = everyBar({ caps: [{ id, bytes: own, ...(writable ? { writable } : {}) }, pmCap()] });
      const caps = [{ id: root.id, bytes: portBytes }];
      const behind = new Map([[0, fn]]);
      return new LabFunction({ classCode: 0x06_0400, pcie: true, caps, behind });
    };
    await using lab = await CoreLab.create({ functions: [[8, make(port)]], bind: [NAME] });
    const open = await lab.open();
    const full = await open.info(64);
    expect(full.flags & DeviceInfoFlag.CAPS).toBe(DeviceInfoFlag.CAPS);
    expect(full.capOffset).toBe(24);
    // 128 bits are the function's, but not the root's
    expect([...full.bytes.subarray(24, 36)]).toEqual([
      5,
      0,
      1,
      0,
      0,
      0,
      0,
      0,
      PciAtomicComp.COMP32 | PciAtomicComp.COMP64,
      0,
      0,
      0,
    ]);
    const small = await open.info(24);
    expect(small).toMatchObject({ argsz: 40, capOffset: 0 });
    await open.process.exit();
    await using without = await CoreLab.create({ functions: [[8, make(root.bytes)]], bind: [NAME] });
    const other = await without.open();
    expect((await other.info(64)).flags & DeviceInfoFlag.CAPS).toBe(0);
    await other.process.exit();
  });

  it('PCI-075 PCI-082 counts the regions that a device has besides', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    await expect(open.region(9)).rejects.toEqual(errno('EINVAL'));
    registerDevRegion(lab.device(), { type: 0x8000_8086, subtype: 1, size: 0x2000, flags: READ, ops: { rw: () => 3 } });
    expect((await open.info()).numRegions).toBe(10);
    const region = await open.region(9);
    expect(region).toMatchObject({ size: 0x2000n, flags: READ | CAPS, offset: 9n << 40n, capOffset: 32 });
    expect([...region.bytes.subarray(32, 48)]).toEqual([2, 0, 1, 0, 0, 0, 0, 0, 0x86, 0x80, 0, 0x80, 1, 0, 0, 0]);
    expect(await open.read(9, 0, 8)).toHaveLength(3);
    await expect(open.region(10)).rejects.toEqual(errno('EINVAL'));
    await open.process.exit();
    expect(lab.device().regions).toEqual([]);
  });
});

describe('region info', () => {
  it('PCI-076 of all regions, at 40 bits from each other', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    const regions = [];
    for (let index = 0; index < 8; index++) {
      const { flags, size, offset } = await open.region(index);
      regions.push([flags, size]);
      expect(offset).toBe(BigInt(index) << 40n);
    }
    expect(regions).toEqual([
      [READ | WRITE | MMAP | CAPS, 0x4000n],
      [READ | WRITE, 0x100n],
      [READ | WRITE | MMAP, 0x100n],
      [0, 0n],
      [READ | WRITE | MMAP, 0x1_0000n],
      [0, 0n],
      [0, 0n],
      [READ | WRITE, 4096n],
    ]);
    await open.process.exit();
  });

  it('PCI-077 PCI-078 the BAR of the MSI-X table says that it can be mapped, and nothing of sparse areas', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    const region = await open.region(0);
    expect(region.capOffset).toBe(32);
    expect([...region.bytes.subarray(32, 40)]).toEqual([RegionInfoCap.MSIX_MAPPABLE, 0, 1, 0, 0, 0, 0, 0]);
    expect((await open.region(4)).flags & CAPS).toBe(0);
    await open.process.exit();
    lab.pdev().nonMappableBars = true;
    const again = await lab.open();
    expect((await again.region(0)).flags).toBe(READ | WRITE);
    await again.process.exit();
  });

  it('PCI-079 the ROM has the size of its BAR if there is an image in it, with memory switched on for the look', async () => {
    const { lab, open } = await opened(withRom());
    await using _lab = lab;
    await open.command(0);
    expect(await open.region(ROM)).toMatchObject({ size: 0x1000n, flags: READ });
    expect(lab.pdev().hw.readConfig(4, 2) & Command.MEMORY).toBe(0);
    await open.process.exit();
    const bad = await opened(withRom(false));
    await using _bad = bad.lab;
    expect(await bad.open.region(ROM)).toMatchObject({ size: 0n, flags: 0 });
    await bad.open.process.exit();
  });

  it('PCI-080 a ROM that only the platform has is as large as its BAR would be, and can be read', async () => {
    const fn = everyBar();
    Object.assign(fn, { platformRom: Uint8Array.from({ length: 0x300 }, (_, at) => at) });
    const { lab, open } = await opened(fn);
    await using _lab = lab;
    expect(await open.region(ROM)).toMatchObject({ size: 0x400n, flags: READ });
    const bytes = await open.read(ROM, 0x2fc, 0x10);
    expect([...bytes]).toEqual([0xfc, 0xfd, 0xfe, 0xff, ...Array(12).fill(0xff)]);
    expect(await open.read(ROM, 0x3f8, 0x10)).toHaveLength(8);
    await open.process.exit();
  });

  it('PCI-081 there is no VGA region without VGA', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    await expect(open.region(VGA)).rejects.toEqual(errno('EINVAL'));
    await expect(open.read(VGA, 0x3c0, 1)).rejects.toEqual(errno('EINVAL'));
    await open.process.exit();
  });
});

describe('read and write', () => {
  it('PCI-083 of nothing is nothing, wherever', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    expect(await open.read(50, 0, 0)).toHaveLength(0);
    expect(await open.write(50, 0, [])).toBe(0);
    await expect(open.read(9, 0, 1)).rejects.toEqual(errno('EINVAL'));
    await open.process.exit();
  });

  it('PCI-084 a ROM can not be written', async () => {
    const { lab, open } = await opened(withRom());
    await using _lab = lab;
    await expect(open.write(ROM, 0, [1])).rejects.toEqual(errno('EINVAL'));
    await open.process.exit();
  });

  it('PCI-085 end with the BAR', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    await expect(open.read(2, 0x100, 1)).rejects.toEqual(errno('EINVAL'));
    expect(await open.read(2, 0xfe, 8)).toHaveLength(2);
    expect(await open.write(2, 0xff, [1, 2, 3])).toBe(1);
    await open.process.exit();
  });

  it('PCI-086 are as wide as can be: eight bytes in a BAR, four in a ROM', async () => {
    const { lab, open, fn } = await opened(withRom());
    await using _lab = lab;
    const seen = cycles(fn);
    const bytes = await open.read(4, 0x10, 16);
    expect(seen.splice(0)).toEqual(['r8@16', 'r8@24']);
    expect([...bytes]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 1, 2, 3, 4, 5, 6, 7, 8]);
    await open.write(4, 0x10, [1, 2, 3, 4, 5, 6, 7, 8]);
    expect(seen.splice(0)).toEqual(['w8@16=807060504030201']);
    // what the mapping itself has read is not the user's
    using rom = mapRom(lab.pdev());
    expect(rom?.size).toBe(0x400);
    seen.length = 0;
    await open.read(ROM, 0x40, 16);
    expect(seen.slice(-4)).toEqual(['r4@64', 'r4@68', 'r4@72', 'r4@76']);
    await open.process.exit();
  });

  it('PCI-087 begin and end with what alignment allows', async () => {
    const { lab, open, fn } = await opened();
    await using _lab = lab;
    const seen = cycles(fn);
    await open.read(4, 1, 7);
    expect(seen.splice(0)).toEqual(['r1@1', 'r2@2', 'r4@4']);
    await open.write(4, 3, [1, 2, 3, 4, 5, 6]);
    expect(seen.splice(0)).toEqual(['w1@3=1', 'w4@4=5040302', 'w1@8=6']);
    await open.process.exit();
  });

  it('PCI-088 leave the MSI-X table alone, and reach what is beside it', async () => {
    const { lab, open, fn } = await opened(
      everyBar({ caps: [expCap(ExpType.ENDPOINT, true), pmCap(), msixCap(4, 4)] }),
    );
    await using _lab = lab;
    fn.memory.get(4)?.fill(0x5a, 0, 0x100);
    expect([...(await open.read(4, 0x3c, 8))]).toEqual([0xff, 0xff, 0xff, 0xff, 0x5a, 0x5a, 0x5a, 0x5a]);
    expect(await open.write(4, 0x3c, [1, 2, 3, 4, 5, 6, 7, 8])).toBe(8);
    expect([...(fn.memory.get(4)?.subarray(0x3c, 0x44) ?? [])]).toEqual([0x5a, 0x5a, 0x5a, 0x5a, 5, 6, 7, 8]);
    expect([...(await open.read(4, 0, 0x40))]).toEqual(Array(0x40).fill(0xff));
    await open.process.exit();
  });

  it('PCI-089 behind the image of a ROM is nothing', async () => {
    const { lab, open } = await opened(withRom());
    await using _lab = lab;
    expect([...(await open.read(ROM, 0x3fe, 6))]).toEqual([0x11, 0x11, 0xff, 0xff, 0xff, 0xff]);
    expect([...(await open.read(ROM, 0xffe, 6))]).toEqual([0xff, 0xff]);
    await open.command(0);
    await expect(open.read(ROM, 0, 4)).rejects.toEqual(errno('ENOMEM'));
    await open.process.exit();
  });

  it('PCI-090 are EIO while memory is off, but for ports', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    await open.command(Command.IO);
    await expect(open.read(0, 0x1000, 4)).rejects.toEqual(errno('EIO'));
    await expect(open.write(0, 0x1000, [1])).rejects.toEqual(errno('EIO'));
    await open.write(1, 0, [0x77]);
    expect([...(await open.read(1, 0, 1))]).toEqual([0x77]);
    await open.process.exit();
  });

  it('PCI-091 of a virtual function work whatever its memory bit is', async () => {
    await using lab = await CoreLab.create({
      functions: [[8, isolatingPort([[0, physical()]])]],
      params: { enable_sriov: '1' },
      bind: [NAME],
    });
    await lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/sriov_numvfs`, '1');
    const vf = '0000:01:10.0';
    const pf = await lab.open(NAME, { options: ' vf_token=2ab74924-c335-45f4-9b16-8569e5b08258' });
    const open = await lab.open(vf, { options: ' vf_token=2ab74924-c335-45f4-9b16-8569e5b08258' });
    await open.command(0);
    expect(await open.read(0, 0, 4)).toHaveLength(4);
    await open.process.exit();
    await pf.process.exit();
    await lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/sriov_numvfs`, '0');
  });

  it('PCI-096 that fail in the middle are an error, and what was done is done', async () => {
    const { lab, open, fn } = await opened();
    await using _lab = lab;
    const seen = cycles(fn);
    const { mm } = open.process;
    const page = await mm.mmap({ length: 4096, prot: 3 });
    const argument = { addr: page + 4092n, length: 12 };
    const position = 4 * 2 ** 40;
    const transfer = async (write: boolean) =>
      await (write
        ? open.process.pwrite(open.fd, argument, position + 4)
        : open.process.pread(open.fd, argument, position + 4));
    await expect(transfer(true)).rejects.toEqual(errno('EFAULT'));
    expect(seen.splice(0)).toEqual(['w4@4=0']);
    await expect(transfer(false)).rejects.toEqual(errno('EFAULT'));
    expect(seen.splice(0)).toEqual(['r4@4', 'r8@8']);
    await open.process.exit();
  });

  it('wait for whoever changes whether the memory answers, and then see what came of it', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    const held = await lab.device().memoryLock.write();
    let done = false;
    const read = open.read(0, 0x1000, 4).finally(() => {
      done = true;
    });
    for (let turn = 0; turn < 20; turn++) await Promise.resolve();
    expect(done).toBe(false);
    await setPowerState(lab.device(), PowerState.D3hot);
    held.release();
    await expect(read).rejects.toEqual(errno('EIO'));
    await setPowerState(lab.device(), PowerState.D0);
    await open.process.exit();
  });

  it('wake a function that sleeps; one that can not be woken is EIO', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    const { pm } = lab.pdev();
    await pm.put();
    expect(pm.status).toBe('suspended');
    const resume = vi.spyOn(pm, 'resumeAndGet');
    expect(await open.read(0, 0x1000, 4)).toHaveLength(4);
    expect(resume).toHaveBeenCalledTimes(1);
    expect(pm.status).toBe('suspended');
    await pm.resumeAndGet();
    await open.process.exit();
  });
});

describe('mmap', () => {
  it('PCI-093 refuses private mappings, the ROM, config space, and what is behind the end', async () => {
    const { lab, open } = await opened(withRom());
    await using _lab = lab;
    await expect(open.mmap(0, 0, 4096, false)).rejects.toEqual(errno('EINVAL'));
    for (const index of [1, 3, ROM, 7, VGA, 9]) {
      await expect(open.mmap(index, 0, 4096), `region ${index}`).rejects.toEqual(errno('EINVAL'));
    }
    await expect(open.mmap(0, 0, 0x5000)).rejects.toEqual(errno('EINVAL'));
    await expect(open.mmap(0, 0x4000, 4096)).rejects.toEqual(errno('EINVAL'));
    expect(await open.mmap(0, 0x3000, 4096)).toBeGreaterThan(0n);
    await open.process.exit();
  });

  it('PCI-094 a small BAR at the start of a page can be mapped, and nobody gets the rest of that page', async () => {
    const { lab, open, fn } = await opened(labEndpoint({ bars: { 2: { size: 0x100 } } }));
    await using _lab = lab;
    const pdev = lab.pdev();
    const bar = pdev.resource[2];
    const parent = bar?.parent;
    if (!bar || !parent) throw new Error('no BAR');
    expect(bar.start % 4096).toBe(0);
    expect((await open.region(2)).flags & MMAP).toBe(MMAP);
    const address = await open.mmap(2, 0, 4096);
    const { mm } = open.process;
    mm.store(address + 0xf8n, 4, 0xabn);
    expect(mm.load(address + 0xf8n, 4)).toBe(0xabn);
    const seen = cycles(fn);
    expect(mm.load(address + 0x100n, 4)).toBe(0xffff_ffffn);
    expect(mm.load(address + 0x108n, 8)).toBe(0xffff_ffff_ffff_ffffn);
    mm.store(address + 0x100n, 4, 1n);
    expect(seen).toEqual([]);
    await expect(open.mmap(2, 0, 8192)).rejects.toEqual(errno('EINVAL'));
    expect(parent.children.some(({ name, end }) => name === 'vfio sub-page reserved' && end === bar.start + 4095)).toBe(
      true,
    );
    await open.process.exit();
    expect(parent.children.some(({ name }) => name === 'vfio sub-page reserved')).toBe(false);
  });

  it('PCI-095 an access with memory off is SIGBUS; the mapping stays and works again', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    const { mm } = open.process;
    await open.command(0);
    const address = await open.mmap(4, 0, 0x2000);
    expect(() => mm.load(address, 4)).toThrow('SIGBUS');
    await open.enableMemory();
    mm.store(address + 8n, 8, 0x1122_3344_5566_7788n);
    expect(mm.load(address + 8n, 8)).toBe(0x1122_3344_5566_7788n);
    expect(mm.load(address + 8n, 2)).toBe(0x7788n);
    expect(mm.load(address + 15n, 1)).toBe(0x11n);
    await open.command(0);
    expect(() => mm.load(address, 4)).toThrow('SIGBUS');
    await open.enableMemory();
    expect(mm.load(address + 12n, 4)).toBe(0x1122_3344n);
    await open.process.exit();
  });

  it('is zapped and faults back over a reset of the function', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    const address = await open.mmap(4, 0, 4096);
    const zap = vi.spyOn(lab.device().mapping, 'zap');
    open.process.mm.load(address, 4);
    await open.reset();
    expect(zap).toHaveBeenCalledWith(0, 6 * 2 ** 40);
    expect(open.process.mm.load(address, 4)).toBe(0n);
    await open.process.exit();
  });

  it('leaves with D3hot and comes back with D0', async () => {
    const { lab, open } = await opened();
    await using _lab = lab;
    await setPowerState(lab.device(), PowerState.D3hot);
    await expect(open.read(0, 0x1000, 4)).rejects.toEqual(errno('EIO'));
    const address = await open.mmap(4, 0, 4096);
    expect(() => open.process.mm.load(address, 4)).toThrow('SIGBUS');
    await setPowerState(lab.device(), PowerState.D0);
    expect(open.process.mm.load(address, 4)).toBe(0n);
    await open.process.exit();
  });
});
