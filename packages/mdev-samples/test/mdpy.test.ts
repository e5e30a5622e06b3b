import {
  DeviceInfoFlag,
  deviceFeature,
  deviceInfo,
  Feature,
  FeatureFlag,
  GfxPlaneType,
  irqSet,
  Request,
} from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { type Display, DisplayLab } from './display-lab.js';
import { UUID } from './lab.js';

const { PROBE, DMABUF, REGION } = GfxPlaneType;
const types = [
  ['vga', 640, 480, 0x20_0000],
  ['xga', 1024, 768, 0x40_0000],
  ['hd', 1920, 1080, 0x80_0000],
] as const;
const MEMORY = 0x1000;
const VGA_SIZE = 0x20_0000;

function failing(code: string) {
  return expect.objectContaining({ code });
}

function uuid(n: number): string {
  return `83b8f4f2-509f-382f-3c1e-${n.toString(16).padStart(12, '0')}`;
}

async function info(display: Display, argsz = 16): Promise<{ flags: number; numRegions: number; numIrqs: number }> {
  const bytes = deviceInfo.encode({ argsz }, display.process.byteOrder);
  await display.ioctl(Request.DEVICE_GET_INFO, bytes);
  return deviceInfo.decode(bytes, display.process.byteOrder);
}

describe('module mdpy', () => {
  it('MDPY-001 has three types with name, description and API', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const names = lab.root.readdir('/sys/class/mdev_bus/mdpy/mdev_supported_types').map(({ name }) => name);
    expect(names.sort()).toEqual(['mdpy-hd', 'mdpy-vga', 'mdpy-xga']);
    for (const [type, width, height] of types) {
      expect(await lab.show(type, 'name')).toBe(`mdpy-${type}`);
      expect(await lab.show(type, 'description')).toBe(`virtual display, ${width}x${height} framebuffer`);
      expect(await lab.show(type, 'device_api')).toBe('vfio-pci');
    }
    expect(lab.root.readlink('/sys/class/mdpy/mdpy')).toBe('../../devices/virtual/mdpy/mdpy');
  });

  it('MDPY-002 MDPY-003 counts four displays over all types', async () => {
    await using lab = await DisplayLab.create('mdpy');
    expect(await lab.available('vga', 'xga', 'hd')).toEqual([4, 4, 4]);
    await lab.create('xga', uuid(0));
    expect(await lab.available('vga', 'xga', 'hd')).toEqual([3, 3, 3]);
    for (let n = 1; n < 4; n++) await lab.create('vga', uuid(n));
    await expect(lab.create('vga', uuid(4))).rejects.toThrow(failing('EUSERS'));
    await lab.remove(uuid(0));
    expect(await lab.available('vga', 'xga', 'hd')).toEqual([1, 1, 1]);
  });

  it('MDPY-004 takes their number from its parameter', async () => {
    await using lab = await DisplayLab.create('mdpy', { count: 1 });
    expect(await lab.root.readFile('/sys/module/mdpy/parameters/count')).toBe('1\n');
    expect(lab.root.stat('/sys/module/mdpy/parameters/count').mode).toBe(0o444);
    await lab.create('vga', uuid(0));
    await expect(lab.create('hd', uuid(1))).rejects.toThrow(failing('EUSERS'));
  });

  it('MDPY-005 says how large a display is', async () => {
    await using lab = await DisplayLab.create('mdpy');
    await lab.create('hd');
    const path = `/sys/bus/mdev/devices/${UUID}/vendor/resolution`;
    expect(await lab.root.readFile(path)).toBe('1920x1080\n');
    expect(lab.root.stat(path).mode).toBe(0o444);
  });

  it('MDPY-027 gives everything back when a display can not be made', async () => {
    await using lab = await DisplayLab.create('mdpy');
    using recording = lab.host.faults.record();
    await lab.create('vga');
    recording.stop();
    await lab.remove();
    const names = recording.steps.map(({ name }) => name);
    expect(names).toEqual(expect.arrayContaining(['mdpy_init_dev:vconfig', 'alloc_pages:an mdpy framebuffer']));
    for (const [index, step] of recording.steps.entries()) {
      using fault = lab.host.faults.failAt(index);
      await expect(lab.create('vga'), step.name).rejects.toThrow(failing(step.code));
      expect(fault.fired).toBe(true);
      expect(await lab.available('vga'), step.name).toEqual([4]);
    }
  });
});

describe('regions of mdpy', () => {
  it.each(types)('MDPY-006 MDPY-011 of %s', async (type, _width, _height, size) => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display(type);
    expect(await display.region(7)).toMatchObject({ offset: 0n, size: 0xffn, flags: 3 });
    const memory = { offset: 0x1000n, size: BigInt(size), flags: 7 };
    for (const index of [0, 16]) expect(await display.region(index)).toMatchObject(memory);
    for (const index of [1, 5, 6, 8])
      expect(await display.region(index)).toMatchObject({ offset: 0n, size: 0n, flags: 0 });
    for (const index of [9, 12, 15, 17]) await expect(display.region(index)).rejects.toThrow(failing('EINVAL'));
  });

  it.each(types)('MDPY-007 MDPY-008 config space of %s', async (type, width, height) => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display(type);
    expect(Buffer.from(await display.read(0, 16)).toString('hex')).toBe('361b0f00030010000100800300000000');
    expect(await display.load(0x10, 4)).toBe(8);
    expect(await display.load(0x2c, 4)).toBe(0x1100_1af4);
    expect(await display.load(0x34, 1)).toBe(0x40);
    expect(await display.load(0x3d, 1)).toBe(0);
    expect(await display.read(0x40, 8)).toEqual([9, 0, 0x10, 0, 0x58, 0x52, 0x32, 0x34]);
    expect([await display.load(0x48, 4), await display.load(0x4c, 4)]).toEqual([width, height]);
  });

  it('MDPY-009 MDPY-010 config space takes addresses and nothing else', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    await display.store(0x10, 4, 0xffff_ffff);
    expect(await display.load(0x10, 4)).toBe(0xffe0_0008);
    await display.store(0x10, 4, 0xe000_0123);
    expect(await display.load(0x10, 4)).toBe(0xe000_0128);
    for (const offset of [0x04, 0x14, 0x30, 0x40, 0x48]) {
      const before = await display.load(offset, 4);
      expect(await display.store(offset, 4, 0xffff_ffff)).toBe(4);
      expect(await display.load(offset, 4)).toBe(before);
    }
  });

  it('MDPY-015 MDPY-016 read and write reach the first bytes, wherever they go', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    const memory = await display.mmap(MEMORY, VGA_SIZE);
    display.poke(memory, 0, 0x4433_2211);
    for (const offset of [0, 4, 0x8000, VGA_SIZE - 4]) {
      expect(await display.load(MEMORY + offset, 4)).toBe(0x4433_2211);
    }
    expect(await display.read(MEMORY + 5, 3)).toEqual([0x11, 0x11, 0x22]);
    const there = display.peek(memory, 0x1000);
    await display.store(MEMORY + 0x1000, 4, 0xaabb_ccdd);
    expect([display.peek(memory), display.peek(memory, 0x1000)]).toEqual([0xaabb_ccdd, there]);
  });

  it('MDPY-017 nothing is between them and behind them', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    const end = MEMORY + VGA_SIZE;
    for (const [position, length] of [
      [0xff, 1],
      [0x800, 4],
      [0xfff, 1],
      [end, 4],
      [end - 2, 4],
    ] as const) {
      await expect(display.read(position, length)).rejects.toThrow(failing('EFAULT'));
      await expect(display.store(position, length, 0)).rejects.toThrow(failing('EFAULT'));
    }
    expect(await display.read(0xfc, 4)).toEqual([0, 0, 0, 0]);
  });

  it('MDPY-018 mmap wants the start of memory, no more than there is, and shared', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    for (const [offset, length, shared] of [
      [0, 4096, true],
      [0x2000, 4096, true],
      [MEMORY, VGA_SIZE + 4096, true],
      [MEMORY, 4096, false],
    ] as const) {
      await expect(display.mmap(offset, length, shared)).rejects.toThrow(failing('EINVAL'));
    }
    await display.mmap(MEMORY, 4096);
  });
});

describe('the picture of mdpy', () => {
  it.each(types)('MDPY-012 MDPY-013 of %s gets brighter row by row', async (type, width, height, size) => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display(type);
    const memory = await display.mmap(MEMORY, size);
    for (const row of [0, 1, 2, Math.floor(height / 2), height - 1]) {
      const shade = Math.floor((row * 255) / height);
      for (const byte of [0, 1, width * 4 - 1]) expect(display.peek(memory, row * width * 4 + byte, 1)).toBe(shade);
    }
    for (const offset of [width * 4 * height, size - 4]) expect(display.peek(memory, offset)).toBe(0);
  });

  it('MDPY-014 comes back with a reset, which leaves BAR0 and what lies behind the rows', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    const memory = await display.mmap(MEMORY, VGA_SIZE);
    await display.store(0x10, 4, 0xe000_0000);
    for (const offset of [0, 2560 * 240, VGA_SIZE - 4]) display.poke(memory, offset, 0x1234_5678);
    expect(await display.ioctl(Request.DEVICE_RESET)).toBe(0);
    expect([0, 2560 * 240, VGA_SIZE - 4].map((at) => display.peek(memory, at))).toEqual([0, 0x7f7f_7f7f, 0x1234_5678]);
    expect(await display.load(0x10, 4)).toBe(0xe000_0008);
  });

  it('MDPY-019 is the same in all mappings, and survives a close', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    const [one, two] = [await display.mmap(MEMORY, 8192), await display.mmap(MEMORY, VGA_SIZE)];
    display.poke(one, 4096, 0x0bad_cafe);
    expect(display.peek(two, 4096)).toBe(0x0bad_cafe);
    for (const [address, length] of [
      [one, 8192],
      [two, VGA_SIZE],
    ] as const)
      display.process.mm.munmap(address, length);
    await display.reopen();
    expect(display.peek(await display.mmap(MEMORY, 8192), 4096)).toBe(0x0bad_cafe);
  });
});

describe('requests of mdpy', () => {
  it('MDPY-020 a plane query wants flag REGION', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    // a probe leaves everything as it is
    expect(await display.plane(PROBE | REGION)).toMatchObject({
      drmFormat: 5,
      drmFormatMod: 6n,
      size: 10,
      regionIndex: 15,
    });
    for (const flags of [PROBE | DMABUF, PROBE, DMABUF, 0, DMABUF | REGION]) {
      await expect(display.plane(flags)).rejects.toThrow(failing('EINVAL'));
    }
  });

  it('MDPY-021 MDPY-022 a plane query describes the picture, whatever the plane', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('xga');
    const expected = {
      drmFormat: 0x3432_5258,
      drmFormatMod: 0n,
      width: 1024,
      height: 768,
      stride: 4096,
      size: 0x40_0000,
    };
    const spots = { xPos: 0, yPos: 0, xHot: 0, yHot: 0, regionIndex: 16, reserved: 77 };
    for (const type of [1, 2]) expect(await display.plane(REGION, type)).toMatchObject({ ...expected, ...spots });
  });

  it('MDPY-023 a plane query of 59 bytes is refused', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    await expect(display.plane(REGION, 1, 59)).rejects.toThrow(failing('EINVAL'));
    expect((await display.plane(REGION, 1, 60)).width).toBe(640);
  });

  it('MDPY-024 MDPY-025 there are no interrupts, and nobody may ask before GET_INFO', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    await expect(display.irq(0)).rejects.toThrow(failing('EINVAL'));
    expect(await info(display)).toMatchObject({ flags: DeviceInfoFlag.PCI, numRegions: 9, numIrqs: 5 });
    await expect(info(display, 15)).rejects.toThrow(failing('EINVAL'));
    for (const index of [0, 4]) expect(await display.irq(index, 0x55)).toMatchObject({ flags: 0x55, count: 0 });
    await expect(display.irq(5)).rejects.toThrow(failing('EINVAL'));
    await display.reopen();
    expect(await display.irq(0)).toMatchObject({ count: 0 });
    const set = irqSet.encode({ argsz: irqSet.size, flags: 0x21, count: 0 }, display.process.byteOrder);
    await expect(display.ioctl(Request.DEVICE_SET_IRQS, set)).rejects.toThrow(failing('EINVAL'));
    await expect(display.dmabuf(1)).rejects.toThrow(failing('ENOTTY'));
    await expect(display.ioctl(0x3bff)).rejects.toThrow(failing('ENOTTY'));
  });

  it('MDPY-026 one and two descriptors open and close', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    const second = await display.again();
    await display.process.close(second);
    expect(await display.load(0, 4)).toBe(0x000f_1b36);
    await display.close();
    await lab.remove();
    expect(await lab.available('vga')).toEqual([4]);
  });

  it('MDPY-028 there is no migration', async () => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display('vga');
    const ask = (feature: number) => {
      const flags = feature | FeatureFlag.PROBE | (feature === Feature.MIGRATION ? FeatureFlag.GET : FeatureFlag.SET);
      const bytes = deviceFeature.encode({ argsz: deviceFeature.size, flags }, display.process.byteOrder);
      return display.ioctl(Request.DEVICE_FEATURE, bytes);
    };
    await expect(ask(Feature.MIGRATION)).rejects.toThrow(failing('ENOTTY'));
    await expect(ask(12)).rejects.toThrow(failing('EINVAL')); // MIG_PRECOPY_INFOv2
  });
});

describe('a guest with mdpy-fb', () => {
  it.each(types)('MDPY-029 finds %s and draws', async (type, width, height) => {
    await using lab = await DisplayLab.create('mdpy');
    const display = await lab.display(type);
    // the ids that the driver matches, and the command register that enabling the device writes
    expect([await display.load(0, 4), await display.load(0x2c, 4)]).toEqual([0x000f_1b36, 0x1100_1af4]);
    await display.store(0x04, 2, 0x0002);
    const [format, columns, rows] = [
      await display.load(0x44, 4),
      await display.load(0x48, 4),
      await display.load(0x4c, 4),
    ];
    expect([format, columns, rows]).toEqual([0x3432_5258, width, height]);
    await display.store(0x10, 4, 0xffff_ffff);
    const barSize = -((await display.load(0x10, 4)) & ~0xf);
    expect(barSize).toBeGreaterThanOrEqual(columns! * 4 * rows!);
    const screen = await display.mmap(MEMORY, barSize);
    const viewer = await display.mmap(MEMORY, barSize);
    const at = (rows! - 1) * columns! * 4 + 40;
    display.poke(screen, at, 0x00ff_8040);
    expect(display.peek(viewer, at)).toBe(0x00ff_8040);
  });
});
