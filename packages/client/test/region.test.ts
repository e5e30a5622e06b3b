import { describe, expect, it } from 'vitest';
import { ProcessTransport, type Region, VfioClient } from '../src/index.js';
import { createLab, failureOf, type Lab } from './lab.js';
import { ModelRegion, mappableAreas, registersSize, romSize, romType } from './model-device.js';

async function withRegions(run: (lab: Lab, registers: Region, rom: Region) => Promise<void>): Promise<void> {
  await using lab = await createLab();
  await using device = await lab.client.openDevice('model0');
  await run(lab, await device.region(ModelRegion.REGISTERS), await device.region(ModelRegion.ROM));
}

describe('a region', () => {
  it('tells what it is', () =>
    withRegions(async (_, registers, rom) => {
      expect(registers).toMatchObject({ index: 0, size: BigInt(registersSize), offset: 0n });
      expect([registers.readable, registers.writable, registers.mappable]).toEqual([true, true, true]);
      expect(registers.sparseAreas).toEqual(mappableAreas);
      expect(registers.msixMappable).toBe(true);
      expect(registers.type).toBeUndefined();
      expect(rom).toMatchObject({ index: 2, size: BigInt(romSize), offset: 2n << 40n });
      expect([rom.readable, rom.writable, rom.mappable]).toEqual([true, false, false]);
      expect(rom.type).toEqual(romType);
      expect(rom.sparseAreas).toBeUndefined();
      expect(rom.msixMappable).toBe(false);
    }));

  it('of size 0 has no capabilities', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    expect(await device.region(ModelRegion.ABSENT)).toMatchObject({ size: 0n, flags: 0, capabilities: [] });
  });

  it('is read and written at positions of its own', () =>
    withRegions(async (lab, registers, rom) => {
      expect(await registers.write(0x20, Uint8Array.of(1, 2, 3))).toBe(3);
      expect(lab.model().registers(0x20, 3)).toEqual(Uint8Array.of(1, 2, 3));
      expect(await registers.read(0x21n, 2)).toEqual(Uint8Array.of(2, 3));
      expect(await rom.read(5, 3)).toEqual(Uint8Array.of(5, 6, 7));
    }));

  it('gives and takes less where it ends', () =>
    withRegions(async (_, registers, rom) => {
      expect(await rom.read(romSize - 2, 8)).toEqual(Uint8Array.of(98, 99));
      expect(await registers.write(registersSize - 1, Uint8Array.of(1, 2))).toBe(1);
      expect(await failureOf(rom.read(romSize, 1))).toMatchObject({ code: 'EINVAL', syscall: 'pread' });
    }));

  it('has little-endian values of any width', () =>
    withRegions(async (lab, registers) => {
      await registers.store(8, 8, 0x0102_0304_0506_0708n);
      expect(lab.model().registers(8, 8)).toEqual(Uint8Array.of(8, 7, 6, 5, 4, 3, 2, 1));
      for (const [width, value] of [
        [1, 8n],
        [2, 0x0708n],
        [4, 0x0506_0708n],
        [8, 0x0102_0304_0506_0708n],
      ] as const) {
        expect(await registers.load(8, width)).toBe(value);
      }
      await registers.store(8, 2, -1);
      expect(await registers.load(8, 4)).toBe(0x0506_ffffn);
    }));

  it('does not pass a part of a value off as the value', () =>
    withRegions(async (_, registers, rom) => {
      expect(await failureOf(rom.load(romSize - 2, 4))).toMatchObject({
        code: 'EIO',
        message: "EIO: 2 of 4 bytes, pread 'model0 region 2'",
      });
      expect(await failureOf(registers.store(registersSize - 1, 2, 1))).toMatchObject({
        message: "EIO: 1 of 2 bytes, pwrite 'model0 region 0'",
      });
    }));
});

describe('a mapping', () => {
  it('reaches the region access by access, and can be taken away once', () =>
    withRegions(async (lab, registers) => {
      const mapping = await registers.mmap(mappableAreas[1].offset, 4096);
      expect(mapping.length).toBe(4096);
      mapping.store(0x10, 4, 0xdead_beefn);
      expect(lab.model().registers(0x2010, 4)).toEqual(Uint8Array.of(0xef, 0xbe, 0xad, 0xde));
      expect(mapping.load(0x12, 2)).toBe(0xdeadn);
      mapping.unmap();
      expect(() => mapping.load(0, 1)).toThrow('SIGSEGV');
      // its place is somebody else's now
      const other = await registers.mmap(0, 4096);
      expect(other.address).toBe(mapping.address);
      mapping.unmap();
      expect(other.load(0, 1)).toBe(0n);
      other.unmap();
    }));

  it('fails with the errno of the kernel', () =>
    withRegions(async (_, registers, rom) => {
      expect(await failureOf(registers.mmap())).toMatchObject({
        code: 'EINVAL',
        syscall: 'mmap',
        subject: 'model0 region 0',
      });
      expect(await failureOf(rom.mmap(0, 4096))).toMatchObject({ code: 'EINVAL' });
      expect(await failureOf(registers.mmap(1, 4096))).toMatchObject({ code: 'EINVAL' });
    }));
});

describe('memory of the client', () => {
  it('is given back once', async () => {
    await using lab = await createLab();
    const transport = new ProcessTransport(lab.host.spawn());
    const memory = transport.allocate(4096);
    memory.write(4090, Uint8Array.of(1, 2));
    expect(memory.read(4090, 2)).toEqual(Uint8Array.of(1, 2));
    memory.free();
    const other = transport.allocate(4096);
    expect(other.address).toBe(memory.address);
    memory.free();
    other.write(0, Uint8Array.of(1));
    expect(() => memory.read(8192, 1)).toThrow('EFAULT');
  });

  it('counts events of eventfds only', async () => {
    await using lab = await createLab();
    const transport = new ProcessTransport(lab.host.spawn());
    const eventfd = transport.eventfd();
    await transport.write(eventfd, Uint8Array.of(3, 0, 0, 0, 0, 0, 0, 0));
    expect([transport.takeEvents(eventfd), transport.takeEvents(eventfd)]).toEqual([3n, 0n]);
    await using container = await new VfioClient(transport).openContainer();
    expect(() => transport.takeEvents(container.fd)).toThrow(`descriptor ${container.fd} is no eventfd`);
  });
});
