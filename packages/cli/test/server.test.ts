import { once } from 'node:events';
import { existsSync, statSync } from 'node:fs';
import { createConnection, createServer, type Socket } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it, onTestFinished } from 'vitest';
import { connect } from '../src/control/client.js';
import { longestRequest } from '../src/control/protocol.js';
import { ControlServer } from '../src/control/server.js';
import { servedCommands, serveMachine } from '../src/serve.js';
import { createLab, temporaryFolder, uuids, writeIn } from './lab.js';

async function createServed() {
  const machine = await createLab();
  const path = join(temporaryFolder(), 'lab.sock');
  const notes: string[] = [];
  const options = {
    machine,
    commands: servedCommands,
    stop: async () => ({ machine: machine.name, leaks: [] }),
    note: (line: string) => notes.push(line),
  };
  const server = await ControlServer.listen(path, options);
  onTestFinished(() => server[Symbol.asyncDispose]());
  return { machine, path, server, options, notes };
}

/** A client that says what it likes. */
async function rawClient(path: string): Promise<Socket> {
  const socket = createConnection(path);
  onTestFinished(() => void socket.destroy());
  await once(socket, 'data');
  return socket;
}

/** Everything that a socket says until it closes. */
async function lastWords(socket: Socket): Promise<string> {
  let words = '';
  socket.on('data', (bytes) => (words += bytes.toString()));
  await once(socket, 'close');
  return words;
}

async function client(path: string) {
  const found = await connect(path);
  if (!found) throw new Error(`nobody listens at ${path}`);
  onTestFinished(() => found.close());
  return found;
}

describe('ControlServer', () => {
  it('has a socket for its user only, and takes it away', async () => {
    const { path, server } = await createServed();
    expect(statSync(path).mode & 0o777).toBe(0o600);
    await server[Symbol.asyncDispose]();
    expect(existsSync(path)).toBe(false);
  });

  it('carries out commands, with what they tell on the way', async () => {
    const { path } = await createServed();
    const events: unknown[] = [];
    const one = await client(path);
    expect(one.hello).toEqual({ vfio: 1, machine: 'lab', pid: process.pid });
    const result = await one.call('exercise', { devices: ['vfio0'] }, (event) => events.push(event));
    expect(result).toEqual([expect.objectContaining({ address: uuids[0], vfio: 'vfio0', failed: 0 })]);
    expect(events).toContainEqual(
      expect.objectContaining({ step: expect.objectContaining({ name: 'open', ok: true }) }),
    );
  });

  it('answers several calls of one client at once', async () => {
    const { path } = await createServed();
    const one = await client(path);
    const [devices, types] = await Promise.all([one.call('ls', {}, () => {}), one.call('types', {}, () => {})]);
    expect(devices).toHaveLength(3);
    expect(types).toHaveLength(2);
  });

  it('passes on why a command failed', async () => {
    const { path } = await createServed();
    const one = await client(path);
    await expect(one.call('exercise', { devices: ['nosuch'] }, () => {})).rejects.toMatchObject({
      message: "no device 'nosuch': see vfio ls",
      exitCode: 1,
    });
    await expect(one.call('exercise', { devices: 'vfio0' }, () => {})).rejects.toThrow('args.devices is no list');
    await expect(one.call('nosuch', {}, () => {})).rejects.toThrow("does not know the command 'nosuch'");
  });

  it('stops a command when its client says so, and when it goes', async () => {
    const { path, machine } = await createServed();
    const one = await client(path);
    const cancel = new AbortController();
    const trace = one.call('trace', { all: false }, () => {}, cancel.signal);
    await one.call('ls', {}, () => {});
    expect(machine.host.syscalls.watched).toBe(true);
    cancel.abort();
    expect(await trace).toMatchObject({ failed: 0 });
    expect(machine.host.syscalls.watched).toBe(false);

    const other = await client(path);
    const left = other.call('trace', { all: false }, () => {});
    await other.call('ls', {}, () => {});
    expect(machine.host.syscalls.watched).toBe(true);
    other.close();
    await expect(left).rejects.toThrow('went down before it answered');
    await expect.poll(() => machine.host.syscalls.watched).toBe(false);
  });

  it('gives a client up that waits for a device in use, and the device goes when it is free', async () => {
    const { path, machine } = await createServed();
    const device = await machine.client().openDevice(uuids[0]);
    const one = await client(path);
    const cancel = new AbortController();
    const removal = one.call('remove', { device: 'vfio0' }, () => {}, cancel.signal);
    await one.call('ls', {}, () => {});
    cancel.abort();
    await expect(removal).rejects.toMatchObject({ message: 'interrupted', exitCode: 130 });
    await device.close();
    await expect.poll(async () => (await machine.devices()).map(({ address }) => address)).not.toContain(uuids[0]);
  });

  it.each([
    ['no JSON', 'GET / HTTP/1.1\r\n\r\n', 'this is no JSON'],
    ['no call', '{"hello":1}\n', 'request.hello is not known'],
    ['a line without end', 'x'.repeat(longestRequest + 1), 'a line is longer than'],
    ['bytes that are no text', Buffer.from([0xff, 0xfe, 0x00, 0x0a]), 'this is no JSON'],
    [
      'two calls of one number',
      '{"id":1,"command":"trace","args":{"all":false}}\n'.repeat(2),
      'call 1 is not over yet',
    ],
  ])('parts from a client that sends %s, and from nobody else', async (_, bytes, why) => {
    const { path } = await createServed();
    const good = await client(path);
    const bad = await rawClient(path);
    bad.write(bytes);
    expect(await lastWords(bad)).toContain(why);
    expect(await good.call('ls', {}, () => {})).toHaveLength(3);
  });

  it('lets one client run a bounded number of commands', async () => {
    const { path } = await createServed();
    const bad = await rawClient(path);
    for (let id = 1; id <= 17; id++) bad.write(`{"id":${id},"command":"trace","args":{"all":false}}\n`);
    expect(await lastWords(bad)).toContain('16 calls at once are the most');
  });

  it('parts from a client that does not read', async () => {
    const { path, machine, notes } = await createServed();
    const deaf = await rawClient(path);
    deaf.pause();
    deaf.write('{"id":1,"command":"dmesg","args":{"level":"debug","follow":true}}\n');
    const good = await client(path);
    await good.call('ls', {}, () => {});
    const text = 'x'.repeat(1 << 20);
    for (let i = 0; i < 24 && notes.length === 0; i++) {
      machine.host.log.info(text);
      await good.call('ls', {}, () => {});
    }
    expect(notes).toEqual([expect.stringContaining('does not read')]);
    expect(await good.call('ls', {}, () => {})).toHaveLength(3);
  });

  it('ends although a client does not', async () => {
    const { path, server } = await createServed();
    const idle = await rawClient(path);
    const closed = once(idle, 'close');
    await server[Symbol.asyncDispose]();
    await closed;
  });
});

describe('ControlServer.listen', () => {
  it('refuses a socket that a machine listens on', async () => {
    const { path, options } = await createServed();
    await expect(ControlServer.listen(path, options)).rejects.toThrow(
      `lab is up already (process ${process.pid}, ${path}): vfio down it, or give another --name`,
    );
    expect(await (await client(path)).call('ls', {}, () => {})).toHaveLength(3);
  });

  it('replaces one that is left of a machine that is gone', async () => {
    const { path, options, server } = await createServed();
    await server[Symbol.asyncDispose]();
    // a server that is killed leaves its socket behind
    const { execFileSync } = await import('node:child_process');
    const killed = `require('net').createServer().listen(${JSON.stringify(path)}, () => process.kill(process.pid, 'SIGKILL'))`;
    expect(() => execFileSync(process.execPath, ['-e', killed], { stdio: 'ignore' })).toThrow();
    expect(existsSync(path)).toBe(true);
    await using again = await ControlServer.listen(path, options);
    expect(again.path).toBe(path);
    expect(await (await client(path)).call('ls', {}, () => {})).toHaveLength(3);
  });

  it('leaves alone what is no socket, and what is somebody else', async () => {
    const { options } = await createServed();
    const folder = temporaryFolder();
    const file = writeIn(folder, 'file', 'text');
    await expect(ControlServer.listen(file, options)).rejects.toThrow('is there and is no socket');
    const path = join(folder, 'other.sock');
    const other = createServer((socket) => socket.end('220 mail\r\n')).listen(path);
    onTestFinished(() => void other.close());
    await once(other, 'listening');
    await expect(ControlServer.listen(path, options)).rejects.toThrow(`${path} is no machine's: this is no JSON`);
  });
});

describe('connect', () => {
  it('refuses another version, and knows when nobody is there', async () => {
    const folder = temporaryFolder();
    expect(await connect(join(folder, 'none.sock'))).toBeUndefined();
    const path = join(folder, 'new.sock');
    const server = createServer((socket) => void socket.write('{"vfio":2,"machine":"lab","pid":1}\n')).listen(path);
    onTestFinished(() => void server.close());
    await once(server, 'listening');
    await expect(connect(path)).rejects.toThrow('speaks version 2 of the protocol, not 1');
  });
});

describe('serveMachine', () => {
  it('goes down when a client says so, who hears what was left behind', async () => {
    const machine = await createLab();
    const env = { XDG_RUNTIME_DIR: temporaryFolder() };
    const leak = machine.host.tracker.track('eventfd', () => 'an eventfd');
    const { signal } = new AbortController();
    let served: ReturnType<typeof serveMachine> | undefined;
    const path = await new Promise<string>((onListening) => {
      served = serveMachine(machine, { env, signal, onListening });
    });
    expect(statSync(join(path, '..')).mode & 0o777).toBe(0o700);
    const one = await client(path);
    const waiting = one.call('dmesg', { level: 'info', follow: true }, () => {});
    const result = { machine: 'lab', leaks: [{ kind: 'eventfd', what: 'an eventfd' }] };
    expect(await one.call('down', {}, () => {})).toEqual(result);
    expect(await waiting).toBeNull();
    expect(await served).toEqual(result);
    expect(existsSync(path)).toBe(false);
    leak.release();
  });

  it('goes down when it is interrupted', async () => {
    const machine = await createLab();
    const abort = new AbortController();
    const env = { XDG_RUNTIME_DIR: temporaryFolder() };
    const served = serveMachine(machine, { env, signal: abort.signal, name: 'ci', onListening: () => abort.abort() });
    expect(await served).toEqual({ machine: 'lab', leaks: [] });
  });
});
