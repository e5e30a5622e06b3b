import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { driverPackage as samples } from '@vfio/mdev-samples/machine';
import { driverPackage as pci } from '@vfio/pci/machine';
import { Linux, listenUnix, socketPair } from '@vfio/sys';
import { Command } from '@vfio/user';
import { driverPackage as testdev } from '@vfio/user/machine';
import { describe, expect, it, onTestFinished } from 'vitest';
import { concat, longs, RawClient, turn, version, words } from '../../user/test/raw-client.js';
import { connect } from '../src/control/client.js';
import type { Io } from '../src/io.js';
import { main } from '../src/program.js';
import { serveMachine } from '../src/serve.js';
import { createIo, createLab, labYaml, run, temporaryFolder, uuids } from './lab.js';

const drivers = [samples, pci, testdev];
const CONFIG = 7;

/** A command line that goes on until its signal is aborted. */
function start(command: readonly string[], more: Partial<Io> = {}) {
  const abort = new AbortController();
  const { io, stdout, stderr } = createIo({ drivers, signal: abort.signal, ...more });
  let over = false;
  const code = main(command, io).finally(() => {
    over = true;
  });
  onTestFinished(async () => {
    abort.abort();
    await code;
  });
  return {
    io,
    out: () => stdout.text,
    err: () => stderr.text,
    stop: () => {
      abort.abort(new Error('SIGTERM'));
      return code;
    },
    code,
    /** Waits until it has said so many lines on standard error. */
    async says(lines: number): Promise<void> {
      while (!over && stderr.text.split('\n').length <= lines) await turn();
      if (stderr.text.split('\n').length <= lines) throw new Error(`it has ended: ${stderr.text}`);
    },
  };
}

/** The lab, up; what `vfio up` would do more is to talk to the process that started it. */
async function upLab() {
  const abort = new AbortController();
  const machine = await createLab();
  const env = { XDG_RUNTIME_DIR: temporaryFolder() };
  const { promise, resolve } = withResolvers<string>();
  const down = serveMachine(machine, { env, signal: abort.signal, onListening: resolve });
  onTestFinished(async () => {
    abort.abort();
    await down;
  });
  return { env, path: await promise, down };
}

function withResolvers<T>() {
  let resolve: (value: T) => void = () => undefined;
  const promise = new Promise<T>((fulfil) => {
    resolve = fulfil;
  });
  return { promise, resolve };
}

async function linuxOfTest(): Promise<Linux> {
  const linux = await Linux.load({ checked: true });
  onTestFinished(() => linux[Symbol.dispose]());
  return linux;
}

/** Vendor and device, as a client reads them. */
async function idsAt(linux: Linux, path: string): Promise<number> {
  using client = await RawClient.open(linux, path);
  return await idsOf(client);
}

async function idsOf(client: RawClient): Promise<number> {
  const reply = await client.ask(Command.REGION_READ, concat(longs(0), words(CONFIG, 4)));
  return new DataView(reply.buffer, reply.byteOffset).getUint32(16, true);
}

describe('vfio serve', () => {
  it.each([
    ['testdev', 0x0001_1d1d],
    ['mtty', 0x3253_4348],
    ['mdpy', 0x000f_1b36],
    ['mbochs', 0x1111_1234],
    ['edu', 0x11e8_1234],
    ['ioat', 0x2021_8086],
  ] as const)('serves %s on a machine of its own, for one client after the other', async (word, ids) => {
    const linux = await linuxOfTest();
    const path = join(temporaryFolder(), 'device.sock');
    const served = start(['serve', word, '--socket-path', path]);
    await served.says(1);
    expect(served.err()).toMatch(new RegExp(`^\\S+ of ${word} is served at ${path}\n$`));
    expect(statSync(path).mode & 0o777).toBe(0o600);
    expect(await idsAt(linux, path)).toBe(ids);
    expect(await idsAt(linux, path)).toBe(ids);
    expect(await served.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
    expect(served.err().split('\n')).toHaveLength(2);
  });

  it('serves several at once, and ends with a client in each', async () => {
    const linux = await linuxOfTest();
    const folder = temporaryFolder();
    const [a, b, c] = ['a', 'b', 'c'].map((name) => join(folder, name)) as [string, string, string];
    const before = readdirSync('/proc/self/fd').length;
    const served = start(['serve', 'edu', '--socket-path', a, 'mtty', '--socket-path', b, 'edu', '--socket-path', c]);
    await served.says(3);
    {
      using edu = await RawClient.open(linux, a);
      using mtty = await RawClient.open(linux, b);
      using other = await RawClient.open(linux, c);
      expect([await idsOf(edu), await idsOf(mtty), await idsOf(other)]).toEqual([
        0x11e8_1234, 0x3253_4348, 0x11e8_1234,
      ]);
      expect(await served.stop()).toBe(0);
      expect(await edu.ends()).toBe(true);
    }
    expect(readdirSync(folder)).toEqual([]);
    expect(readdirSync('/proc/self/fd').length).toBeLessThanOrEqual(before);
  });

  it('serves devices of a machine file, by any of their names', async () => {
    const linux = await linuxOfTest();
    const folder = temporaryFolder();
    const [a, b] = [join(folder, 'a'), join(folder, 'b')];
    const words = ['serve', '-m', labYaml(), 'vfio0', '--socket-path', a, uuids[1], '--socket-path', b];
    const served = start(words);
    await served.says(2);
    expect(served.err()).toBe(`${uuids[0]} of lab is served at ${a}\n${uuids[1]} of lab is served at ${b}\n`);
    expect([await idsAt(linux, a), await idsAt(linux, b)]).toEqual([0x3253_4348, 0x3253_4348]);
    expect(await served.stop()).toBe(0);
  });

  it('has a machine that is up serve its device, until either is ended', async () => {
    const linux = await linuxOfTest();
    const folder = temporaryFolder();
    const path = join(folder, 'a');
    const up = await upLab();
    const first = start(['serve', 'vfio0', '--socket-path', path], { env: up.env });
    await first.says(1);
    expect(await idsAt(linux, path)).toBe(0x3253_4348);
    expect(await first.stop()).toBe(0);
    expect(existsSync(path)).toBe(false);
    const second = start(['serve', '-n', 'lab', 'vfio1', '--socket-path', path], { env: up.env });
    await second.says(1);
    using client = await RawClient.open(linux, path);
    expect(await idsOf(client)).toBe(0x3253_4348);
    const { code, out, err } = await run(['down'], { env: up.env, drivers });
    expect([code, out, err]).toEqual([0, 'lab is down\n', '']);
    expect(await client.ends()).toBe(true);
    expect(await second.code).toBe(0);
    expect(await up.down).toEqual({ machine: 'lab', leaks: [] });
    expect(existsSync(path)).toBe(false);
  });

  it('can be looked at while it serves, and ended, under the name of its word', async () => {
    const linux = await linuxOfTest();
    const folder = temporaryFolder();
    const served = start(['serve', 'mtty', '--socket-path', join(folder, 'a')]);
    await served.says(1);
    const again = start(['serve', 'mtty', '--socket-path', join(folder, 'b')], { env: served.io.env });
    await again.says(1);
    using client = await RawClient.open(linux, join(folder, 'a'));
    const sockets = () => readdirSync(join(String(served.io.env.XDG_RUNTIME_DIR), `vfio-${process.getuid?.()}`));
    while (sockets().length < 2) await turn();
    expect(sockets().sort()).toEqual([`mtty-${process.pid}.sock`, 'mtty.sock']);
    const looked = await run(['ls', '-n', 'mtty', '--json'], { env: served.io.env, drivers });
    expect(JSON.parse(looked.out)).toEqual([expect.objectContaining({ address: uuids[0], users: 1 })]);
    expect((await run(['down', '-n', 'mtty'], { env: served.io.env, drivers })).code).toBe(0);
    expect(await served.code).toBe(0);
    expect(await client.ends()).toBe(true);
    expect(await idsAt(linux, join(folder, 'b'))).toBe(0x3253_4348);
    expect(await again.stop()).toBe(0);
  });

  it('takes a socket that listens by its descriptor', async () => {
    const linux = await linuxOfTest();
    const path = join(temporaryFolder(), 'a');
    const listener = listenUnix(linux, path);
    const fd = listener.number;
    const served = start(['serve', 'edu', '--fd', String(fd)]);
    await served.says(1);
    expect(served.err()).toContain(`is served at descriptor ${fd}`);
    expect(await idsAt(linux, path)).toBe(0x11e8_1234);
    expect(await served.stop()).toBe(0);
    listener.release(); // closed by then
  });

  it('serves the one client of a socket that is connected, and ends with it', async () => {
    const linux = await linuxOfTest();
    const [mine, theirs] = socketPair(linux);
    const served = start(['serve', 'edu', '--fd', String(theirs.release())]);
    await served.says(1);
    {
      using client = new RawClient(linux, mine);
      await client.ask(Command.VERSION, version());
      expect(await idsOf(client)).toBe(0x11e8_1234);
    }
    expect(await served.code).toBe(0);
  });

  it('replaces a socket that nobody listens at', async () => {
    const linux = await linuxOfTest();
    const path = join(temporaryFolder(), 'a');
    const left = listenUnix(linux, path);
    linux.calls.close(left.release()); // as by a program that was killed
    expect(existsSync(path)).toBe(true);
    const served = start(['serve', 'edu', '--socket-path', path]);
    await served.says(1);
    expect(await idsAt(linux, path)).toBe(0x11e8_1234);
    expect(await served.stop()).toBe(0);
  });

  it('leaves a socket alone that somebody listens at, and a file', async () => {
    const folder = temporaryFolder();
    const [socket, file] = [join(folder, 'socket'), join(folder, 'file')];
    const other = createServer().listen(socket);
    onTestFinished(() => void other.close());
    while (!existsSync(socket)) await turn();
    writeFileSync(file, 'mine');
    const taken = await run(['serve', 'edu', '--socket-path', socket], { drivers });
    expect([taken.code, taken.err]).toEqual([
      1,
      `vfio: ${socket}: somebody listens there already: give another --socket-path\n`,
    ]);
    const noSocket = await run(['serve', 'edu', '--socket-path', file], { drivers });
    expect([noSocket.code, noSocket.err]).toEqual([
      1,
      `vfio: ${file}: it is there and is no socket: give another --socket-path\n`,
    ]);
    expect(existsSync(socket) && existsSync(file)).toBe(true);
  });

  it.each([
    [['serve'], 2, "missing required argument 'device'"],
    [['serve', 'edu'], 2, 'edu has no socket: give it one with --socket-path or --fd'],
    [['serve', 'edu', '--socket-path', 'a', '--fd', '9'], 2, '2 sockets for 1 devices'],
    [['serve', 'edu', '--fd', 'x'], 2, 'It is no whole number'],
    [['serve', 'edu', '--fd', '9999'], 1, 'descriptor 9999 is no socket: EBADF'],
    [['serve', 'edo', '--socket-path', '/tmp/x'], 1, 'testdev'],
    [['serve', 'vfio0', '--fd', '5'], 2, 'descriptor 5 is not open in the process of the machine'],
    [['serve', 'edu', '--socket-path', '/tmp/x', 'vfio0', '--socket-path', '/tmp/y'], 2, 'serve them apart'],
    [['serve', 'edu', '--socket-path', '/nowhere/x'], 1, 'ENOENT'],
  ] as const)('says in one line what is wrong with %j', async (command, code, message) => {
    const result = await run(command, { drivers });
    expect(result.code).toBe(code);
    expect(result.err).toContain(message);
    expect(result.err.split('\n').filter((line) => line.startsWith('vfio: '))).toHaveLength(1);
  });

  it('says which device of a machine can not be served', async () => {
    const path = join(temporaryFolder(), 'a');
    const missing = await run(['serve', '-m', labYaml(), 'vfio9', '--socket-path', path], { drivers });
    expect([missing.code, missing.err]).toEqual([1, "vfio: no device 'vfio9': see vfio ls\n"]);
    const words = ['serve', '-m', labYaml(), '0000:00:1f.0', '--socket-path', path];
    const unbound = await run(words, { drivers });
    expect([unbound.code, unbound.err]).toEqual([
      1,
      'vfio: 0000:00:1f.0 is bound to no VFIO driver: vfio bind 0000:00:1f.0 <driver>\n',
    ]);
  });

  it('tells in its help how QEMU takes a device', async () => {
    const { code, out } = await run(['serve', '--help'], { drivers });
    expect(code).toBe(0);
    expect(out).toContain('"driver":"vfio-user-pci"');
    expect(out).toContain('share=on');
  });

  it('refuses what comes over the control socket and is no such command', async () => {
    const up = await upLab();
    const client = await connect(up.path);
    await expect(client?.call('serve', { devices: [{ device: 'vfio0' }] }, () => undefined)).rejects.toThrow(
      'args.devices[0].path is no text',
    );
    client?.close();
  });
});
