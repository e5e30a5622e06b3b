import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { PAGE_SIZE } from '@vfio/host';
import { Linux, listenUnix, socketPair } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command, ServerContext, VfioUserServer } from '../src/index.js';
import { concat, longs, RawClient, version, words } from './raw-client.js';
import { areas, memoryPages, SPARSE, SparseRegion, sparseHost } from './sparse-device.js';

const [READ, WRITE, MMAP, CAPS] = [1, 2, 4, 8];
const [TYPE, SPARSE_MMAP] = [2, 1];

/** A device, served to one client that is connected already. */
async function begin() {
  const linux = await Linux.load({ checked: true });
  const host = await sparseHost();
  const context = new ServerContext(linux, (error) => {
    throw error;
  });
  const directory = mkdtempSync(join(tmpdir(), 'vfio-user-'));
  const listener = listenUnix(linux, join(directory, 'socket'));
  const server = new VfioUserServer(context, listener, { host, address: SPARSE });
  const [mine, theirs] = socketPair(linux);
  server.serve(theirs);
  const client = new RawClient(linux, mine);
  await client.ask(Command.VERSION, version());
  return {
    linux,
    client,
    async [Symbol.asyncDispose]() {
      client[Symbol.dispose]();
      await server.close();
      context[Symbol.dispose]();
      rmSync(directory, { recursive: true });
      await host[Symbol.asyncDispose]();
      linux[Symbol.dispose]();
    },
  };
}

function ask(client: RawClient, index: number, argsz: number) {
  return client.request(Command.DEVICE_GET_REGION_INFO, concat(words(argsz, 0, index, 0), longs(0, 0)));
}

function viewOf(payload: Uint8Array): DataView {
  return new DataView(payload.buffer, payload.byteOffset, payload.length);
}

describe('capabilities of regions', () => {
  it.each([32, 33, 79])('VFU-048 are left out where argsz is %i, with the size that they need', async (argsz) => {
    await using test = await begin();
    const reply = await ask(test.client, SparseRegion.MEMORY, argsz);
    const view = viewOf(reply.payload);
    expect(reply.payload).toHaveLength(32);
    expect(reply.fds).toHaveLength(0);
    expect([view.getUint32(0, true), view.getUint32(4, true), view.getUint32(12, true)]).toEqual([
      80,
      READ | WRITE | MMAP,
      0,
    ]);
  });

  it('VFU-048 VFU-049 come with the second question: areas of whole pages, apart, within the region', async () => {
    await using test = await begin();
    const first = viewOf((await ask(test.client, SparseRegion.MEMORY, 32)).payload);
    const reply = await ask(test.client, SparseRegion.MEMORY, first.getUint32(0, true));
    const view = viewOf(reply.payload);
    expect(reply.payload).toHaveLength(80);
    expect([view.getUint32(0, true), view.getUint32(4, true), view.getUint32(12, true)]).toEqual([
      80,
      READ | WRITE | MMAP | CAPS,
      32,
    ]);
    expect([view.getUint16(32, true), view.getUint16(34, true), view.getUint32(36, true)]).toEqual([SPARSE_MMAP, 1, 0]);
    const count = view.getUint32(40, true);
    const told = Array.from({ length: count }, (_, i) => ({
      offset: view.getBigUint64(48 + i * 16, true),
      size: view.getBigUint64(56 + i * 16, true),
    }));
    expect(told).toEqual([...areas]);
  });

  it('VFU-048 say the type of a region that has one, which comes without a descriptor', async () => {
    await using test = await begin();
    const reply = await ask(test.client, SparseRegion.TYPED, 4096);
    const view = viewOf(reply.payload);
    expect(reply.fds).toHaveLength(0);
    expect([view.getUint32(4, true), view.getUint32(12, true)]).toEqual([READ | CAPS, 32]);
    expect([32, 40, 44].map((at) => view.getUint32(at, true))).toEqual([TYPE | (1 << 16), 0x8000_1af4, 7]);
  });

  it('VFU-049 VFU-050 VFU-051 one descriptor is for all areas, and has nothing of what lies between them', async () => {
    await using test = await begin();
    const { client, linux } = test;
    const write = (page: number, value: number) =>
      client.ask(
        Command.REGION_WRITE,
        concat(longs(page * PAGE_SIZE + 3), words(SparseRegion.MEMORY, 1), Uint8Array.of(value)),
      );
    const read = async (page: number) =>
      (await client.ask(Command.REGION_READ, concat(longs(page * PAGE_SIZE + 3), words(SparseRegion.MEMORY, 1))))[16];
    for (let page = 0; page < memoryPages; page++) await write(page, page + 1);
    const reply = await ask(client, SparseRegion.MEMORY, 80);
    expect(reply.fds).toHaveLength(1);
    const offset = Number(viewOf(reply.payload).getBigUint64(24, true));
    using whole = linux.map(reply.fds[0]!.number, { offset, length: memoryPages * PAGE_SIZE, write: true }, 'a region');
    const seen = Array.from({ length: memoryPages }, (_, page) => whole.bytes[page * PAGE_SIZE + 3]);
    expect(seen).toEqual([0, 2, 0, 0, 5, 6, 0, 0]);
    whole.bytes[5 * PAGE_SIZE + 3] = 0x55;
    whole.bytes[2 * PAGE_SIZE + 3] = 0x22;
    expect([await read(5), await read(2)]).toEqual([0x55, 3]);
  });

  it('VFU-065 reads and writes across all of a region, as it is', async () => {
    await using test = await begin();
    const { client } = test;
    const length = memoryPages * PAGE_SIZE;
    const bytes = Uint8Array.from({ length }, (_, i) => i % 251);
    await client.ask(Command.REGION_WRITE, concat(longs(0), words(SparseRegion.MEMORY, length), bytes));
    await ask(client, SparseRegion.MEMORY, 80);
    const reply = await client.ask(Command.REGION_READ, concat(longs(0), words(SparseRegion.MEMORY, length)));
    expect(reply.subarray(16)).toEqual(bytes);
  });
});
