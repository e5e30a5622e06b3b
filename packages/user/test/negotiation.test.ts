import { describe, expect, it } from 'vitest';
import { Command, HEADER_BYTES, HeaderFlag } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, message, version, words } from './raw-client.js';

const EINVAL = 22;

/** What QEMU 11.1 sends, which is all the room that it has for the reply. */
const ofQemu =
  '{"capabilities":{"max_msg_fds":16,"max_data_xfer_size":1048576,"pgsizes":4096,"max_dma_maps":65535,' +
  '"migration":{"pgsize":4096,"max_bitmap_size":268435456},"write_multiple":true}}';
/** What the crate of Cloud Hypervisor sends. */
const ofCrate = '{"capabilities":{"max_msg_fds":1,"max_data_xfer_size":1048576,"migration":{"pgsize":4096}}}';

function jsonOf(payload: Uint8Array): unknown {
  expect(payload.at(-1)).toBe(0);
  return JSON.parse(new TextDecoder().decode(payload.subarray(4, -1)));
}

function minorOf(payload: Uint8Array): [major: number, minor: number] {
  const view = new DataView(payload.buffer, payload.byteOffset);
  return [view.getUint16(0, true), view.getUint16(2, true)];
}

describe('the first message', () => {
  it('VFU-001 the reply echoes id and command', async () => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const reply = await client.request(Command.VERSION, version('{}'), { id: 0xbeef });
    expect(reply).toMatchObject({ id: 0xbeef, command: Command.VERSION, flags: HeaderFlag.REPLY, errno: 0 });
  });

  it.each([
    [0, 0],
    [1, 1],
    [2, 1],
    [0xffff, 1],
  ])('VFU-002 VFU-006 of minor %i the reply has %i', async (asked, answered) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const reply = await client.request(Command.VERSION, version('{}', 0, asked));
    expect(minorOf(reply.payload)).toEqual([0, answered]);
  });

  it.each([
    ['VFU-003 no JSON', undefined],
    ['VFU-004 an empty object', '{}'],
    ['VFU-004 no capabilities', '{"capabilities":{}}'],
    ['VFU-005 unknown members', '{"capabilities":{"color":"red","deep":{"er":[1]}},"other":1}'],
    ['VFU-020 what QEMU sends', ofQemu],
    ['VFU-021 what the crate sends', ofCrate],
  ])('%s: is answered with capabilities', async (_, json) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const request = version(json);
    const reply = await client.request(Command.VERSION, request);
    expect(reply.errno).toBe(0);
    expect(jsonOf(reply.payload)).toEqual({ capabilities: { max_msg_fds: 16 } });
    expect((await client.request(Command.DEVICE_GET_INFO, words(16, 0, 0, 0))).errno).toBe(0);
  });

  it('VFU-020 the reply to QEMU is not longer than what QEMU sent', async () => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const request = version(ofQemu, 0, 0);
    const reply = await client.request(Command.VERSION, request);
    expect(reply.payload.length).toBeLessThanOrEqual(request.length);
    expect(reply.payload.length + HEADER_BYTES).toBeLessThan(214);
    expect(minorOf(reply.payload)).toEqual([0, 0]);
  });

  it.each([
    ['VFU-007 another major version', version('{}', 1, 0)],
    ['VFU-008 no NUL', version('{}').subarray(0, -1)],
    ['VFU-008 a NUL too early', concat(version('{}'), Uint8Array.of(65))],
    ['VFU-009 broken JSON', version('{"capabilities":')],
    ['VFU-009 JSON behind a NUL', version('{}\0{}')],
    ['VFU-009 no UTF-8', concat(version(), Uint8Array.of(0x22, 0xff, 0x22, 0))],
    ['VFU-010 an array', version('[]')],
    ['VFU-010 null', version('null')],
    ['VFU-010 capabilities of another type', version('{"capabilities":7}')],
    ['VFU-010 a number as text', version('{"capabilities":{"max_msg_fds":"8"}}')],
    ['VFU-010 a negative number', version('{"capabilities":{"max_data_xfer_size":-1}}')],
    ['VFU-010 a fraction', version('{"capabilities":{"max_dma_maps":1.5}}')],
    ['VFU-010 a twin socket that is no object', version('{"capabilities":{"twin_socket":true}}')],
    ['VFU-010 write_multiple as number', version('{"capabilities":{"write_multiple":1}}')],
    ['VFU-010 a migration that is no object', version('{"capabilities":{"migration":[]}}')],
    ['VFU-012 a short payload', Uint8Array.of(0, 0, 0)],
    ['VFU-012 no payload', new Uint8Array(0)],
  ])('%s: is refused, and the client has to leave', async (_, payload) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const reply = await client.request(Command.VERSION, payload);
    expect(reply).toMatchObject({
      errno: EINVAL,
      flags: HeaderFlag.REPLY | HeaderFlag.ERROR,
      payload: new Uint8Array(0),
    });
    expect(await client.ends()).toBe(true);
    await lab.server.idle();
    const next = await lab.open();
    expect((await next.request(Command.DEVICE_GET_INFO, words(16, 0, 0, 0))).errno).toBe(0);
  });

  it('VFU-011 another first message is refused', async () => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const reply = await client.request(Command.DEVICE_GET_INFO, words(16, 0, 0, 0));
    expect(reply).toMatchObject({ errno: EINVAL, command: Command.DEVICE_GET_INFO });
    expect(await client.ends()).toBe(true);
  });

  it.each([0, 15])('VFU-013 VFU-029 a size of %i is refused', async (size) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const bytes = message(Command.VERSION);
    new DataView(bytes.buffer).setUint32(4, size, true);
    await client.send(bytes);
    expect(await client.receive()).toMatchObject({ errno: EINVAL, id: 0x1234, command: Command.VERSION });
    expect(await client.ends()).toBe(true);
  });

  it.each([0x10_0040, 0x7fff_ffff, 0xffff_ffff])('VFU-014 VFU-030 a size of %i is refused at once', async (size) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const bytes = message(Command.VERSION);
    new DataView(bytes.buffer).setUint32(4, size, true);
    await client.send(bytes);
    expect(await client.receive()).toMatchObject({ errno: EINVAL });
    expect(await client.ends()).toBe(true);
  });

  it.each([1, 2, 15])('VFU-015 VFU-032 type %i is refused', async (type) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const reply = await client.request(Command.VERSION, version('{}'), { flags: type });
    expect(reply).toMatchObject({ errno: EINVAL });
    expect(await client.ends()).toBe(true);
  });

  it('VFU-016 a second one is an error, and the connection lives', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.errno(Command.VERSION, version('{}'))).toBe(EINVAL);
    expect(await client.errno(Command.DEVICE_GET_INFO, words(16, 0, 0, 0))).toBe(0);
  });

  it('VFU-017 a client may leave before it, and within', async () => {
    await using lab = await Lab.create();
    await lab.leave(lab.connect());
    const within = lab.connect();
    await within.send(message(Command.VERSION, version('{}')).subarray(0, 19));
    await lab.leave(within);
    const atOnce = lab.connect();
    await atOnce.send(message(Command.VERSION, version('{}')));
    await lab.leave(atOnce);
    expect(lab.server.isBusy).toBe(false);
    await lab.open();
  });

  it('VFU-018 descriptors with it are refused and closed', async () => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const before = lab.fdCount();
    const reply = await client.request(Command.VERSION, version('{}'), { fds: [0, 0, 0] });
    expect(reply.errno).toBe(EINVAL);
    expect(await client.ends()).toBe(true);
    await lab.server.idle();
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-019 it may come byte by byte', async () => {
    await using lab = await Lab.create();
    const client = lab.connect();
    for (const byte of message(Command.VERSION, version('{}'))) {
      await client.send(Uint8Array.of(byte));
      await new Promise((resolve) => setImmediate(resolve));
    }
    expect((await client.receive()).errno).toBe(0);
  });
});
