import { fstat } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, longs, type RawClient, words } from './raw-client.js';

const [BAR0, CONFIG] = [0, 7];
const MMAP = 4;

function ask(client: RawClient, index: number, argsz = 4096) {
  return client.request(Command.DEVICE_GET_REGION_INFO, concat(words(argsz, 0, index, 0), longs(0, 0)));
}

function infoOf(payload: Uint8Array) {
  const view = new DataView(payload.buffer, payload.byteOffset, payload.length);
  return {
    argsz: view.getUint32(0, true),
    flags: view.getUint32(4, true),
    capOffset: view.getUint32(12, true),
    size: Number(view.getBigUint64(16, true)),
    offset: Number(view.getBigUint64(24, true)),
  };
}

/** Maps what came with a description. */
async function map(lab: Lab, client: RawClient) {
  const reply = await ask(client, BAR0);
  const { size, offset } = infoOf(reply.payload);
  const [fd] = reply.fds;
  if (fd === undefined) throw new Error('no descriptor');
  return lab.linux.map(fd.number, { offset, length: size, write: true }, 'a region');
}

async function read(client: RawClient, offset: number, count: number): Promise<number[]> {
  return [...(await client.ask(Command.REGION_READ, concat(longs(offset), words(BAR0, count)))).subarray(16)];
}

describe('a region that can be mapped', () => {
  it('VFU-050 comes with a descriptor, as large as the region, and others do not', async () => {
    await using lab = await Lab.create({ device: 'mdpy' });
    const client = await lab.open();
    for (let index = 0; index < 9; index++) {
      const reply = await ask(client, index);
      const { flags, size, capOffset } = infoOf(reply.payload);
      expect(reply.fds).toHaveLength(index === BAR0 ? 1 : 0);
      expect([(flags & MMAP) !== 0, capOffset]).toEqual([index === BAR0, 0]);
      if (index === BAR0) expect(fstat(reply.fds[0]!.number)).toMatchObject({ size, regular: true });
    }
    expect((await ask(client, CONFIG)).fds).toHaveLength(0);
  });

  it('VFU-050 does so at each question, with the same memory, which the client can not shorten', async () => {
    await using lab = await Lab.create({ device: 'mdpy' });
    const client = await lab.open();
    const [first, second] = [await ask(client, BAR0), await ask(client, BAR0)];
    const [a, b] = [first.fds[0]!.number, second.fds[0]!.number];
    expect(fstat(a).ino).toBe(fstat(b).ino);
    expect(lab.linux.calls.ftruncate(a, 0)).toBe(-1);
    expect(lab.linux.calls.ftruncate(a, 2 ** 30)).toBe(-1);
  });

  it('VFU-051 has the same bytes in the mapping and in messages', async () => {
    await using lab = await Lab.create({ device: 'mdpy' });
    const client = await lab.open();
    // what this device does with messages: an access reaches the first bytes, wherever its position is
    await client.ask(Command.REGION_WRITE, concat(longs(0), words(BAR0, 4), words(0x04030201)));
    using memory = await map(lab, client);
    expect([...memory.bytes.subarray(0, 4)]).toEqual([1, 2, 3, 4]);
    await client.ask(Command.REGION_WRITE, concat(longs(0), words(BAR0, 4), words(0x08070605)));
    expect([...memory.bytes.subarray(0, 4)]).toEqual([5, 6, 7, 8]);
    memory.bytes.set([0xaa, 0xbb, 0xcc, 0xdd]);
    expect(await read(client, 0, 4)).toEqual([0xaa, 0xbb, 0xcc, 0xdd]);
  });

  it('a client that is gone does not see what comes after it, which finds what it has left', async () => {
    await using lab = await Lab.create({ device: 'mdpy' });
    const before = lab.fdCount();
    const client = await lab.open();
    using memory = await map(lab, client);
    memory.bytes.set([1, 2, 3, 4]);
    await lab.leave(client);
    expect(lab.fdCount()).toBe(before);
    expect(lab.linux.table.count('mapping')).toBe(1);
    const next = await lab.open();
    expect(await read(next, 0, 4)).toEqual([1, 2, 3, 4]);
    await next.ask(Command.REGION_WRITE, concat(longs(0), words(BAR0, 4), words(0x7f7f7f7f)));
    expect([...memory.bytes.subarray(0, 4)]).toEqual([1, 2, 3, 4]);
  });

  it('VFU-050 registers are no memory: a BAR of a function that emulates them can not be mapped', async () => {
    await using lab = await Lab.create({ device: 'edu' });
    const client = await lab.open();
    const reply = await ask(client, BAR0);
    expect(reply.fds).toHaveLength(0);
    expect(infoOf(reply.payload)).toMatchObject({ argsz: 32, flags: 3, size: 0x10_0000 });
  });
});
