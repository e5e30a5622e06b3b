import { memfd } from '@vfio/sys';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { Command, HeaderFlag } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, longs, message, turn, words } from './raw-client.js';

const EINVAL = 22;
const { NO_REPLY } = HeaderFlag;
const CONFIG = 7;

/** Reads of the vendor of the serial card: 4 bytes at 0 of its config space. */
const readVendor = concat(longs(0), words(CONFIG, 4));
const vendor = 0x32534348;

function firstWord(payload: Uint8Array): number {
  return new DataView(payload.buffer, payload.byteOffset).getUint32(16, true);
}

/** A write of one byte to the interrupt line register, which any value may have. */
function writeLine(value: number): Uint8Array {
  return concat(longs(0x3c), words(CONFIG, 1), Uint8Array.of(value));
}

const readLine = concat(longs(0x3c), words(CONFIG, 1));

describe('messages', () => {
  it("VFU-024 ids are the client's business: 0, 0xffff, the same again", async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const id of [0, 0xffff, 7, 7]) {
      expect(await client.request(Command.REGION_READ, readVendor, { id })).toMatchObject({ id, errno: 0 });
    }
  });

  it.each([0, 14, 19, 100, 0xffff])('VFU-025 command %i is unknown, and its payload is consumed', async (command) => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const reply = await client.request(command, new Uint8Array(1000).fill(0xff), { id: 3 });
    expect(reply).toMatchObject({ id: 3, command, errno: EINVAL, payload: new Uint8Array(0) });
    expect(firstWord(await client.ask(Command.REGION_READ, readVendor))).toBe(vendor);
  });

  it.each([Command.DMA_READ, Command.DMA_WRITE])('VFU-026 command %i is not for a client', async (command) => {
    await using lab = await Lab.create();
    const client = await lab.open();
    expect(await client.errno(command, longs(0x1000, 16))).toBe(EINVAL);
    expect(firstWord(await client.ask(Command.REGION_READ, readVendor))).toBe(vendor);
  });

  it.each([0, 1])('VFU-027 VFU-028 commands with a payload refuse one of %i bytes', async (length) => {
    await using lab = await Lab.create();
    const client = await lab.open();
    for (const command of [2, 3, 4, 5, 6, 7, 8, 9, 10, 15, 16, 17, 18]) {
      expect(await client.errno(command, new Uint8Array(length).fill(1))).toBe(EINVAL);
    }
    expect(firstWord(await client.ask(Command.REGION_READ, readVendor))).toBe(vendor);
  });

  it('VFU-031 a reply that nobody waits for ends the connection', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const reply = await client.request(Command.DMA_READ, longs(0, 0), { flags: HeaderFlag.REPLY });
    expect(reply.errno).toBe(EINVAL);
    expect(await client.ends()).toBe(true);
  });

  it('VFU-033 an error reply is a bare header', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const reply = await client.request(Command.REGION_READ, concat(longs(0), words(99, 4)), { id: 5 });
    expect(reply).toEqual({
      id: 5,
      command: Command.REGION_READ,
      flags: HeaderFlag.REPLY | HeaderFlag.ERROR,
      errno: EINVAL,
      payload: new Uint8Array(0),
      fds: [],
    });
  });

  it('VFU-034 No_reply is silent, on success and on error', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    await client.send(message(Command.REGION_WRITE, writeLine(5), { flags: NO_REPLY }));
    await client.send(message(Command.REGION_READ, readVendor, { flags: NO_REPLY }));
    await client.send(message(Command.DEVICE_RESET, undefined, { flags: NO_REPLY }));
    await client.send(message(Command.REGION_WRITE, new Uint8Array(3), { flags: NO_REPLY }));
    await client.send(message(77, undefined, { flags: NO_REPLY }));
    expect(await client.isSilent()).toBe(true);
  });

  it('VFU-035 VFU-066 a thousand posted writes take effect before the next reply', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const burst: Uint8Array[] = [];
    for (let i = 0; i < 1000; i++) burst.push(message(Command.REGION_WRITE, writeLine(i % 256), { flags: NO_REPLY }));
    await client.send(concat(...burst, message(Command.REGION_READ, readLine)));
    const reply = await client.receive();
    expect(reply.payload[16]).toBe(999 % 256);
  });

  it('VFU-036 a burst of 64 is answered in order', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const commands = [Command.REGION_READ, Command.DEVICE_RESET, Command.REGION_WRITE, 99];
    const payloads = [readVendor, new Uint8Array(0), writeLine(1), new Uint8Array(8)];
    const burst = Array.from({ length: 64 }, (_, id) => message(commands[id % 4] ?? 0, payloads[id % 4], { id }));
    await client.send(concat(...burst));
    for (let id = 0; id < 64; id++) {
      expect(await client.receive()).toMatchObject({ id, command: commands[id % 4], errno: id % 4 === 3 ? EINVAL : 0 });
    }
  });

  it('VFU-037 VFU-038 headers and payloads may come in pieces of any length', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    await fc.assert(
      fc.asyncProperty(fc.array(fc.integer({ min: 1, max: 20 }), { minLength: 1 }), async (pieces) => {
        const bytes = message(Command.REGION_READ, readVendor);
        for (let at = 0, i = 0; at < bytes.length; i++) {
          const length = pieces[i % pieces.length] ?? 1;
          await client.send(bytes.subarray(at, at + length));
          at += length;
          await turn();
        }
        expect(firstWord((await client.receive()).payload)).toBe(vendor);
      }),
      { numRuns: 20 },
    );
  });

  it('VFU-039 two and a half messages are two, and then three', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const one = message(Command.REGION_READ, readVendor);
    await client.send(concat(one, one, one.subarray(0, 20)));
    for (let i = 0; i < 2; i++) expect(firstWord((await client.receive()).payload)).toBe(vendor);
    expect(await client.isSilent()).toBe(true);
    await client.send(one.subarray(20));
    expect(firstWord((await client.receive()).payload)).toBe(vendor);
  });

  it('VFU-040 descriptors that nobody asked for are closed', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    using file = memfd(lab.linux, 'stray', 4096);
    await client.ask(Command.REGION_READ, readVendor);
    const before = lab.fdCount();
    expect(await client.errno(Command.REGION_READ, readVendor, { fds: [file.number, file.number] })).toBe(0);
    expect(await client.errno(Command.DEVICE_RESET, undefined, { fds: [file.number] })).toBe(0);
    expect(await client.errno(99, undefined, { fds: [file.number] })).toBe(EINVAL);
    // with a part of a message that is no beginning
    const bytes = message(Command.REGION_READ, readVendor);
    await client.send(bytes.subarray(0, 20));
    await turn();
    await turn();
    await client.send(bytes.subarray(20), [file.number]);
    expect((await client.receive()).errno).toBe(0);
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-041 so are 64 of them, and 253', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    using file = memfd(lab.linux, 'stray', 4096);
    const before = lab.fdCount();
    for (const count of [64, 253]) {
      const fds = Array.from({ length: count }, () => file.number);
      expect(await client.errno(Command.REGION_READ, readVendor, { fds })).toBe(0);
    }
    expect(lab.fdCount()).toBe(before);
  });

  it('VFU-042 random bytes end in an error or in the end of the connection, and the next client is served', async () => {
    await using lab = await Lab.create();
    await fc.assert(
      fc.asyncProperty(fc.uint8Array({ minLength: 1, maxLength: 200 }), fc.boolean(), async (bytes, negotiated) => {
        const client = negotiated ? await lab.open() : lab.connect();
        await client.send(bytes);
        await turn();
        await lab.leave(client);
      }),
      { numRuns: 60 },
    );
    const client = await lab.open();
    expect(firstWord(await client.ask(Command.REGION_READ, readVendor))).toBe(vendor);
  });

  it('VFU-043 random payloads get a reply each, and the connection goes on', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    await fc.assert(
      fc.asyncProperty(
        fc.integer({ min: 0, max: 20 }).filter((command) => command !== Command.MIG_DATA_READ),
        fc.array(fc.constantFrom(0, 1, 2, 4, 7, 8, 16, 32, 0x20, 0xffff_ffff, 0x1_0000, 0x2_0006), { maxLength: 12 }),
        fc.integer({ min: 0, max: 3 }),
        async (command, values, odd) => {
          const payload = concat(words(...values), new Uint8Array(odd));
          expect(await client.request(command, payload, { id: 9 })).toMatchObject({ id: 9, command });
        },
      ),
      { numRuns: 300 },
    );
    expect(firstWord(await client.ask(Command.REGION_READ, readVendor))).toBe(vendor);
  });
});
