import { closeSync, ftruncateSync, openSync } from 'node:fs';
import { eventfd, memfd, type NativeMemory, Seal } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command, HeaderFlag } from '../src/index.js';
import { dmaHead, EduDriver } from './edu.js';
import { Lab } from './lab.js';
import { concat, longs, message, type RawClient, words } from './raw-client.js';

const [ENOENT, EEXIST, EINVAL] = [2, 17, 22];
const [READ, WRITE] = [1, 2];
const PAGE = 4096;

function dmaMap(address: bigint | number, size: bigint | number, offset: bigint | number = 0, flags = READ | WRITE) {
  return concat(words(32, flags), longs(offset, address, size));
}

function dmaUnmap(address: bigint | number, size: bigint | number, flags = 0): Uint8Array {
  return concat(words(24, flags), longs(address, size));
}

/** Everything for a device that does DMA. */
async function begin(json?: string) {
  const lab = await Lab.create({ device: 'edu' });
  const client = await lab.open(json);
  const edu = await EduDriver.start(client);
  return { lab, client, edu, [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() };
}

/** A file that the test sees through its own mapping. */
function guestFile(lab: Lab, pages: number, seals = 0) {
  const file = memfd(lab.linux, 'guest', pages * PAGE, seals);
  const own: NativeMemory = lab.linux.map(file.number, { offset: 0, length: pages * PAGE, write: true }, 'guest');
  return {
    fd: file.number,
    bytes: own.bytes,
    [Symbol.dispose]() {
      own[Symbol.dispose]();
      file.close();
    },
  };
}

function map(client: RawClient, payload: Uint8Array, fd?: number): Promise<number> {
  return client.errno(Command.DMA_MAP, payload, fd === undefined ? {} : { fds: [fd] });
}

function unmap(client: RawClient, payload: Uint8Array): Promise<number> {
  return client.errno(Command.DMA_UNMAP, payload);
}

describe.each([
  ['sealed', Seal.SHRINK],
  ['not sealed', 0],
])('memory behind a descriptor, %s', (_, seals) => {
  it('VFU-086 VFU-097 is copied from and to, from its offset on', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    using file = guestFile(lab, 4, seals);
    file.bytes.set([1, 2, 3, 4, 5], PAGE + 10);
    expect(await map(client, dmaMap(0x10_0000, 2 * PAGE, PAGE), file.fd)).toBe(0);
    await edu.fetch(0x10_000an, 5);
    await edu.put(0x10_0000n + BigInt(2 * PAGE - 5), 5);
    expect([...file.bytes.subarray(3 * PAGE - 5, 3 * PAGE)]).toEqual([1, 2, 3, 4, 5]);
    // across pages
    await edu.put(0x10_0000n + BigInt(PAGE - 2), 4);
    expect([...file.bytes.subarray(2 * PAGE - 2, 2 * PAGE + 2)]).toEqual([1, 2, 3, 4]);
    expect(await unmap(client, dmaUnmap(0x10_0000, 2 * PAGE))).toBe(0);
  });

  it('VFU-086 VFU-100 that is read only is not written, and what is not mapped is not reached', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    using file = guestFile(lab, 2, seals);
    file.bytes.fill(7);
    expect(await map(client, dmaMap(0x10_0000, PAGE, 0, READ), file.fd)).toBe(0);
    await edu.fetch(0x10_0000n, 4);
    file.bytes.fill(9);
    await edu.put(0x10_0000n, 4);
    await edu.put(0x10_0000n + BigInt(PAGE), 4);
    expect(file.bytes.every((byte) => byte === 9)).toBe(true);
    await unmap(client, dmaUnmap(0x10_0000, PAGE));
    expect(await map(client, dmaMap(0x10_0000, PAGE), file.fd)).toBe(0);
    await edu.put(0x10_0000n, 4);
    expect([...file.bytes.subarray(0, 5)]).toEqual([7, 7, 7, 7, 9]);
  });

  it('VFU-094 VFU-095 its descriptors do not pile up, and nothing is left of it after the client', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using file = guestFile(lab, 64, seals);
    const before = lab.fdCount();
    for (let i = 0; i < 64; i++) expect(await map(client, dmaMap(i * PAGE, PAGE, i * PAGE), file.fd)).toBe(0);
    expect(lab.fdCount()).toBeLessThanOrEqual(before + 1);
    await lab.leave(client);
    expect(lab.fdCount()).toBeLessThanOrEqual(before - 2);
    const { tracker } = lab.machine.host;
    expect([tracker.count('mapping'), tracker.count('pin')]).toEqual([0, 0]);
    // the test's own mapping, and the memory of the server
    expect(lab.linux.table.count('mapping')).toBe(1);
  });
});

describe('a client that shortens its file', () => {
  it('VFU-102 does no harm: the device reads nothing there, and others are served', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    using file = guestFile(lab, 4);
    expect(await map(client, dmaMap(0, 4 * PAGE), file.fd)).toBe(0);
    file.bytes[3 * PAGE] = 5;
    await edu.fetch(BigInt(3 * PAGE), 4);
    ftruncateSync(file.fd, PAGE);
    await edu.fetch(BigInt(3 * PAGE), 4);
    await edu.put(0n, 4);
    expect([...file.bytes.subarray(0, 4)]).toEqual([0, 0, 0, 0]);
    expect(await edu.id()).toBe(0x0100_00ed);
  });
});

describe('DMA_MAP and DMA_UNMAP', () => {
  it('VFU-087 what overlaps is refused, what touches is not', async () => {
    await using test = await begin();
    const { client } = test;
    expect(await map(client, dmaMap(0x10_0000, 4 * PAGE))).toBe(0);
    for (const [address, pages] of [
      [0x10_0000, 4],
      [0x10_0000, 1],
      [0x10_3000, 1],
      [0x0f_f000, 2],
      [0x0f_f000, 100],
      [0x10_1000, 2],
    ] as const) {
      expect(await map(client, dmaMap(address, pages * PAGE))).toBe(EEXIST);
    }
    expect(await map(client, dmaMap(0x10_4000, PAGE))).toBe(0);
    expect(await map(client, dmaMap(0x0f_f000, PAGE))).toBe(0);
  });

  it('VFU-088 a descriptor of no memory is refused, and closed', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using counter = eventfd(lab.linux);
    using file = memfd(lab.linux, 'guest', PAGE);
    const readOnly = openSync(`/proc/self/fd/${file.number}`, 'r');
    const directory = openSync('/', 'r');
    const before = lab.fdCount();
    for (const fd of [counter.number, directory, readOnly]) {
      expect(await map(client, dmaMap(0, PAGE), fd)).toBe(EINVAL);
    }
    expect(lab.fdCount()).toBe(before);
    expect(await map(client, dmaMap(0, PAGE, 0, READ), readOnly)).toBe(0);
    closeSync(readOnly);
    closeSync(directory);
  });

  it('VFU-089 two descriptors are refused', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using file = memfd(lab.linux, 'guest', PAGE);
    const before = lab.fdCount();
    expect(await client.errno(Command.DMA_MAP, dmaMap(0, PAGE), { fds: [file.number, file.number] })).toBe(EINVAL);
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-090 sizes of 0, around the end, beyond the file', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using file = memfd(lab.linux, 'guest', 2 * PAGE);
    expect(await map(client, dmaMap(0, 0))).toBe(EINVAL);
    expect(await map(client, dmaMap(2n ** 64n - 4096n, 8192))).toBe(EINVAL);
    expect(await map(client, dmaMap(0, 2n ** 63n))).toBe(EINVAL);
    expect(await map(client, dmaMap(0, 3 * PAGE), file.number)).toBe(EINVAL);
    expect(await map(client, dmaMap(0, PAGE, 2 * PAGE), file.number)).toBe(EINVAL);
    expect(await map(client, dmaMap(0, PAGE, 2n ** 64n - 4096n), file.number)).toBe(EINVAL);
    expect(await map(client, dmaMap(0, PAGE, 0, 0x10))).toBe(EINVAL);
    expect(await map(client, concat(words(31, 3), longs(0, 0, PAGE)))).toBe(EINVAL);
    expect(await map(client, dmaMap(0, 2 * PAGE), file.number)).toBe(0);
  });

  it('VFU-091 a part, nothing, the same again', async () => {
    await using test = await begin();
    const { client } = test;
    await map(client, dmaMap(0x10_0000, 4 * PAGE));
    expect(await unmap(client, dmaUnmap(0x10_1000, PAGE))).toBe(EINVAL);
    expect(await unmap(client, dmaUnmap(0x10_0000, PAGE))).toBe(EINVAL);
    expect(await unmap(client, dmaUnmap(0x20_0000, PAGE))).toBe(ENOENT);
    expect(await unmap(client, dmaUnmap(0x10_0000, 0))).toBe(EINVAL);
    expect(await unmap(client, dmaUnmap(0x10_0000, 4 * PAGE, 1))).toBe(EINVAL);
    const request = dmaUnmap(0x10_0000, 4 * PAGE);
    expect(await client.ask(Command.DMA_UNMAP, request)).toEqual(request);
    expect(await unmap(client, request)).toBe(ENOENT);
  });

  it('VFU-091 a range takes all that lies within it', async () => {
    await using test = await begin();
    const { client } = test;
    for (const page of [1, 3, 4, 8]) await map(client, dmaMap(page * PAGE, PAGE));
    expect(await unmap(client, dmaUnmap(2 * PAGE, 4 * PAGE))).toBe(0);
    expect(await map(client, dmaMap(2 * PAGE, 4 * PAGE))).toBe(0);
    expect(await map(client, dmaMap(8 * PAGE, PAGE))).toBe(EEXIST);
  });

  it('VFU-092 everything', async () => {
    await using test = await begin();
    const { client, lab } = test;
    using file = memfd(lab.linux, 'guest', 8 * PAGE, Seal.SHRINK);
    for (const page of [0, 1, 5]) await map(client, dmaMap(page * PAGE, PAGE, page * PAGE), file.number);
    expect(await unmap(client, dmaUnmap(0, PAGE, 2))).toBe(EINVAL);
    expect(await unmap(client, dmaUnmap(0, 0, 2))).toBe(0);
    expect(lab.linux.table.count('mapping')).toBe(0);
    expect(await unmap(client, dmaUnmap(0, 0, 2))).toBe(0);
    expect(await map(client, dmaMap(0, 8 * PAGE), file.number)).toBe(0);
  });

  it('VFU-093 hundreds, in any order', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    using file = guestFile(lab, 300, Seal.SHRINK);
    const order = Array.from({ length: 300 }, (_, i) => (i * 7) % 300);
    for (const page of order) expect(await map(client, dmaMap(page * PAGE, PAGE, page * PAGE), file.fd)).toBe(0);
    file.bytes[299 * PAGE] = 0x42;
    await edu.fetch(BigInt(299 * PAGE), 1);
    await edu.put(0n, 1);
    expect(file.bytes[0]).toBe(0x42);
    for (const page of order.reverse()) expect(await unmap(client, dmaUnmap(page * PAGE, PAGE))).toBe(0);
    expect(lab.linux.table.count('mapping')).toBe(1);
  });

  it('VFU-096 high addresses', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    using file = guestFile(lab, 1, Seal.SHRINK);
    const address = 2n ** 46n - BigInt(PAGE);
    expect(await map(client, dmaMap(address, PAGE), file.fd)).toBe(0);
    file.bytes.fill(3, 0, 4);
    await edu.fetch(address, 4);
    await edu.put(address + 8n, 4);
    expect([...file.bytes.subarray(8, 12)]).toEqual([3, 3, 3, 3]);
  });

  it('as many as were agreed on', async () => {
    await using lab = await Lab.create({ device: 'edu', capabilities: { maxDmaMaps: 2 } });
    const client = await lab.open();
    for (const [page, errno] of [
      [0, 0],
      [1, 0],
      [2, EINVAL],
    ] as const) {
      expect(await map(client, dmaMap(page * PAGE, PAGE))).toBe(errno);
    }
  });
});

describe('memory without a descriptor', () => {
  /** The reply to a DMA message. */
  const reply = (to: { id: number; command: number }, payload: Uint8Array) =>
    message(to.command, payload, { id: to.id, flags: HeaderFlag.REPLY });

  it('VFU-098 is copied by messages, split to what the client takes', async () => {
    await using test = await begin('{"capabilities":{"max_data_xfer_size":3}}');
    const { client, edu } = test;
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0010n, 7);
    const asked: [bigint, bigint][] = [];
    for (let part = 0; part < 3; part++) {
      const request = await client.receive();
      expect(request).toMatchObject({ command: Command.DMA_READ, flags: 0, errno: 0 });
      expect(request.payload).toHaveLength(16);
      const [address, count] = dmaHead(request);
      asked.push([address, count]);
      const data = Uint8Array.from({ length: Number(count) }, (_, i) => Number(address & 0xffn) + i);
      await client.send(reply(request, concat(longs(address, count), data)));
    }
    expect(asked).toEqual([
      [0x10_0010n, 3n],
      [0x10_0013n, 3n],
      [0x10_0016n, 1n],
    ]);
    await edu.finish();
    await edu.beginPut(0x10_0100n, 4);
    const written: number[] = [];
    for (let part = 0; part < 2; part++) {
      const request = await client.receive();
      expect(request.command).toBe(Command.DMA_WRITE);
      written.push(...request.payload.subarray(16));
      await client.send(reply(request, request.payload.subarray(0, 16)));
    }
    expect(written).toEqual([0x10, 0x11, 0x12, 0x13]);
    await edu.finish();
  });

  it('VFU-101 commands are answered while a DMA message is out', async () => {
    await using test = await begin();
    const { client, edu } = test;
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0000n, 4);
    const request = await client.receive();
    expect(request.command).toBe(Command.DMA_READ);
    expect(await edu.id()).toBe(0x0100_00ed);
    expect(await edu.isBusy()).toBe(true);
    expect(await map(client, dmaMap(0x20_0000, PAGE))).toBe(0);
    await client.send(reply(request, concat(longs(0x10_0000, 4), Uint8Array.of(1, 2, 3, 4))));
    await edu.finish();
  });

  it.each([
    [
      'an error',
      (id: number) => message(Command.DMA_READ, undefined, { id, flags: HeaderFlag.REPLY | HeaderFlag.ERROR }),
    ],
    ['another address', (id: number) => reply({ id, command: Command.DMA_READ }, concat(longs(0, 4), words(1)))],
    ['another count', (id: number) => reply({ id, command: Command.DMA_READ }, concat(longs(0x10_0000, 5), words(1)))],
    ['too little data', (id: number) => reply({ id, command: Command.DMA_READ }, longs(0x10_0000, 4))],
    [
      'too much data',
      (id: number) => reply({ id, command: Command.DMA_READ }, concat(longs(0x10_0000, 4), words(1, 2))),
    ],
    ['nothing', (id: number) => reply({ id, command: Command.DMA_READ }, new Uint8Array(0))],
  ])('VFU-099 %s in reply fails the access, and nothing else', async (_, answer) => {
    await using test = await begin();
    const { client, edu, lab } = test;
    using file = guestFile(lab, 1, Seal.SHRINK);
    file.bytes.fill(6);
    await map(client, dmaMap(0, PAGE), file.fd);
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.fetch(0n, 4);
    await edu.beginFetch(0x10_0000n, 4);
    const { id } = await client.receive();
    await client.send(answer(id));
    await edu.finish();
    file.bytes.fill(9);
    await edu.put(0n, 4);
    // what can not be read becomes zeros in this device
    expect([...file.bytes.subarray(0, 5)]).toEqual([0, 0, 0, 0, 9]);
  });

  it('VFU-099 no reply fails it after a while, and a late one is no harm', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0000n, 4);
    const request = await client.receive();
    expect(await edu.isBusy()).toBe(true);
    await lab.clock.advance(10_000);
    await edu.finish();
    await client.send(reply(request, concat(longs(0x10_0000, 4), words(1))));
    expect(await edu.id()).toBe(0x0100_00ed);
  });

  it('VFU-099 a reply of another command ends the connection', async () => {
    await using test = await begin();
    const { client, edu } = test;
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0000n, 4);
    const { id } = await client.receive();
    await client.send(reply({ id, command: Command.DMA_WRITE }, longs(0x10_0000, 4)));
    expect((await client.receive()).errno).toBe(EINVAL);
    expect(await client.ends()).toBe(true);
  });

  it('a reply with a count of 32 bits, and an empty one to a write, are understood: QEMU 10 sends them', async () => {
    await using test = await begin();
    const { client, edu } = test;
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0000n, 4);
    const read = await client.receive();
    await client.send(reply(read, concat(longs(0x10_0000), words(4), Uint8Array.of(4, 3, 2, 1))));
    await edu.finish();
    await edu.beginPut(0x10_0000n, 4);
    const write = await client.receive();
    expect([...write.payload.subarray(16)]).toEqual([4, 3, 2, 1]);
    await client.send(reply(write, new Uint8Array(0)));
    await edu.finish();
  });

  it('unmapping it ends what is out, and a client may go meanwhile', async () => {
    await using test = await begin();
    const { client, edu, lab } = test;
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0000n, 4);
    const request = await client.receive();
    expect(await unmap(client, dmaUnmap(0x10_0000, PAGE))).toBe(0);
    await edu.finish();
    await client.send(reply(request, concat(longs(0x10_0000, 4), words(1))));
    await map(client, dmaMap(0x10_0000, PAGE));
    await edu.beginFetch(0x10_0000n, 4);
    await client.receive();
    await lab.leave(client);
    expect(await (await EduDriver.start(await lab.open())).id()).toBe(0x0100_00ed);
  });
});
