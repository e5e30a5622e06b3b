import { fstat } from '@vfio/sys';
import { describe, expect, it } from 'vitest';
import { Command, HeaderFlag } from '../src/index.js';
import { dmaHead, EduDriver } from './edu.js';
import { Lab } from './lab.js';
import { concat, longs, message, RawClient, version, words } from './raw-client.js';

const supported = '"twin_socket":{"supported":true}';

function capabilitiesOf(payload: Uint8Array): unknown {
  return JSON.parse(new TextDecoder().decode(payload.subarray(4, -1)));
}

async function begin(lab: Lab) {
  const client = lab.connect();
  const reply = await client.request(Command.VERSION, version(`{"capabilities":{${supported}}}`));
  const [fd] = reply.fds;
  if (fd === undefined) throw new Error('no twin socket');
  return { client, reply, fd };
}

describe('the twin socket', () => {
  it.each([
    ['nothing', ''],
    ['false', '"twin_socket":{"supported":false}'],
    ['an empty object', '"twin_socket":{}'],
    ['no room for a descriptor', `${supported},"max_msg_fds":0`],
  ])('VFU-022 is not for a client that says %s', async (_, members) => {
    await using lab = await Lab.create();
    const client = lab.connect();
    const reply = await client.request(Command.VERSION, version(`{"capabilities":{${members}}}`));
    expect(reply.errno).toBe(0);
    expect(reply.fds).toEqual([]);
    expect(capabilitiesOf(reply.payload)).toEqual({ capabilities: { max_msg_fds: 16 } });
  });

  it('VFU-022 VFU-023 is a socket at fd_index for one that asks for it', async () => {
    await using lab = await Lab.create();
    const { reply, fd } = await begin(lab);
    expect(reply.fds).toHaveLength(1);
    expect(capabilitiesOf(reply.payload)).toEqual({
      capabilities: { max_msg_fds: 16, twin_socket: { supported: true, fd_index: 0 } },
    });
    expect(fstat(fd.number).socket).toBe(true);
  });

  it('VFU-023 carries DMA messages and their replies, and the main socket none', async () => {
    await using lab = await Lab.create({ device: 'edu' });
    const { client, fd } = await begin(lab);
    using twin = RawClient.adopt(lab.linux, fd);
    const edu = await EduDriver.start(client);
    await client.ask(Command.DMA_MAP, concat(words(32, 3), longs(0, 0x10_0000, 4096)));
    await edu.beginFetch(0x10_0000n, 4);
    const request = await twin.receive();
    expect(request).toMatchObject({ command: Command.DMA_READ, flags: HeaderFlag.COMMAND });
    expect(await client.isSilent()).toBe(true);
    const [address, count] = dmaHead(request);
    const data = concat(longs(address, count), Uint8Array.of(1, 2, 3, 4));
    await twin.send(message(Command.DMA_READ, data, { id: request.id, flags: HeaderFlag.REPLY }));
    await edu.finish();
    await edu.beginPut(0x10_0000n, 4);
    const write = await twin.receive();
    expect([...write.payload.subarray(16)]).toEqual([1, 2, 3, 4]);
    await twin.send(
      message(Command.DMA_WRITE, write.payload.subarray(0, 16), { id: write.id, flags: HeaderFlag.REPLY }),
    );
    await edu.finish();
  });

  it('ends the connection when the client closes it, or sends what is no reply', async () => {
    await using lab = await Lab.create();
    for (const bytes of [
      undefined,
      message(Command.DMA_READ),
      message(Command.DMA_READ, undefined, { flags: HeaderFlag.REPLY }),
    ]) {
      const { client, fd } = await begin(lab);
      using twin = RawClient.adopt(lab.linux, fd);
      if (bytes === undefined) twin[Symbol.dispose]();
      else await twin.send(bytes);
      expect(await client.ends()).toBe(true);
      await lab.leave(client);
    }
    const before = lab.fdCount();
    const { client, fd } = await begin(lab);
    fd.close();
    await lab.leave(client);
    expect(lab.fdCount()).toBe(before);
  });
});
