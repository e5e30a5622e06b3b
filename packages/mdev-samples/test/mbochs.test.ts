/* Module, config space, registers, EDID and memory of mbochs. */
import {
  DeviceInfoFlag,
  deviceInfo,
  getDevice,
  irqSet,
  putDevice,
  Request,
  regionInfo,
  regionInfoCapType,
} from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { type Display, DisplayLab } from './display-lab.js';
import { OTHER_UUID, settled, UUID } from './lab.js';

const types = [
  ['small', 4, 800, 600],
  ['medium', 16, 1920, 1440],
  ['large', 64, 0, 0],
] as const;
const MMIO = 0x1000;
const DISPI = MMIO + 0x500;
const EDID = 0x2000;
const BLOB = EDID + 0x800;
const MEMORY = 0x3000;
const SMALL = 4 << 20;
/** Registers of the EDID region. */
const Reg = { OFFSET: EDID, MAX_SIZE: EDID + 4, SIZE: EDID + 8, MAX_X: EDID + 12, MAX_Y: EDID + 16, LINK: EDID + 20 };

function failing(code: string) {
  return expect.objectContaining({ code });
}

function dispi(display: Display): Promise<number[]> {
  return Promise.all(Array.from({ length: 11 }, (_, i) => display.load(DISPI + 2 * i, 2)));
}

describe('module mbochs', () => {
  it('MBOCHS-001 has three types with name, description, memory and API', async () => {
    await using lab = await DisplayLab.create('mbochs');
    for (const [type, megabytes] of types) {
      expect(await lab.show(type, 'name')).toBe(`mbochs-${type}`);
      expect(await lab.show(type, 'description')).toBe(`virtual display, ${megabytes} MB video memory`);
      expect(await lab.show(type, 'device_api')).toBe('vfio-pci');
      await lab.create(type);
      const path = `/sys/bus/mdev/devices/${UUID}/vendor/memory`;
      expect(await lab.root.readFile(path)).toBe(`${megabytes} MB\n`);
      expect(lab.root.stat(path).mode).toBe(0o444);
      await lab.remove();
    }
  });

  it('MBOCHS-002 MBOCHS-003 shares 256 MB, and refuses what does not fit', async () => {
    await using lab = await DisplayLab.create('mbochs');
    expect(await lab.available('small', 'medium', 'large')).toEqual([64, 16, 4]);
    const uuid = (n: number) => `83b8f4f2-509f-382f-3c1e-${n.toString(16).padStart(12, '0')}`;
    await lab.create('large', uuid(0));
    expect(await lab.available('small', 'medium', 'large')).toEqual([48, 12, 3]);
    for (let n = 1; n <= 2; n++) await lab.create('large', uuid(n));
    await lab.create('small', uuid(3));
    await expect(lab.create('large', uuid(4))).rejects.toThrow(failing('ENOSPC'));
    expect(await lab.available('small', 'medium', 'large')).toEqual([15, 3, 0]);
  });

  it.each(['small', 'large'])('MBOCHS-004 gives the megabytes of %s back when a step fails', async (type) => {
    await using lab = await DisplayLab.create('mbochs');
    using recording = lab.host.faults.record();
    await lab.create(type);
    recording.stop();
    await lab.remove();
    const names = recording.steps.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['mbochs_init_dev:vconfig', 'mbochs_init_dev:pages']));
    for (const [index, step] of recording.steps.entries()) {
      using fault = lab.host.faults.failAt(index);
      await expect(lab.create(type), step.name).rejects.toThrow(failing(step.code));
      expect(fault.fired).toBe(true);
      expect(await lab.available('small'), step.name).toEqual([64]);
    }
  });

  it('MBOCHS-005 two creates at once never take more than there is', async () => {
    await using lab = await DisplayLab.create('mbochs', { count: 64 });
    const results = await Promise.allSettled([lab.create('large', UUID), lab.create('large', OTHER_UUID)]);
    expect(results.map(({ status }) => status).sort()).toEqual(['fulfilled', 'rejected']);
    const reasons = results.flatMap((result) => (result.status === 'rejected' ? [result.reason] : []));
    expect(reasons).toEqual([failing('ENOSPC')]);
    expect(await lab.available('small', 'large')).toEqual([0, 0]);
  });

  it('MBOCHS-006 gives megabytes back with the last reference', async () => {
    await using lab = await DisplayLab.create('mbochs');
    await lab.create('large');
    const [device] = lab.vfio.groups[0]!.devices;
    getDevice(device!);
    await lab.remove();
    expect(await lab.available('large')).toEqual([3]);
    await putDevice(device!);
    expect(await lab.available('large')).toEqual([4]);
  });

  it('MBOCHS-007 counts megabytes in a parameter that is called count', async () => {
    await using lab = await DisplayLab.create('mbochs', { count: 20 });
    expect(lab.root.readdir('/sys/module/mbochs/parameters').map(({ name }) => name)).toEqual(['count']);
    expect(await lab.root.readFile('/sys/module/mbochs/parameters/count')).toBe('20\n');
    expect(await lab.available('small', 'medium', 'large')).toEqual([5, 1, 0]);
  });

  it('is removed when the last descriptor is closed', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    let removed = false;
    const removing = lab.remove().then(() => {
      removed = true;
    });
    await settled();
    expect(removed).toBe(false);
    await display.close();
    await removing;
    expect(await lab.available('small')).toEqual([64]);
  });
});

describe('information about mbochs', () => {
  it('MBOCHS-008 ten regions, and interrupt indexes that are empty, asked in any order', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    for (const index of [0, 4]) expect(await display.irq(index, 0x55)).toMatchObject({ flags: 0x55, count: 0 });
    await expect(display.irq(5)).rejects.toThrow(failing('EINVAL'));
    const { byteOrder } = display.process;
    const bytes = deviceInfo.encode({ argsz: 16 }, byteOrder);
    await display.ioctl(Request.DEVICE_GET_INFO, bytes);
    const expected = { flags: DeviceInfoFlag.PCI, numRegions: 10, numIrqs: 5 };
    expect(deviceInfo.decode(bytes, byteOrder)).toMatchObject(expected);
    const set = irqSet.encode({ argsz: irqSet.size, flags: 0x21, count: 0 }, byteOrder);
    await expect(display.ioctl(Request.DEVICE_SET_IRQS, set)).rejects.toThrow(failing('EINVAL'));
  });

  it.each(types)('MBOCHS-009 regions of %s', async (type, megabytes) => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display(type);
    expect(await display.region(7)).toMatchObject({ offset: 0n, size: 0xffn, flags: 3 });
    expect(await display.region(2)).toMatchObject({ offset: 0x1000n, size: 0x1000n, flags: 3 });
    expect(await display.region(9)).toMatchObject({ offset: 0x2000n, size: 0x1000n, flags: 11 });
    expect(await display.region(0)).toMatchObject({ offset: 0x3000n, size: BigInt(megabytes << 20), flags: 7 });
    for (const index of [1, 3, 6, 8]) expect(await display.region(index)).toMatchObject({ size: 0n, flags: 0 });
    await expect(display.region(10)).rejects.toThrow(failing('EINVAL'));
    for (const [position, length] of [
      [0xff, 1],
      [0x800, 4],
      [0xfff, 1],
    ] as const) {
      await expect(display.read(position, length)).rejects.toThrow(failing('EFAULT'));
      await expect(display.store(position, length, 0)).rejects.toThrow(failing('EFAULT'));
    }
  });

  it('MBOCHS-010 the EDID region says what it is, to whom has room', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect(await display.region(9)).toMatchObject({ argsz: 48, capOffset: 0 });
    const { byteOrder } = display.process;
    const bytes = new Uint8Array(48);
    bytes.set(regionInfo.encode({ argsz: 48, index: 9 }, byteOrder));
    await display.ioctl(Request.DEVICE_GET_REGION_INFO, bytes);
    expect(regionInfo.decode(bytes, byteOrder)).toMatchObject({ argsz: 48, capOffset: 32 });
    const cap = regionInfoCapType.decode(bytes.subarray(32), byteOrder);
    expect(cap).toMatchObject({ header: { id: 2, version: 1, next: 0 }, type: 1, subtype: 1 });
  });

  it('MBOCHS-011 config space is that of the Bochs adapter', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect(Buffer.from(await display.read(0, 12)).toString('hex')).toBe('341211110300000001008003');
    expect(await display.load(0x2c, 4)).toBe(0x1100_1af4);
    expect([await display.load(0x34, 1), await display.load(0x3d, 1)]).toEqual([0, 0]);
    expect([await display.load(0x10, 4), await display.load(0x18, 4)]).toEqual([8, 0]);
    for (const [bar, size, address] of [
      [0x10, 0xffc0_0008, 0xd000_0778],
      [0x18, 0xffff_f000, 0xd000_0770],
    ] as const) {
      await display.store(bar, 4, 0xffff_ffff);
      expect(await display.load(bar, 4)).toBe(size);
      await display.store(bar, 4, 0xd000_0777);
      expect(await display.load(bar, 4)).toBe(address);
    }
    for (const offset of [0x04, 0x14, 0x1c, 0x30]) {
      const before = await display.load(offset, 4);
      await display.store(offset, 4, 0xffff_ffff);
      expect(await display.load(offset, 4)).toBe(before);
    }
  });
});

describe('registers of mbochs', () => {
  it.each(types)('MBOCHS-012 of a new %s', async (type, megabytes) => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display(type);
    expect(await dispi(display)).toEqual([0xb0c5, 0, 0, 0, 0, 0, 0, 0, 0, 0, megabytes * 16]);
  });

  it('MBOCHS-013 all take any value of two bytes', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    for (let i = 0; i < 11; i++) await display.store(DISPI + 2 * i, 2, 0x1111 * i + 7);
    expect(await dispi(display)).toEqual(Array.from({ length: 11 }, (_, i) => 0x1111 * i + 7));
  });

  it('MBOCHS-014 answer to no other width', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    for (const width of [1, 4]) {
      expect(await display.load(DISPI, width)).toBe(0);
      expect(await display.store(DISPI, width, 0x77)).toBe(width);
    }
    expect((await dispi(display))[0]).toBe(0xb0c5);
    expect(await display.load(DISPI + 0x16, 2)).toBe(0); // behind the last
  });

  it('MBOCHS-015 of a VGA adapter and of QEMU are absent', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    for (const offset of [0x400, 0x41e, 0x600, 0x604, 0xffc]) {
      for (const width of [1, 2, 4].filter((one) => offset % one === 0)) {
        await display.store(MMIO + offset, width, 0x5a5a_5a5a);
        expect(await display.load(MMIO + offset, width)).toBe(0);
      }
    }
  });

  it('MBOCHS-042 are reset by a reset, which keeps memory and BARs', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const memory = await display.mmap(MEMORY, 4096);
    display.poke(memory, 0, 0x1234);
    await display.store(0x10, 4, 0xe000_0000);
    for (let i = 0; i < 11; i++) await display.store(DISPI + 2 * i, 2, 99);
    expect(await display.ioctl(Request.DEVICE_RESET)).toBe(0);
    expect(await dispi(display)).toEqual([0xb0c5, 0, 0, 0, 0, 0, 0, 0, 0, 0, 64]);
    expect([display.peek(memory), await display.load(0x10, 4)]).toEqual([0x1234, 0xe000_0008]);
  });
});

describe('EDID', () => {
  it('MBOCHS-016 MBOCHS-017 is seen by the guest while the link is up, as far as it goes', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const blob = Array.from({ length: 132 }, (_, i) => (i * 7 + 1) & 0xff);
    await display.write(BLOB, ...blob);
    expect(await display.read(MMIO, 128)).toEqual(new Array(128).fill(0));
    await display.store(Reg.LINK, 4, 1);
    expect(await display.read(MMIO, 128)).toEqual(new Array(128).fill(0));
    await display.store(Reg.SIZE, 4, 128);
    expect(await display.read(MMIO, 128)).toEqual(blob.slice(0, 128));
    expect(await display.read(MMIO + 128, 4)).toEqual([0, 0, 0, 0]);
    // an access that begins inside is not cut
    await display.store(Reg.SIZE, 4, 126);
    expect(await display.read(MMIO + 124, 4)).toEqual(blob.slice(124, 128));
    await display.store(Reg.LINK, 4, 2);
    expect(await display.read(MMIO, 128)).toEqual(new Array(128).fill(0));
    await display.store(MMIO, 4, 0xffff_ffff); // the guest can not write it
    expect(await display.read(BLOB, 132)).toEqual(blob);
  });

  it.each(types)('MBOCHS-018 has limits on %s, in registers that can not be written', async (type, _, x, y) => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display(type);
    const expected = [0x800, 0x400, x, y];
    const readOnly = [Reg.OFFSET, Reg.MAX_SIZE, Reg.MAX_X, Reg.MAX_Y];
    for (const register of readOnly) expect(await display.store(register, 4, 0x77)).toBe(4);
    expect(await Promise.all(readOnly.map((register) => display.load(register, 4)))).toEqual(expected);
    expect([await display.load(Reg.SIZE, 4), await display.load(Reg.LINK, 4)]).toEqual([0, 0]);
  });

  it('MBOCHS-019 MBOCHS-020 registers want four bytes, and take any', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect(await display.store(Reg.SIZE, 2, 0x1234)).toBe(2);
    expect(await display.store(Reg.LINK, 1, 1)).toBe(1);
    expect([await display.load(Reg.SIZE, 4), await display.load(Reg.LINK, 4)]).toEqual([0, 0]);
    expect(await display.load(Reg.OFFSET, 2)).toBe(0); // what C leaves on its stack
    await display.store(Reg.SIZE, 4, 0xffff_ffff);
    expect(await display.load(Reg.SIZE, 4)).toBe(0xffff_ffff);
    await display.store(Reg.LINK, 4, 1);
    await display.store(BLOB + 0x3fc, 4, 0x0a0b_0c0d);
    expect(await display.load(MMIO + 0x3fc, 4)).toBe(0x0a0b_0c0d);
    // between the registers and the blob, and behind it, there is nothing
    for (const position of [EDID + 0x18, EDID + 0x7fc, BLOB + 0x400, EDID + 0xffc]) {
      expect(await display.store(position, 4, 0x55)).toBe(4);
      expect(await display.load(position, 4)).toBe(0);
    }
  });

  it('MBOCHS-021 survives close and reset', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    await display.write(BLOB, 0, 0xff, 0xff);
    await display.store(Reg.SIZE, 4, 128);
    await display.reopen();
    await display.ioctl(Request.DEVICE_RESET);
    expect(await display.read(BLOB, 3)).toEqual([0, 0xff, 0xff]);
    expect(await display.load(Reg.SIZE, 4)).toBe(128);
  });
});

describe('memory of mbochs', () => {
  it('MBOCHS-022 is mapped from its start, shared, and no more than there is', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    for (const [offset, length, shared] of [
      [0, 4096, true],
      [MEMORY + 4096, 4096, true],
      [MEMORY, SMALL + 4096, true],
      [MEMORY, 4096, false],
    ] as const) {
      await expect(display.mmap(offset, length, shared)).rejects.toThrow(failing('EINVAL'));
    }
    const memory = await display.mmap(MEMORY, SMALL);
    display.poke(memory, SMALL - 4, 5);
    expect(display.peek(memory, SMALL - 4)).toBe(5);
  });

  it('MBOCHS-023 comes page by page, with zeros', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('large');
    const memory = await display.mmap(MEMORY, 64 << 20);
    expect(lab.videoPages()).toBe(0);
    expect(display.peek(memory, 0x10_0000)).toBe(0);
    expect(lab.videoPages()).toBe(1);
    await display.load(MEMORY, 4);
    expect(lab.videoPages()).toBe(2);
    using fault = lab.host.faults.failAt(0);
    expect(() => display.peek(memory, 0x20_0000)).toThrow('SIGBUS');
    expect(fault.fired).toBe(true);
  });

  it('MBOCHS-024 MBOCHS-025 read and write go 8 KiB too far, and at the end nowhere', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const memory = await display.mmap(MEMORY, SMALL);
    await display.store(MEMORY + 0x10, 4, 0xcafe_0001);
    expect([display.peek(memory, 0x10), display.peek(memory, 0x2010)]).toEqual([0, 0xcafe_0001]);
    display.poke(memory, SMALL - 4, 0x99);
    expect(await display.load(MEMORY + SMALL - 0x2004, 4)).toBe(0x99);
    for (const offset of [SMALL - 0x2000, SMALL - 4, SMALL]) {
      await expect(display.load(MEMORY + offset, 4)).rejects.toThrow(failing('EFAULT'));
      await expect(display.store(MEMORY + offset, 4, 1)).rejects.toThrow(failing('EFAULT'));
    }
  });
});
