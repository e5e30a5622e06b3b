/* What mbochs shows: plane queries, pictures, and the buffers that they are exported as. */
import { GfxPlaneType, Request } from '@vfio/core';
import { DmaBufFile, Seek } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type Display, DisplayLab } from './display-lab.js';

const { PROBE, DMABUF, REGION } = GfxPlaneType;
const DISPI = 0x1500;
const MEMORY = 0x3000;
const SMALL = 4 << 20;
const [ENABLE, BPP, XRES, YRES, VIRT_WIDTH, X_OFFSET, Y_OFFSET] = [4, 3, 1, 2, 6, 8, 9];
const none = { drmFormat: 0, drmFormatMod: 0n, width: 0, height: 0, stride: 0, size: 0, dmabufId: 0 };

function failing(code: string) {
  return expect.objectContaining({ code });
}

interface Mode {
  width?: number;
  height?: number;
  bpp?: number;
  virtWidth?: number;
  x?: number;
  y?: number;
  enable?: number;
}

/** Shows a picture, 64 by 64 unless told. */
async function show(display: Display, mode: Mode = {}): Promise<void> {
  const { width = 64, height = 64, bpp = 32, virtWidth = 0, x = 0, y = 0, enable = 0x41 } = mode;
  for (const [register, value] of [
    [XRES, width],
    [YRES, height],
    [BPP, bpp],
    [VIRT_WIDTH, virtWidth],
    [X_OFFSET, x],
    [Y_OFFSET, y],
    [ENABLE, enable],
  ] as const) {
    await display.store(DISPI + 2 * register!, 2, value);
  }
}

/** Shows a picture and asks for it as often as it takes; answers with its number. */
async function shown(display: Display, mode: Mode = {}): Promise<number> {
  await show(display, mode);
  await display.plane(DMABUF).catch(() => {});
  return (await display.plane(DMABUF)).dmabufId;
}

/** The file behind a descriptor. */
function buffer(display: Display, fd: number): DmaBufFile {
  const file = display.process.files.get(fd);
  if (!(file instanceof DmaBufFile)) throw new TypeError(`descriptor ${fd} is ${file.label}`);
  return file;
}

/** What another device reads of a buffer by DMA. */
async function dma(lab: DisplayLab, display: Display, fd: number, offset: number): Promise<number> {
  const attachment = buffer(display, fd).attach({ name: 'test', peer2peer: false });
  const bytes = new Uint8Array(4);
  let at = offset;
  for (const { phys, length } of attachment.map()) {
    if (at >= 0 && at < length) lab.host.memory.read(phys + at, bytes);
    at -= length;
  }
  await attachment.detach();
  return new DataView(bytes.buffer).getUint32(0, true);
}

describe('a plane query of mbochs', () => {
  it('MBOCHS-026 wants flag DMABUF', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect(await display.plane(PROBE | DMABUF)).toMatchObject({ drmFormat: 5, size: 10, dmabufId: 15 });
    for (const flags of [PROBE | REGION, REGION, PROBE, 0, REGION | DMABUF]) {
      await expect(display.plane(flags)).rejects.toThrow(failing('EINVAL'));
    }
    await expect(display.plane(DMABUF, 1, 59)).rejects.toThrow(failing('EINVAL'));
    expect((await display.plane(DMABUF, 1, 60)).reserved).toBe(77);
  });

  it('MBOCHS-027 MBOCHS-028 finds nothing on a display that is off, or shows what it can not show', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect(await display.plane(DMABUF)).toMatchObject(none);
    const modes: Mode[] = [
      { enable: 0x40 },
      { bpp: 24 },
      { width: 63 },
      { height: 63 },
      { width: 1024, height: 1025 },
      { width: 1024, height: 1024, y: 1 },
      { width: 1024, height: 1024, x: 1 },
      { width: 0xffff, height: 0xffff, virtWidth: 0xffff, y: 0xffff },
    ];
    for (const mode of modes) {
      await show(display, mode);
      expect(await display.plane(DMABUF), JSON.stringify(mode)).toMatchObject(none);
    }
    expect(lab.videoPages()).toBe(0);
    expect(await shown(display, { width: 1024, height: 1024 })).toBe(1);
  });

  it('MBOCHS-029 MBOCHS-030 makes a picture known the first time and finds it the next', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    await show(display, { width: 640, height: 480 });
    await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
    const picture = {
      drmFormat: 0x3432_5258,
      drmFormatMod: 0n,
      width: 640,
      height: 480,
      stride: 2560,
      size: 1_228_800,
    };
    expect(await display.plane(DMABUF)).toMatchObject({ ...picture, xPos: 0, yPos: 0, xHot: 0, yHot: 0, dmabufId: 1 });
    await show(display);
    await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
    expect(await display.plane(DMABUF)).toMatchObject({ width: 64, dmabufId: 2 });
    await show(display, { width: 640, height: 480 });
    expect(await display.plane(DMABUF)).toMatchObject({ ...picture, dmabufId: 1 });
  });

  it('MBOCHS-031 takes the larger of virtual and visible width for the stride', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    await shown(display, { width: 640, height: 480, virtWidth: 320 });
    expect((await display.plane(DMABUF)).stride).toBe(2560);
    await shown(display, { width: 640, height: 480, virtWidth: 1024 });
    expect(await display.plane(DMABUF)).toMatchObject({ width: 640, stride: 4096, size: 4096 * 480 });
  });

  it('MBOCHS-032 knows no cursor and no overlay', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    await shown(display);
    for (const type of [0, 2]) expect(await display.plane(DMABUF, type)).toMatchObject(none);
  });

  it('leaves nothing behind when there is no memory for a picture', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    await show(display);
    using recording = lab.host.faults.record();
    await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
    recording.stop();
    expect(recording.steps).toHaveLength(5);
    await display.reopen();
    for (const index of recording.steps.keys()) {
      using fault = lab.host.faults.failAt(index);
      await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
      expect(fault.fired).toBe(true);
      await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM')); // still not known
      expect((await display.plane(DMABUF)).width).toBe(64);
      await display.reopen();
      expect(lab.videoPages()).toBe(0);
    }
  });
});

describe('a buffer of mbochs', () => {
  it('MBOCHS-033 MBOCHS-034 is that of a picture that is known and begins at a page', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    for (const id of [0, 1, 99]) await expect(display.dmabuf(id)).rejects.toThrow(failing('ENOENT'));
    await expect(display.ioctl(Request.DEVICE_GET_GFX_DMABUF, 0)).rejects.toThrow(failing('EFAULT'));
    const id = await shown(display, { x: 8 });
    expect((await display.plane(DMABUF)).size).toBe(64 * 256);
    await expect(display.dmabuf(id)).rejects.toThrow(failing('EINVAL'));
    const later = await shown(display, { virtWidth: 1024, y: 2 });
    expect(await display.dmabuf(later)).toBeGreaterThan(0);
  });

  it('MBOCHS-035 has the size of the picture and shows what was drawn', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const memory = await display.mmap(MEMORY, SMALL);
    const fd = await display.dmabuf(await shown(display, { width: 100, height: 100, virtWidth: 1024, y: 3 }));
    expect(display.process.lseek(fd, 0, Seek.END)).toBe(4096 * 100);
    display.poke(memory, 4096 * 3, 0x1111);
    display.poke(memory, 4096 * 102 + 4, 0x2222);
    expect(await dma(lab, display, fd, 0)).toBe(0x1111);
    expect(await dma(lab, display, fd, 4096 * 99 + 4)).toBe(0x2222);
    // a size that is no multiple of a page is not rounded
    const odd = await display.dmabuf(await shown(display, { width: 65, height: 65 }));
    expect(display.process.lseek(odd, 0, Seek.END)).toBe(65 * 65 * 4);
    const attachment = buffer(display, odd).attach({ name: 'test', peer2peer: false });
    expect(attachment.map().reduce((sum, { length }) => sum + length, 0)).toBe(65 * 65 * 4);
    await attachment.detach();
  });

  it('MBOCHS-036 is open for reading only, stays over an exec, and can not be mapped privately', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const { process } = display;
    const fd = await display.dmabuf(await shown(display));
    expect(await process.readFile(`/proc/self/fdinfo/${fd}`)).toMatch(/^flags:\t0*$/m); // neither O_CLOEXEC nor O_RDWR
    const map = (options: { prot: number; shared: boolean }) =>
      process.mmap(fd, { offset: 0, length: 4096, ...options });
    await expect(map({ prot: 1, shared: false })).rejects.toThrow(failing('EINVAL'));
    await expect(map({ prot: 3, shared: true })).rejects.toThrow(failing('EACCES'));
    // what is mapped through a file for reading does not count as shared
    await expect(map({ prot: 1, shared: true })).rejects.toThrow(failing('EINVAL'));
  });

  it('MBOCHS-037 has a reference for each of its descriptors', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const id = await shown(display);
    const [one, two] = [await display.dmabuf(id), await display.dmabuf(id)];
    expect(one).not.toBe(two);
    expect(buffer(display, one)).toBe(buffer(display, two));
    await display.process.close(one);
    expect(display.process.lseek(two, 0, Seek.END)).toBe(64 * 256);
    await display.process.close(two);
  });

  it('MBOCHS-038 can be exported again, and leaks no page', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const id = await shown(display);
    const memory = await display.mmap(MEMORY, SMALL);
    display.poke(memory, 0, 0x4711);
    for (let n = 0; n < 3; n++) {
      const fd = await display.dmabuf(id);
      expect(await dma(lab, display, fd, 0)).toBe(0x4711);
      await display.process.close(fd);
    }
    expect(lab.videoPages()).toBe(4);
    display.process.mm.munmap(memory, SMALL);
    await display.reopen();
    expect(lab.videoPages()).toBe(0);
  });

  it('gives back what it took when there is no descriptor, or no memory', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const id = await shown(display);
    using recording = lab.host.faults.record();
    await display.process.close(await display.dmabuf(id));
    recording.stop();
    expect(recording.steps.map(({ code }) => code)).toEqual(['EINVAL', 'EMFILE']);
    const { refcount } = lab.host.modules.get('mbochs')!;
    for (const [index, step] of recording.steps.entries()) {
      using fault = lab.host.faults.failAt(index);
      await expect(display.dmabuf(id)).rejects.toThrow(failing(step.code));
      expect(fault.fired).toBe(true);
      expect(lab.host.modules.get('mbochs')!.refcount).toBe(refcount);
    }
    await display.close();
    await lab.remove();
    expect(await lab.available('small')).toEqual([64]);
  });
});

describe('the last close of mbochs', () => {
  it('MBOCHS-039 drops pages and pictures; a buffer stays', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const memory = await display.mmap(MEMORY, SMALL);
    display.poke(memory, 0, 0x0815);
    display.poke(memory, 0x10_0000, 1);
    const id = await shown(display);
    const fd = await display.dmabuf(id);
    const file = buffer(display, fd);
    const { mm } = display.process;
    // no process gets a mapping, but one that somebody has keeps its pages
    const mapping = await file.mmap({ offset: 0, length: 4096, prot: 1, shared: true, process: display.process });
    mm.munmap(memory, SMALL);
    await display.reopen();
    expect(lab.videoPages()).toBe(4);
    await expect(display.dmabuf(id)).rejects.toThrow(failing('ENOENT'));
    expect(await dma(lab, display, fd, 0)).toBe(0x0815);
    const page = mapping.fault!(0, false);
    if (typeof page !== 'object') throw new Error(`the mapping answers ${page}`);
    expect(page.range.span(0, 2)).toEqual(Uint8Array.of(0x15, 0x08));
    expect(mapping.fault!(4, false)).toBe('SIGBUS');
    await display.process.close(fd);
    expect(lab.videoPages()).toBe(0);
  });

  it('MBOCHS-040 is that of the last descriptor', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const id = await shown(display);
    await display.store(MEMORY, 4, 0x77);
    await display.process.close(await display.again());
    expect((await display.plane(DMABUF)).dmabufId).toBe(id);
    expect(await display.load(MEMORY, 4)).toBe(0x77);
    expect(await display.dmabuf(id)).toBeGreaterThan(0);
  });

  it('MBOCHS-041 keeps the registers, and goes on counting', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect(await shown(display)).toBe(1);
    await display.store(MEMORY, 4, 0x77);
    await display.reopen();
    expect(await display.load(DISPI + 2 * XRES!, 2)).toBe(64);
    expect(await display.load(MEMORY, 4)).toBe(0);
    await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
    expect((await display.plane(DMABUF)).dmabufId).toBe(2);
  });

  it('MBOCHS-043 and the removal of the device do not touch a buffer, which holds both device and module', async () => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    await display.store(MEMORY, 4, 0x99); // page 2
    const fd = await display.dmabuf(await shown(display));
    await display.close();
    await lab.remove();
    expect(lab.root.readdir('/sys/bus/mdev/devices')).toEqual([]);
    expect(await lab.available('small')).toEqual([63]);
    await expect(lab.host.modules.rmmod('mbochs')).rejects.toThrow(failing('EAGAIN'));
    expect(await dma(lab, display, fd, 0x2000)).toBe(0x99);
    await display.process.close(fd);
    expect([await lab.available('small'), lab.videoPages()]).toEqual([[64], 0]);
    await lab.host.modules.rmmod('mbochs');
  });

  it('leaves nothing to a host that goes down with everything open', async () => {
    const lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    const memory = await display.mmap(MEMORY, SMALL);
    display.poke(memory, 0, 1);
    const id = await shown(display);
    await Promise.all([display.dmabuf(id), display.dmabuf(id)]);
    await lab[Symbol.asyncDispose](); // in checked mode a leak is an error
    expect(lab.host.tracker.leaks()).toEqual([]);
  });
});

describe('a guest with bochs-drm', () => {
  it.each([
    [640, 480],
    [800, 600],
  ])('MBOCHS-044 shows %d by %d', async (width, height) => {
    await using lab = await DisplayLab.create('mbochs');
    const display = await lab.display('small');
    expect([await display.load(0, 4), await display.load(0x2c, 4)]).toEqual([0x1111_1234, 0x1100_1af4]);
    expect((await display.load(DISPI, 2)) & 0xfff0).toBe(0xb0c0);
    expect((await display.load(DISPI + 20, 2)) * 0x1_0000).toBe(Number((await display.region(0)).size));
    expect(await display.load(0x08, 1)).toBeLessThan(2); // so that the driver leaves 0x600 alone
    await display.load(0x141a, 1);
    await display.store(0x1400, 1, 0x20);
    const sequence = [
      [4, 0],
      [3, 32],
      [1, width],
      [2, height],
      [5, 0],
      [6, width],
      [7, height],
      [8, 0],
      [9, 0],
      [4, 0x41],
    ];
    for (const [register, value] of sequence) await display.store(DISPI + 2 * register!, 2, value!);
    await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
    const plane = await display.plane(DMABUF);
    expect(plane).toMatchObject({ drmFormat: 0x3432_5258, width, height, stride: width * 4, size: width * height * 4 });
    // a page flip
    for (const [register, value] of [
      [6, width],
      [8, 0],
      [9, 64],
    ])
      await display.store(DISPI + 2 * register!, 2, value!);
    await expect(display.plane(DMABUF)).rejects.toThrow(failing('ENOMEM'));
    expect((await display.plane(DMABUF)).dmabufId).toBe(plane.dmabufId + 1);
  });
});
