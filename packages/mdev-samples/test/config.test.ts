import { describe, expect, it } from 'vitest';
import { MttyConfigSpace } from '../src/mtty/config.js';
import { Lab } from './lab.js';

const CONFIG = 7;

function hex(bytes: Uint8Array): string {
  return Buffer.from(bytes).toString('hex');
}

function space(ports = 2): MttyConfigSpace {
  return new MttyConfigSpace(ports, () => {});
}

describe('identity', () => {
  it('MTTY-012 begins with the bytes of a 16550 card', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    expect(hex(await card.read(CONFIG, 0, 16))).toBe('48435332010000021002000700000000');
  });

  it('MTTY-016 spells its name', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    expect(Buffer.from(await card.read(CONFIG, 0x60, 16)).toString('latin1')).toBe('PCI Serial/UART\0');
  });

  it('is the same for big-endian callers: config space has its own byte order', async () => {
    await using lab = await Lab.create();
    await lab.create();
    const other = lab.host.spawn({ comm: 's390', byteOrder: 'big' });
    const card = await lab.open(undefined, other);
    expect(hex(await card.read(CONFIG, 0, 4))).toBe('48435332');
    await card.write(CONFIG, 0x10, 0x50, 0xc1, 0, 0);
    expect(hex(await card.read(CONFIG, 0x10, 4))).toBe('51c10000');
    expect((await card.info()).numRegions).toBe(9);
    await other.exit();
  });
});

describe('BARs', () => {
  it('MTTY-013 tell their size and take an address', () => {
    const config = space();
    config.write(0x10, 4, 0xffff_ffff);
    expect(config.read(0x10, 4)).toBe(0xffff_fff9);
    config.write(0x10, 4, 0xc150);
    expect(config.read(0x10, 4)).toBe(0xc151);
    expect(config.read(0x14, 4)).toBe(0x0000_0001);
  });

  it('never lose a low bit that was set', () => {
    const config = space();
    config.write(0x14, 4, 0xc153);
    config.write(0x14, 4, 0xc000);
    expect(config.read(0x14, 4)).toBe(0xc003);
    config.write(0x14, 4, 0xffff_ffff);
    expect(config.read(0x14, 4)).toBe(0xffff_fffb);
  });

  it('MTTY-014 the second of a card with one port is always 0', () => {
    const config = space(1);
    expect(config.read(0x14, 4)).toBe(0);
    for (const value of [0xffff_ffff, 0xc151, 1]) {
      config.write(0x14, 4, value);
      expect(config.read(0x14, 4)).toBe(0);
    }
  });

  it('the others are always 0', () => {
    const config = space();
    for (const offset of [0x18, 0x1c, 0x20, 0x24, 0x30]) {
      config.write(offset, 4, 0xffff_ffff);
      expect(config.read(offset, 4)).toBe(0);
    }
  });

  it('take a narrow write as a whole address, and none in their middle', () => {
    const config = space();
    config.write(0x10, 4, 0x1234_5678);
    config.write(0x12, 2, 0xffff);
    expect(config.read(0x10, 4)).toBe(0x1234_5679);
    config.write(0x10, 1, 0x40);
    expect(config.read(0x10, 4)).toBe(0x41);
    config.write(0x10, 2, 0xffff);
    expect(config.read(0x10, 4)).toBe(0xffff);
  });
});

describe('other registers', () => {
  it('MTTY-015 the command is ignored, the line is kept, the pin stays', () => {
    const config = space();
    config.write(0x04, 2, 0xffff);
    config.write(0x06, 2, 0xffff);
    expect(config.read(0x04, 4)).toBe(0x0200_0001);
    config.write(0x3c, 1, 0x11);
    config.write(0x3d, 1, 0x22);
    expect(config.read(0x3c, 4)).toBe(0x0111);
    config.write(0x3c, 4, 0xaabb_ccdd);
    expect(config.read(0x3c, 4)).toBe(0x01dd);
  });

  it('take nothing, and the log hears of it', () => {
    const lines: string[] = [];
    const config = new MttyConfigSpace(1, (text) => lines.push(text));
    config.write(0x2c, 4, 0);
    config.write(0x10, 4, 0xc150);
    expect(config.read(0x2c, 4)).toBe(0x3253_4348);
    expect(lines).toEqual(['PCI config write @0x2c of 4 bytes not handled', 'BAR0 addr 0xc150']);
  });

  it('are found again every 64 KiB by writes, and not by reads', () => {
    const config = space();
    config.write(0x1_003c, 1, 0x42);
    expect(config.read(0x3c, 1)).toBe(0x42);
    expect(config.read(0x1_003c, 1)).toBe(0);
  });

  it('end after 255 bytes; beyond that there are zeros', () => {
    const config = space();
    expect(config.read(0xfc, 4)).toBe(0);
    expect(config.read(0xff, 1)).toBe(0);
    expect(config.read(0x1_0000_0000, 4)).toBe(0);
  });
});
