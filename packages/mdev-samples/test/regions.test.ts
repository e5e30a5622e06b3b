import { Request } from '@vfio/core';
import { Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { Lab } from './lab.js';

const [BAR0, BAR1, ROM, CONFIG, VGA] = [0, 1, 6, 7, 8];
const [DATA, FCR, MCR, LSR, SCR] = [0, 2, 4, 5, 7];

function failing(code: string) {
  return expect.objectContaining({ code });
}

describe('device info', () => {
  it('MTTY-007 is a PCI device with 9 regions and 5 interrupts', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    expect(await card.info()).toMatchObject({ flags: 2, numRegions: 9, numIrqs: 5 });
  });

  it('CORE-120 wants 16 bytes, and writes back no more than its first version', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    expect(await card.info(64)).toMatchObject({ argsz: 64, capOffset: 0x55 });
    expect(await card.info(16)).toMatchObject({ argsz: 16, capOffset: 0x55 });
    await expect(card.info(15)).rejects.toThrow(failing('EINVAL'));
    await expect(card.ioctl(Request.DEVICE_GET_INFO, new Uint8Array(15))).rejects.toThrow(failing('EFAULT'));
  });

  it('knows no other request', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    for (const request of [Request.DEVICE_QUERY_GFX_PLANE, Request.DEVICE_PCI_HOT_RESET, 0x3bff]) {
      await expect(card.ioctl(request, new Uint8Array(64))).rejects.toThrow(failing('ENOTTY'));
    }
  });
});

describe('region info', () => {
  it('MTTY-009 config space is region 7, 255 bytes, to be read and written', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    expect(await card.region(CONFIG)).toMatchObject({ flags: 3, size: 0xffn, offset: 7n << 40n });
  });

  it('MTTY-010 the second BAR has a size on a card with two ports', async () => {
    await using lab = await Lab.create();
    const single = await lab.card('mtty-1');
    expect(await single.region(BAR0)).toMatchObject({ flags: 3, size: 8n, offset: 0n });
    expect(await single.region(BAR1)).toMatchObject({ flags: 3, size: 0n, offset: 1n << 40n });
    await single.close();
    await lab.remove();
    const dual = await lab.card('mtty-2');
    expect(await dual.region(BAR1)).toMatchObject({ flags: 3, size: 8n, offset: 1n << 40n });
  });

  it('MTTY-011 there are nine; ROM and VGA are empty, and can not be accessed', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await expect(card.region(9)).rejects.toThrow(failing('EINVAL'));
    await expect(card.region(0xffff_ffff)).rejects.toThrow(failing('EINVAL'));
    for (const index of [ROM, VGA]) {
      expect(await card.region(index)).toMatchObject({ flags: 3, size: 0n });
      await expect(card.read(index, 0, 4)).rejects.toThrow(failing('EFAULT'));
      await expect(card.write(index, 0, 1)).rejects.toThrow(failing('EFAULT'));
    }
    await expect(card.region(CONFIG, 31)).rejects.toThrow(failing('EINVAL'));
  });
});

describe('access', () => {
  it('reaches a port of its own for each of two BARs', async () => {
    await using lab = await Lab.create();
    const card = await lab.card('mtty-2');
    await card.out(DATA, 0x41, 0);
    await card.out(DATA, 0x42, 1);
    expect([await card.in(DATA, 1), await card.in(DATA, 0)]).toEqual([0x42, 0x41]);
  });

  it('reaches the second port of a card that claims to have one', async () => {
    await using lab = await Lab.create();
    const card = await lab.card('mtty-1');
    await card.out(SCR, 0x99, 1);
    expect(await card.in(SCR, 1)).toBe(0x99);
    expect(await card.in(SCR, 0)).toBe(0);
  });

  it('finds no port behind the other BARs, and nothing beyond the regions', async () => {
    await using lab = await Lab.create();
    const card = await lab.card('mtty-2');
    for (const index of [2, 3, 4, 5, 9, 20]) {
      await expect(card.read(index, 0, 1)).rejects.toThrow(failing('EFAULT'));
      await expect(card.write(index, 0, 1)).rejects.toThrow(failing('EFAULT'));
    }
  });

  it('MTTY-036 of four bytes sends the lowest, or reads one register', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await card.write(BAR0, DATA, 0x31, 0x32, 0x33, 0x34);
    expect(await card.in(LSR)).toBe(0x01);
    expect([await card.in(DATA), await card.in(LSR)]).toEqual([0x31, 0x60]);
    await card.out(MCR, 0x2b);
    await card.out(SCR, 0x77);
    expect([...(await card.read(BAR0, MCR, 4))]).toEqual([0x2b, 0, 0, 0]);
  });

  it('takes an offset modulo 64 KiB', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await card.write(BAR0, 0x1_0000 + SCR, 0x5a);
    expect(await card.in(SCR)).toBe(0x5a);
    expect([...(await card.read(BAR0, 0x2_0000 + SCR, 1))]).toEqual([0x5a]);
    await card.write(BAR0, 8, 0xff);
    expect([...(await card.read(BAR0, 8, 1))]).toEqual([0]);
  });

  it('keeps what was done before the step that fails', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await card.out(FCR, 1);
    const page = card.process.mm.mmap({ length: 4096, prot: Prot.READ | Prot.WRITE });
    card.process.mm.store(page + 4092n, 4, 0x0403_0261n); // the last four bytes of memory
    const beyond = async () => card.process.pwrite(card.fd, { addr: page + 4092n, length: 8 }, 0);
    await expect(beyond()).rejects.toThrow(failing('EFAULT'));
    expect(await card.in(DATA)).toBe(0x61);
    // positions go on from one region to the next
    expect(await card.write(BAR0, 2 ** 40 - 1, 0, 0x62)).toBe(2);
    expect(await card.in(DATA, 1)).toBe(0x62);
    await expect(card.write(BAR1, 2 ** 40 - 1, 0, 0x63)).rejects.toThrow(failing('EFAULT'));
  });

  it('can not be by mapping', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await expect(card.process.mmap(card.fd, { offset: 0, length: 4096, prot: 3, shared: true })).rejects.toThrow(
      failing('EINVAL'),
    );
  });
});

describe('what stays', () => {
  it('MTTY-048 the port keeps its state over close, open and reset', async () => {
    await using lab = await Lab.create();
    const card = await lab.card();
    await card.out(SCR, 0x5a);
    await card.out(DATA, 0x41);
    await card.out(DATA, 0x42);
    await card.write(CONFIG, 0x10, 0x50, 0xc1, 0, 0);
    await card.reopen();
    expect(await card.ioctl(Request.DEVICE_RESET)).toBe(0);
    expect([await card.in(SCR), await card.in(DATA), await card.in(DATA)]).toEqual([0x5a, 0x41, 0x42]);
    expect([...(await card.read(CONFIG, 0x10, 4))]).toEqual([0x51, 0xc1, 0, 0]);
  });
});
