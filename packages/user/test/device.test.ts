import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, longs, words } from './raw-client.js';

const EINVAL = 22;
const CONFIG = 7;

/** 32-bit words of a payload. */
function wordsOf(payload: Uint8Array): number[] {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return Array.from({ length: payload.length / 4 }, (_, i) => view.getUint32(i * 4, true));
}

function regionInfo(index: number, argsz = 32): Uint8Array {
  return concat(words(argsz, 0, index, 0), longs(0, 0));
}

describe('information', () => {
  it('VFU-044 a device has regions, interrupts, and flags', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(wordsOf(await client.ask(Command.DEVICE_GET_INFO, words(16, 0, 0, 0)))).toEqual([16, 2, 9, 5]);
  });

  it('VFU-045 argsz has to have room for the answer, and may have more', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const argsz of [0, 15])
      expect(await client.errno(Command.DEVICE_GET_INFO, words(argsz, 0, 0, 0))).toBe(EINVAL);
    for (const argsz of [32, 4096, 0xffff_ffff]) {
      expect(wordsOf(await client.ask(Command.DEVICE_GET_INFO, words(argsz, 0, 0, 0)))).toEqual([16, 2, 9, 5]);
    }
    for (const argsz of [0, 31]) {
      expect(await client.errno(Command.DEVICE_GET_REGION_INFO, regionInfo(0, argsz))).toBe(EINVAL);
    }
    for (const argsz of [0, 15]) {
      expect(await client.errno(Command.DEVICE_GET_IRQ_INFO, words(argsz, 0, 0, 0))).toBe(EINVAL);
    }
  });

  it('VFU-046 all regions are described, those that the device lacks with size 0', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const seen: unknown[] = [];
    for (let index = 0; index < 9; index++) {
      const [argsz, flags, echoed, capOffset, size] = wordsOf(
        await client.ask(Command.DEVICE_GET_REGION_INFO, regionInfo(index, 4096)),
      );
      expect([argsz, echoed, capOffset]).toEqual([32, index, 0]);
      seen.push([flags, size]);
    }
    const absent = [0, 0];
    const readWrite = 3;
    const [ports, config] = [
      [readWrite, 8],
      [readWrite, 255], // as the kernel's sample has it
    ];
    expect(seen).toEqual([ports, absent, absent, absent, absent, absent, absent, config, absent]);
  });

  it('VFU-047 there is no region 9', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const index of [9, 0xffff_ffff]) {
      expect(await client.errno(Command.DEVICE_GET_REGION_INFO, regionInfo(index))).toBe(EINVAL);
    }
  });

  it('VFU-052 VFU-053 config space is read as a whole, and its list of capabilities ends', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const config = (await client.ask(Command.REGION_READ, concat(longs(0), words(CONFIG, 255)))).subarray(16);
    expect(config).toHaveLength(255);
    const hasList = (config[6]! & 0x10) !== 0;
    const seen = new Set<number>();
    for (let at = hasList ? config[0x34]! : 0; at !== 0; at = config[at + 1]!) {
      expect(seen.has(at)).toBe(false);
      seen.add(at);
    }
    expect(await client.errno(Command.REGION_READ, concat(longs(256), words(CONFIG, 1)))).toBe(EINVAL);
  });

  it('VFU-069 an interrupt type that the device lacks has a count of 0; there is no type 5', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const seen: number[][] = [];
    for (let index = 0; index < 5; index++) {
      seen.push(wordsOf(await client.ask(Command.DEVICE_GET_IRQ_INFO, words(16, 0, index, 0))));
    }
    expect(seen).toEqual([
      [16, 7, 0, 1],
      [16, 9, 1, 1],
      [16, 0, 2, 0],
      [16, 0, 3, 0],
      [16, 0, 4, 0],
    ]);
    for (const index of [5, 0xffff_ffff]) {
      expect(await client.errno(Command.DEVICE_GET_IRQ_INFO, words(16, 0, index, 0))).toBe(EINVAL);
    }
  });
});

describe('access', () => {
  const read = (offset: number | bigint, region: number, count: number) => concat(longs(offset), words(region, count));
  const write = (offset: number, region: number, bytes: readonly number[], count = bytes.length) =>
    concat(longs(offset), words(region, count), Uint8Array.from(bytes));

  it('VFU-055 VFU-056 VFU-057 config space has fields that stay, a BAR that tells its size, a command register', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const value = async (offset: number, count: number) => [
      ...(await client.ask(Command.REGION_READ, read(offset, CONFIG, count))).subarray(16),
    ];
    expect(await value(0, 4)).toEqual([0x48, 0x43, 0x53, 0x32]);
    await client.ask(Command.REGION_WRITE, write(0x10, CONFIG, [0xff, 0xff, 0xff, 0xff]));
    expect(await value(0x10, 4)).toEqual([0xf9, 0xff, 0xff, 0xff]);
    await client.ask(Command.REGION_WRITE, write(4, CONFIG, [1]));
    expect((await value(4, 2))[0]! & 1).toBe(1);
  });

  it('VFU-058 nothing beyond the end of a region, nor around it', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const [offset, count] of [
      [252, 4],
      [255, 1],
      [256, 1],
      [2n ** 64n - 1n, 1],
      [2n ** 64n - 4n, 8],
      [2n ** 63n, 4],
      [2n ** 53n, 1],
      [0, 256],
    ] as const) {
      expect(await client.errno(Command.REGION_READ, read(offset, CONFIG, count))).toBe(EINVAL);
    }
    expect(await client.errno(Command.REGION_WRITE, write(252, CONFIG, [1, 2, 3, 4]))).toBe(EINVAL);
    expect((await client.ask(Command.REGION_READ, read(251, CONFIG, 4))).length).toBe(20);
  });

  it('VFU-059 bad and empty regions', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const region of [9, 1000, 0xffff_ffff, 3]) {
      expect(await client.errno(Command.REGION_READ, read(0, region, 1))).toBe(EINVAL);
      expect(await client.errno(Command.REGION_WRITE, write(0, region, [1]))).toBe(EINVAL);
    }
  });

  it('VFU-060 no more than what was agreed on', async () => {
    await using lab = await Lab.create({ capabilities: { maxDataXferSize: 128 } });
    const client = await lab.open();
    expect((await client.ask(Command.REGION_READ, read(0, CONFIG, 128))).length).toBe(144);
    expect(await client.errno(Command.REGION_READ, read(0, CONFIG, 129))).toBe(EINVAL);
    expect(await client.errno(Command.REGION_READ, read(0, CONFIG, 0xffff_ffff))).toBe(EINVAL);
  });

  it('VFU-061 a count of 0 is an empty success', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.ask(Command.REGION_READ, read(0x10, CONFIG, 0))).toEqual(read(0x10, CONFIG, 0));
    expect(await client.ask(Command.REGION_WRITE, write(0x10, CONFIG, []))).toEqual(write(0x10, CONFIG, []));
  });

  it('VFU-062 VFU-063 data that is shorter or longer than its count is refused', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const line = () => client.ask(Command.REGION_READ, read(0x3c, CONFIG, 1));
    await client.ask(Command.REGION_WRITE, write(0x3c, CONFIG, [9]));
    expect(await client.errno(Command.REGION_WRITE, write(0x3c, CONFIG, [1], 2))).toBe(EINVAL);
    expect(await client.errno(Command.REGION_WRITE, write(0x3c, CONFIG, [1, 2], 1))).toBe(EINVAL);
    expect(await client.errno(Command.REGION_WRITE, write(0x3c, CONFIG, [], 1))).toBe(EINVAL);
    expect((await line())[16]).toBe(9);
  });

  it('the reply repeats offset, region and count', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const reply = await client.ask(Command.REGION_WRITE, write(0x3c, CONFIG, [7]));
    expect(reply).toEqual(read(0x3c, CONFIG, 1));
    expect(await client.ask(Command.REGION_READ, read(0x3c, CONFIG, 1))).toEqual(write(0x3c, CONFIG, [7]));
  });

  it('VFU-064 all widths at all places', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const whole = (await client.ask(Command.REGION_READ, read(0, CONFIG, 64))).subarray(16);
    for (const count of [1, 2, 3, 4, 5, 8, 16, 33]) {
      for (let offset = 0; offset + count <= 64; offset += 3) {
        const got = (await client.ask(Command.REGION_READ, read(offset, CONFIG, count))).subarray(16);
        expect(got).toEqual(whole.subarray(offset, offset + count));
      }
    }
  });

  it.each([
    [false, true],
    [true, false],
    [false, false],
  ])('VFU-068 WRITE_MULTI is for those who both said so (server %s, client %s)', async (server, client) => {
    await using lab = await Lab.create({ capabilities: { writeMultiple: server } });
    const other = await lab.open(`{"capabilities":{"write_multiple":${client}}}`);
    const one = concat(longs(1), longs(0x3c), words(CONFIG, 1), longs(5));
    expect(await other.errno(Command.REGION_WRITE_MULTI, one)).toBe(EINVAL);
  });

  it('VFU-068 WRITE_MULTI writes in order, and refuses bad counts', async () => {
    await using lab = await Lab.create({ capabilities: { writeMultiple: true } });
    const client = await lab.open('{"capabilities":{"write_multiple":true}}');
    const entry = (value: number, count = 1, region = CONFIG) =>
      concat(longs(0x3c), words(region, count), longs(value));
    const line = async () => (await client.ask(Command.REGION_READ, read(0x3c, CONFIG, 1)))[16];
    expect(await client.ask(Command.REGION_WRITE_MULTI, concat(longs(3), entry(1), entry(2), entry(3)))).toEqual(
      longs(3),
    );
    expect(await line()).toBe(3);
    expect(await client.ask(Command.REGION_WRITE_MULTI, longs(0))).toEqual(longs(0));
    for (const bad of [
      concat(longs(2), entry(9)),
      concat(longs(0), entry(9)),
      concat(longs(2n ** 64n - 1n), entry(9)),
      concat(longs(1), entry(9, 9)),
      concat(longs(1), entry(9, 1, 99)),
    ]) {
      expect(await client.errno(Command.REGION_WRITE_MULTI, bad)).toBe(EINVAL);
    }
    expect(await line()).toBe(3);
  });
});

describe('the rest', () => {
  it('VFU-103 a reset is answered with nothing', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.ask(Command.DEVICE_RESET)).toEqual(new Uint8Array(0));
  });

  it('VFU-104 no region has descriptors for its accesses, and wrong questions are refused', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.ask(Command.DEVICE_GET_REGION_IO_FDS, words(16, 0, 0, 0))).toEqual(words(16, 0, 0, 0));
    expect(await client.ask(Command.DEVICE_GET_REGION_IO_FDS, words(4096, 0, CONFIG, 0))).toEqual(
      words(16, 0, CONFIG, 0),
    );
    for (const [argsz, flags, index, count] of [
      [15, 0, 0, 0],
      [16, 1, 0, 0],
      [16, 0, 0, 1],
      [16, 0, 9, 0],
      [16, 0, 3, 0],
    ] as const) {
      expect(await client.errno(Command.DEVICE_GET_REGION_IO_FDS, words(argsz, flags, index, count))).toBe(EINVAL);
    }
  });

  it('VFU-105 fifty clients in a row', async () => {
    await using lab = await Lab.create();
    await lab.leave(await lab.open());
    const before = lab.fdCount();
    for (let i = 0; i < 50; i++) {
      const client = await lab.open();
      await client.ask(Command.DEVICE_GET_INFO, words(16, 0, 0, 0));
      await lab.leave(client);
    }
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-106 a second client waits for the first, who does not notice', async () => {
    await using lab = await Lab.create();
    const first = await lab.open();
    const second = lab.connect();
    const asked = second.request(Command.VERSION, concat(words(0)));
    expect(await second.isSilent()).toBe(true);
    await first.ask(Command.DEVICE_GET_INFO, words(16, 0, 0, 0));
    await lab.leave(first);
    expect((await asked).errno).toBe(0);
  });

  it('VFU-107 a client that ends its side is answered and let go', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const before = await client.request(Command.REGION_READ, read7());
    client.socket.endWriting();
    expect(await client.ends()).toBe(true);
    await lab.server.idle();
    expect(before.errno).toBe(0);
  });
});

function read7(): Uint8Array {
  return concat(longs(0), words(CONFIG, 4));
}
