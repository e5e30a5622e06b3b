import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, longs, type RawClient, words } from './raw-client.js';

const EINVAL = 22;
const CONFIG = 7;
const [GET, SET, PROBE] = [0x1_0000, 0x2_0000, 0x4_0000];
const [MIGRATION, STATE, LOGGING_START, LOGGING_STOP, LOGGING_REPORT] = [1, 2, 6, 7, 8];
const [ERROR, STOP, RUNNING, STOP_COPY, RESUMING, P2P, PRE_COPY] = [0, 1, 2, 3, 4, 5, 6];
const ROOM = 1 << 20;

function feature(flags: number, data: Uint8Array = new Uint8Array(0), argsz = ROOM): Uint8Array {
  return concat(words(argsz, flags), data);
}

function setState(client: RawClient, state: number): Promise<number> {
  return client.errno(Command.DEVICE_FEATURE, feature(SET | STATE, words(state, 0)));
}

async function stateOf(client: RawClient): Promise<number> {
  const reply = await client.ask(Command.DEVICE_FEATURE, feature(GET | STATE));
  return new DataView(reply.buffer, reply.byteOffset).getUint32(8, true);
}

function readData(client: RawClient, size: number): Promise<Uint8Array> {
  return client.ask(Command.MIG_DATA_READ, words(8 + size, size));
}

/** All that the device has to say. */
async function readAll(client: RawClient, size: number): Promise<Uint8Array> {
  const parts: Uint8Array[] = [];
  for (;;) {
    const part = (await readData(client, size)).subarray(8);
    parts.push(part);
    if (part.length < size) return concat(...parts);
  }
}

function writeData(client: RawClient, bytes: Uint8Array): Promise<number> {
  return client.errno(Command.MIG_DATA_WRITE, concat(words(8 + bytes.length, bytes.length), bytes));
}

async function line(client: RawClient): Promise<number | undefined> {
  return (await client.ask(Command.REGION_READ, concat(longs(0x3c), words(CONFIG, 1))))[16];
}

/** Leaves a mark in the registers of port 0: the scratch register of its UART. */
async function setScratch(client: RawClient, value: number): Promise<void> {
  await client.ask(Command.REGION_WRITE, concat(longs(7), words(0, 1), Uint8Array.of(value)));
}

async function scratch(client: RawClient): Promise<number | undefined> {
  return (await client.ask(Command.REGION_READ, concat(longs(7), words(0, 1))))[16];
}

describe('DEVICE_FEATURE', () => {
  it('VFU-110 is probed, gets and sets', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const probe = feature(PROBE | GET | MIGRATION, undefined, 8);
    expect(await client.ask(Command.DEVICE_FEATURE, probe)).toEqual(probe);
    for (const flags of [PROBE | GET | STATE, PROBE | SET | STATE, PROBE | GET | SET | STATE]) {
      expect(await client.errno(Command.DEVICE_FEATURE, feature(flags, undefined, 8))).toBe(0);
    }
    const reply = await client.ask(Command.DEVICE_FEATURE, feature(GET | MIGRATION));
    const flags = new DataView(reply.buffer, reply.byteOffset).getBigUint64(8, true);
    expect(reply).toHaveLength(16);
    expect(flags & 1n).toBe(1n);
    expect(await stateOf(client)).toBe(RUNNING);
    const set = feature(SET | STATE, words(STOP, 0));
    expect(await client.ask(Command.DEVICE_FEATURE, set)).toEqual(set);
    expect(await stateOf(client)).toBe(STOP);
  });

  it.each([
    ['an unknown feature', feature(GET | 99)],
    ['one that means nothing here', feature(GET | 0, new Uint8Array(16))],
    ['ranges that are missing', feature(SET | LOGGING_START, concat(longs(4096), words(2, 0), longs(0, 4096)))],
    ['no ranges', feature(SET | LOGGING_START, concat(longs(4096), words(0, 0)))],
    ['no operation', feature(MIGRATION)],
    ['a probe of nothing', feature(PROBE | MIGRATION)],
    ['both operations', feature(GET | SET | MIGRATION)],
    ['a wrong operation', feature(SET | MIGRATION, new Uint8Array(8))],
    ['unknown flags', feature(0x8_0000 | GET | MIGRATION)],
    ['too little room for the answer', feature(GET | MIGRATION, undefined, 15)],
    ['an argsz below the head', feature(GET | MIGRATION, undefined, 7)],
    ['a state that is missing', feature(SET | STATE, words(STOP))],
  ])('VFU-110 refuses %s', async (_, payload) => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.errno(Command.DEVICE_FEATURE, payload)).toBe(EINVAL);
    expect(await stateOf(client)).toBe(RUNNING);
  });
});

describe('DMA logging', () => {
  const start = feature(SET | LOGGING_START, concat(longs(4096), words(2, 0), longs(0, 0x10_0000, 0x20_0000, 0x1000)));
  const report = (address: number, length: number, pageSize: number, argsz = ROOM) =>
    feature(GET | LOGGING_REPORT, longs(address, length, pageSize), argsz);

  it('VFU-114 is started, reports a bitmap of whole words of what was written, and is stopped', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.ask(Command.DEVICE_FEATURE, start)).toEqual(start);
    for (const [length, pageSize, bytes] of [
      [0x10_0000, 4096, 32],
      [0x1000, 4096, 8],
      [65 * 4096, 4096, 16],
      [0x10_0000, 0x1_0000, 8],
    ] as const) {
      const reply = await client.ask(Command.DEVICE_FEATURE, report(0, length, pageSize));
      // this device does no DMA, and so has written nothing
      expect(reply).toEqual(concat(report(0, length, pageSize, 8 + 24 + bytes), new Uint8Array(bytes)));
    }
    expect(await client.errno(Command.DEVICE_FEATURE, feature(SET | LOGGING_STOP))).toBe(0);
  });

  it('VFU-114 refuses pages that are none, and bitmaps without end', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    await client.ask(Command.DEVICE_FEATURE, start);
    for (const pageSize of [0, 3, 6000]) {
      expect(await client.errno(Command.DEVICE_FEATURE, report(0, 0x1000, pageSize))).toBe(EINVAL);
    }
    expect(await client.errno(Command.DEVICE_FEATURE, report(0, 2 ** 40, 4096))).toBe(EINVAL);
    expect(await client.errno(Command.DEVICE_FEATURE, report(0, 0x1000, 4096, 39))).toBe(EINVAL);
    expect(await client.errno(Command.DEVICE_FEATURE, feature(GET | LOGGING_REPORT, longs(0, 4096)))).toBe(EINVAL);
  });

  it('VFU-110 a device without it says so', async () => {
    await using lab = await Lab.create({ device: 'edu' });
    const client = await lab.open();
    for (const payload of [
      start,
      feature(PROBE | GET | LOGGING_REPORT),
      feature(SET | LOGGING_STOP),
      feature(GET | STATE),
    ]) {
      expect(await client.errno(Command.DEVICE_FEATURE, payload)).toBe(EINVAL);
    }
  });
});

describe('migration', () => {
  it.each([1, 7, 4096, 65536])('VFU-111 goes there and back, %i bytes at a time', async (size) => {
    await using lab = await Lab.create();
    const client = await lab.open();
    await setScratch(client, 0x5a);
    expect(await setState(client, STOP_COPY)).toBe(0);
    const data = await readAll(client, size);
    expect(data.length).toBeGreaterThan(0);
    expect((await readData(client, 100)).subarray(8)).toHaveLength(0);
    expect(await setState(client, RUNNING)).toBe(0);
    await setScratch(client, 0);
    expect(await setState(client, RESUMING)).toBe(0);
    for (let at = 0; at < data.length; at += size)
      expect(await writeData(client, data.subarray(at, at + size))).toBe(0);
    expect(await setState(client, RUNNING)).toBe(0);
    expect(await stateOf(client)).toBe(RUNNING);
    expect(await scratch(client)).toBe(0x5a);
  });

  it('VFU-111 begins before the device is stopped, where it can', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await setState(client, PRE_COPY)).toBe(0);
    const early = await readAll(client, 4096);
    expect(await setState(client, STOP_COPY)).toBe(0);
    const late = await readAll(client, 4096);
    expect(await setState(client, STOP)).toBe(0);
    expect(await setState(client, RESUMING)).toBe(0);
    expect(await writeData(client, concat(early, late))).toBe(0);
    expect(await setState(client, RUNNING)).toBe(0);
  });

  it('VFU-112 some states can not be asked for, and asking changes nothing', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const state of [ERROR, P2P, 7, 8, 0xffff_ffff]) expect(await setState(client, state)).toBe(EINVAL);
    expect(await stateOf(client)).toBe(RUNNING);
    await setState(client, STOP_COPY);
    expect(await setState(client, PRE_COPY)).toBe(EINVAL);
    expect(await stateOf(client)).toBe(STOP_COPY);
  });

  it('VFU-113 data at the wrong time, or in the wrong shape, is refused', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const read = words(24, 16);
    for (const state of [RUNNING, STOP, RESUMING]) {
      await setState(client, state);
      expect(await client.errno(Command.MIG_DATA_READ, read)).toBe(EINVAL);
    }
    expect(await client.errno(Command.MIG_DATA_WRITE, concat(words(24, 16), new Uint8Array(15)))).toBe(EINVAL);
    expect(await client.errno(Command.MIG_DATA_WRITE, concat(words(23, 16), new Uint8Array(16)))).toBe(EINVAL);
    expect(await client.errno(Command.MIG_DATA_WRITE, words(8))).toBe(EINVAL);
    await client.ask(Command.DEVICE_RESET);
    for (const state of [STOP, STOP_COPY, RUNNING]) {
      await setState(client, state);
      expect(await writeData(client, new Uint8Array(16))).toBe(EINVAL);
    }
    await setState(client, STOP_COPY);
    expect(await client.errno(Command.MIG_DATA_READ, words(7, 16))).toBe(EINVAL);
    expect(await client.errno(Command.MIG_DATA_READ, words(0xffff_ffff, 0x7fff_ffff))).toBe(EINVAL);
  });

  it('a reset ends it, and so does the end of the client', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    await setState(client, STOP_COPY);
    await client.ask(Command.DEVICE_RESET);
    expect(await stateOf(client)).toBe(RUNNING);
    expect(await client.errno(Command.MIG_DATA_READ, words(24, 16))).toBe(EINVAL);
    await setState(client, STOP_COPY);
    await lab.leave(client);
    expect(await line(await lab.open())).toBeDefined();
  });
});
