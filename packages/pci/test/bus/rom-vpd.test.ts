import { describe, expect, it } from 'vitest';
import type { PciWidth } from '../../src/bus/function.js';
import { CapId, Reg, Vpd } from '../../src/bus/regs.js';
import { mapRom } from '../../src/bus/rom.js';
import { readVpd, writeVpd } from '../../src/bus/vpd.js';
import type { FakeOptions } from './fake-function.js';
import { decode, expCap, LabFunction, labHost } from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });

/** Images one behind the other, of so many blocks of 512 bytes. */
function images(...blocks: number[]): Uint8Array {
  const rom = new Uint8Array(0x1_0000);
  let at = 0;
  for (const [index, length] of blocks.entries()) {
    rom.set([0x55, 0xaa], at);
    rom.set([0x1d, 0x00], at + 0x18);
    rom.set([0x50, 0x43, 0x49, 0x52], at + 0x1d);
    rom.set([length & 0xff, length >> 8], at + 0x1d + 0x10);
    rom[at + 0x1d + 0x15] = index === blocks.length - 1 ? 0x80 : 0;
    at += length * 512;
  }
  return rom;
}

/** A function with a ROM that is decoded as hardware does it. */
class RomFunction extends LabFunction {
  readonly bytes: Uint8Array;

  constructor(bytes: Uint8Array, options: FakeOptions = {}) {
    super({ rom: 0x1_0000, ...options });
    this.bytes = bytes;
  }

  override readBar(bar: number, offset: number, width: PciWidth): number {
    if (bar !== 6) return super.readBar(bar, offset, width);
    const on = (this.readConfig(Reg.ROM_ADDRESS, 4) & 1) !== 0 && (this.readConfig(Reg.COMMAND, 2) & 2) !== 0;
    let value = 0;
    for (let byte = 0; byte < width; byte++) value |= (on ? (this.bytes[offset + byte] ?? 0xff) : 0xff) << (8 * byte);
    return value >>> 0;
  }
}

/** A function with vital product data of so many bytes of text. */
class VpdFunction extends LabFunction {
  readonly store = new Uint8Array(0x8000);
  stuck = false;

  constructor() {
    super({
      caps: [expCap(), { id: CapId.VPD, bytes: [0, 0, 0, 0, 0, 0], writable: [0xff, 0xff, 0xff, 0xff, 0xff, 0xff] }],
    });
    this.store.set([0x82, 5, 0, 0x68, 0x65, 0x6c, 0x6c, 0x6f, 0x90, 2, 0, 0x41, 0x42, 0x78]);
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

async function lab<T extends LabFunction>(fn: T) {
  const { host, at } = await labHost([[0x10, fn]]);
  return { host, fn, pdev: at(0, 0x10) };
}

describe('mapRom', () => {
  it('is as long as the images are, and off again afterwards', async () => {
    const { host, pdev } = await lab(new RomFunction(images(3, 5)));
    await using _ = host;
    decode(pdev);
    const enabled = () => pdev.hw.readConfig(Reg.ROM_ADDRESS, 4) & 1;
    {
      using rom = mapRom(pdev);
      expect([rom?.size, rom?.read(0, 2), enabled()]).toEqual([8 * 512, 0xaa55, 1]);
    }
    expect(enabled()).toBe(0);
  });

  it('ends where a signature is missing, and with the BAR', async () => {
    const broken = images(2, 4);
    broken[2 * 512] = 0;
    for (const [bytes, size] of [
      [broken, 2 * 512],
      [images(0x100), 0x1_0000],
    ] as const) {
      const { host, pdev } = await lab(new RomFunction(bytes));
      await using _ = host;
      decode(pdev);
      using rom = mapRom(pdev);
      expect(rom?.size).toBe(size);
    }
  });

  it('gives nothing without an image, without memory decoding, and without a ROM', async () => {
    const { host, pdev } = await lab(new RomFunction(images(2)));
    await using _ = host;
    expect(mapRom(pdev)).toBeUndefined();
    expect(pdev.hw.readConfig(Reg.ROM_ADDRESS, 4) & 1).toBe(0);
    decode(pdev);
    using fault = host.faults.failOn('pci_map_rom:mapping');
    expect(mapRom(pdev)).toBeUndefined();
    expect(fault.fired).toBe(true);
    const none = await lab(new LabFunction());
    await using _none = none.host;
    expect(mapRom(none.pdev)).toBeUndefined();
  });

  it('is read through the file once that is enabled', async () => {
    const { host, pdev } = await lab(new RomFunction(images(1)));
    await using _ = host;
    const path = `${pdev.sysfs.path()}/rom`;
    await expect(host.init.readFile(path)).rejects.toEqual(code('EINVAL'));
    await host.init.writeFile(path, '1');
    await expect(host.init.readFile(path)).rejects.toEqual(code('EIO'));
    decode(pdev);
    expect(await host.init.readFile(path)).toHaveLength(512);
    await host.init.writeFile(path, '0\n');
    await expect(host.init.readFile(path)).rejects.toEqual(code('EINVAL'));
  });
});

describe('vital product data', () => {
  it('are read up to their end', async () => {
    const { host, pdev } = await lab(new VpdFunction());
    await using _ = host;
    const bytes = new Uint8Array(8);
    expect(await readVpd(pdev, 3, bytes)).toBe(8);
    expect(Buffer.from(bytes.subarray(0, 5)).toString()).toBe('hello');
    expect(await readVpd(pdev, 10, bytes)).toBe(4);
    expect(bytes[3]).toBe(0x78);
    expect(await readVpd(pdev, 14, bytes)).toBe(0);
    expect(await host.init.readFile(`${pdev.sysfs.path()}/vpd`)).toHaveLength(14);
  });

  it('are written in words', async () => {
    const { host, fn, pdev } = await lab(new VpdFunction());
    await using _ = host;
    expect(await writeVpd(pdev, 4, Uint8Array.of(0x45, 0x4c, 0x4c, 0x4f))).toBe(4);
    expect([...fn.store.subarray(3, 8)]).toEqual([0x68, 0x45, 0x4c, 0x4c, 0x4f]);
    await expect(writeVpd(pdev, 2, new Uint8Array(4))).rejects.toEqual(code('EINVAL'));
    await expect(writeVpd(pdev, 12, new Uint8Array(4))).rejects.toEqual(code('EINVAL'));
  });

  it('may be missing, make no sense, or never come', async () => {
    const plain = await lab(new LabFunction());
    await using _plain = plain.host;
    await expect(readVpd(plain.pdev, 0, new Uint8Array(1))).rejects.toEqual(code('ENODEV'));
    const { host, fn, pdev } = await lab(new VpdFunction());
    await using _ = host;
    fn.store[0] = 0xff;
    await expect(readVpd(pdev, 0, new Uint8Array(1))).rejects.toEqual(code('EIO'));
    fn.stuck = true;
    fn.writeConfig(fn.cap(CapId.VPD) + Vpd.ADDR, 2, 0);
    await expect(readVpd(pdev, 0, new Uint8Array(1))).rejects.toEqual(code('ETIMEDOUT'));
  });
});
