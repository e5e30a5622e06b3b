import { NOT_NOW } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command, HeaderFlag } from '../src/index.js';
import { Lab } from './lab.js';
import { concat, longs, message, turn, words } from './raw-client.js';

const CONFIG = 7;
const read = concat(longs(0), words(CONFIG, 255));

describe('clients that do not behave', () => {
  it('VFU-108 one that never reads stops being read, and is let go when it leaves', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const burst = concat(...Array.from({ length: 1000 }, () => message(Command.REGION_READ, read)));
    let refused = 0;
    for (let round = 0; round < 2000 && refused < 50; round++) {
      refused = client.sendNow(burst) === NOT_NOW ? refused + 1 : 0;
      await turn();
    }
    expect(refused).toBe(50);
    await lab.leave(client);
    const next = await lab.open();
    expect((await next.request(Command.REGION_READ, read)).errno).toBe(0);
  });

  it('VFU-108 one that reads late gets everything', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const count = 20_000;
    const burst = concat(...Array.from({ length: 1000 }, (_, id) => message(Command.REGION_READ, read, { id })));
    let received = 0;
    const sending = (async () => {
      for (let i = 0; i < count / 1000; i++) await client.send(burst);
    })();
    for (let i = 0; i < 200; i++) await turn();
    for (; received < count; received++) {
      expect((await client.receive()).id).toBe(received % 1000);
    }
    await sending;
  });

  it('VFU-109 one that stalls in the middle of a message holds up itself only', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const whole = message(Command.REGION_WRITE, concat(longs(0x3c), words(CONFIG, 1), Uint8Array.of(3)));
    for (const length of [1, 15, 16, 17, 32]) {
      await client.send(whole.subarray(0, length));
      expect(await client.isSilent()).toBe(true);
      await client.send(whole.subarray(length));
      expect((await client.receive()).errno).toBe(0);
    }
    await client.send(whole.subarray(0, 20));
    await lab.leave(client);
    await lab.open();
  });

  it('VFU-065 the largest messages that were agreed on are taken, and no larger ones', async () => {
    await using lab = await Lab.create();
    const client = await lab.open();
    const most = 1 << 20;
    const write = (count: number) => concat(longs(0), words(CONFIG, count), new Uint8Array(count));
    // no region of this device is so large: the answer is that of an access beyond its end
    expect(await client.errno(Command.REGION_WRITE, write(most))).toBe(22);
    expect((await client.request(Command.REGION_READ, read)).errno).toBe(0);
    const tooLarge = message(Command.REGION_WRITE, new Uint8Array(20));
    new DataView(tooLarge.buffer).setUint32(4, 16 + 16 + most + 1, true);
    await client.send(tooLarge.subarray(0, 16));
    expect((await client.receive()).errno).toBe(22);
    expect(await client.ends()).toBe(true);
  });

  it('VFU-067 what a device keeps over its last close is there for the next client', async () => {
    await using lab = await Lab.create();
    const line = concat(longs(0x3c), words(CONFIG, 1));
    const client = await lab.open();
    await client.ask(Command.REGION_WRITE, concat(line, Uint8Array.of(0x77)));
    await lab.leave(client);
    const next = await lab.open();
    expect((await next.ask(Command.REGION_READ, line))[16]).toBe(0x77);
  });

  it('a client that leaves with commands under way leaves nothing behind', async () => {
    await using lab = await Lab.create();
    for (const command of [Command.DEVICE_RESET, Command.DEVICE_FEATURE, Command.DEVICE_SET_IRQS, Command.DMA_MAP]) {
      const client = await lab.open();
      const payload = command === Command.DMA_MAP ? concat(words(32, 3), longs(0, 0, 4096)) : new Uint8Array(0);
      await client.send(concat(message(command, payload), message(command, payload, { flags: HeaderFlag.NO_REPLY })));
      await lab.leave(client);
    }
    expect(lab.server.isBusy).toBe(false);
  });

  it('several devices are served by one thread', async () => {
    await using first = await Lab.create();
    await using second = await Lab.create({ device: 'edu' });
    const clients = [await first.open(), await second.open()];
    const replies = await Promise.all(
      clients.map((client) => client.request(Command.REGION_READ, concat(longs(0), words(CONFIG, 4)))),
    );
    expect(replies.map(({ payload }) => new DataView(payload.buffer).getUint32(16, true))).toEqual([
      0x3253_4348, 0x11e8_1234,
    ]);
  });
});
