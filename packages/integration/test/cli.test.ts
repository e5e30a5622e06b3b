/* The program `vfio` as its users have it: the built file, in processes of its own. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it, onTestFinished } from 'vitest';

const bin = join(dirname(createRequire(import.meta.url).resolve('@vfio/cli/package.json')), 'dist', 'bin.js');
const lab = fileURLToPath(new URL('../../../examples/lab.yaml', import.meta.url));
const dump = fileURLToPath(new URL('../../pci/test/fixtures/lspci/tree-asus-p6t6.txt', import.meta.url));
const script = fileURLToPath(new URL('../../../transcripts/scripts/mtty-irq.vfs', import.meta.url));
const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1009';

interface Result {
  readonly code: number | null;
  readonly out: string;
  readonly err: string;
}

/** A place for control sockets, empty and gone with the test, and the program in it. */
function createRuntime() {
  const folder = mkdtempSync(join(tmpdir(), 'vfio-e2e-'));
  const sockets = join(folder, `vfio-${process.getuid?.()}`);
  // a machine that a failing test leaves up would never end by itself
  onTestFinished(async () => {
    for (const name of existsSync(sockets) ? readdirSync(sockets) : []) {
      if (name.endsWith('.sock')) await vfio('down', '--control', join(sockets, name));
    }
    rmSync(folder, { recursive: true });
  });
  const start = (...words: string[]): ChildProcess =>
    spawn(process.execPath, [bin, ...words], {
      cwd: folder,
      env: { PATH: process.env.PATH, XDG_RUNTIME_DIR: folder },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
  const vfio = (...words: string[]): Promise<Result> => ended(start(...words));
  return { folder, sockets, start, vfio };
}

async function ended(child: ChildProcess): Promise<Result> {
  const text = { out: '', err: '' };
  child.stdout?.on('data', (bytes: Buffer) => (text.out += bytes.toString()));
  child.stderr?.on('data', (bytes: Buffer) => (text.err += bytes.toString()));
  const [code]: (number | null)[] = await once(child, 'close');
  return { code: code ?? null, ...text };
}

/** Resolves when a child has written something to standard error that matches. */
function said(child: ChildProcess, pattern: RegExp): Promise<void> {
  return new Promise((resolve, reject) => {
    let text = '';
    const listen = (bytes: Buffer) => {
      text += bytes.toString();
      if (!pattern.test(text)) return;
      child.stderr?.off('data', listen);
      resolve();
    };
    child.stderr?.on('data', listen);
    child.once('exit', () => reject(new Error(`it ended without a word of ${pattern}: ${text}`)));
  });
}

describe('vfio', () => {
  it('brings a machine up, works on it from other processes, and takes it down', { timeout: 60_000 }, async () => {
    const { sockets, vfio } = createRuntime();
    const up = await vfio('up', lab, '--detach');
    expect(up).toMatchObject({
      code: 0,
      err: '',
      out: expect.stringMatching(/^lab is up with 2 VFIO devices: .*lab\.sock/),
    });
    expect(statSync(sockets).mode & 0o777).toBe(0o700);
    expect(statSync(join(sockets, 'lab.sock')).mode & 0o777).toBe(0o600);

    expect((await vfio('ls')).out).toMatch(/^83b8f4f2.*1001 +mdev +mtty +mtty-1 +2 +vfio0 +\/dev\/vfio\/2 +0$/m);
    expect((await vfio('types')).out).toMatch(/^mtty-2 .* 10 +1$/m);
    expect(await vfio('create', 'mtty-2', uuid)).toEqual({ code: 0, out: `${uuid} is vfio2\n`, err: '' });
    expect((await vfio('types')).out).toMatch(/^mtty-2 .* 9 +2$/m);
    const devices: unknown = JSON.parse((await vfio('ls', '--json')).out);
    expect(devices).toContainEqual(expect.objectContaining({ address: uuid, vfio: 'vfio2', users: 0 }));

    const exercised = await vfio('exercise', 'vfio2');
    expect(exercised).toMatchObject({ code: 0, err: '' });
    expect(exercised.out).toMatch(/ok +open .*\n( +ok .*\n)+ +ok +close +0 users left\n$/);
    expect((await vfio('sysfs', 'cat', 'vfio2/mdev_type/name')).out).toBe('Dual port serial\n');
    expect((await vfio('sysfs', 'ls', 'class/vfio-dev')).out).toMatch(/^vfio2@ -> /m);
    expect((await vfio('dmesg')).out).toContain('VFIO - User Level meta-driver version: 0.3');
    const traced = await vfio('trace', '--', 'exercise', 'vfio2');
    expect(traced.out).toContain(`VFIO_GROUP_GET_DEVICE_FD, "${uuid}") = `);

    expect(await vfio('remove', uuid)).toEqual({ code: 0, out: `${uuid} removed\n`, err: '' });
    expect((await vfio('ls')).out).not.toContain(uuid);
    expect(await vfio('remove', uuid)).toEqual({ code: 1, out: '', err: `vfio: no device '${uuid}': see vfio ls\n` });

    expect(await vfio('down')).toEqual({ code: 0, out: 'lab is down\n', err: '' });
    expect(readdirSync(sockets)).toEqual(['lab.log']);
    expect(await vfio('ls')).toMatchObject({ code: 1, err: expect.stringContaining('vfio: no machine is up') });
  });

  it('makes a machine of what lspci printed, and shows the same functions', { timeout: 60_000 }, async () => {
    const { folder, vfio } = createRuntime();
    const imported = await vfio('import', dump);
    expect(imported).toMatchObject({ code: 0, err: '' });
    const file = join(folder, 'server.yaml');
    writeFileSync(file, imported.out);
    expect(await vfio('up', file, '--detach')).toMatchObject({ code: 0, err: '' });
    const listed: { address: string; ids: string }[] = JSON.parse((await vfio('ls', '--json')).out);
    const bytes = /^(\S+) .*\n00: (\w\w) (\w\w) (\w\w) (\w\w) /gm;
    const dumped = [...readFileSync(dump, 'utf8').matchAll(bytes)].map(([, at, v0, v1, d0, d1]) => {
      return { address: `0000:${at}`, ids: `${v1}${v0}:${d1}${d0}` };
    });
    const byAddress = (a: { address: string }, b: { address: string }) => a.address.localeCompare(b.address);
    expect(listed.map(({ address, ids }) => ({ address, ids })).sort(byAddress)).toEqual(dumped.sort(byAddress));
    expect((await vfio('ls')).out).toMatch(
      /^0000:06:00\.0 +10de:0a65 +pci +vfio-pci +\d+ +vfio\d+ +\/dev\/vfio\/\d+ +0$/m,
    );
    expect(await vfio('exercise', '0000:06:00.0')).toMatchObject({ code: 0, err: '' });
    expect(await vfio('down')).toMatchObject({ code: 0, err: '' });
  });

  it.each(['SIGINT', 'SIGTERM'] as const)('shuts down in order on %s', async (signal) => {
    const { sockets, start } = createRuntime();
    const child = start('up', lab);
    await said(child, /lab is up with 2 VFIO devices/);
    const end = ended(child);
    child.kill(signal);
    expect(await end).toEqual({ code: 0, out: '', err: 'lab is down\n' });
    expect(readdirSync(sockets)).toEqual([]);
  });

  it('refuses a second machine of one name, and replaces one that was killed', { timeout: 30_000 }, async () => {
    const { start, vfio } = createRuntime();
    const child = start('up', lab);
    await said(child, /is up/);
    const second = await vfio('up', lab, '--detach');
    expect(second).toMatchObject({ code: 1, out: '' });
    expect(second.err).toMatch(
      /^vfio: lab is up already \(process \d+, .*lab\.sock\): vfio down it, or give another --name\n$/,
    );
    expect(await vfio('up', lab, '--detach', '--name', 'other')).toMatchObject({ code: 0 });
    const unclear = await vfio('ls');
    expect(unclear).toEqual({
      code: 1,
      out: '',
      err: 'vfio: several machines are up: give one of lab, other with --name\n',
    });
    expect(await vfio('ls', '--name', 'other')).toMatchObject({ code: 0 });
    const killed = once(child, 'close');
    child.kill('SIGKILL');
    await killed;
    expect(await vfio('up', lab, '--detach')).toMatchObject({ code: 0 });
    expect(await vfio('ls', '--name', 'lab')).toMatchObject({ code: 0 });
  });

  it('traces what other processes do, until it is interrupted', { timeout: 30_000 }, async () => {
    const { start, vfio } = createRuntime();
    await vfio('up', lab, '--detach');
    const trace = start('trace');
    const end = ended(trace);
    let shown = false;
    trace.stdout?.once('data', () => (shown = true));
    // the trace does not say when it begins: something is done until it shows
    await expect.poll(() => vfio('exercise', 'vfio0').then(() => shown), { timeout: 20_000 }).toBe(true);
    trace.kill('SIGINT');
    const { code, out, err } = await end;
    expect({ code, err }).toEqual({ code: 0, err: expect.stringMatching(/^\d+ calls, \d+ failed\n$/) });
    expect(out).toMatch(/^ {2}ioctl\(\d+<anon_inode:\[vfio-device\]>, VFIO_DEVICE_RESET\) = 0$/m);
  });

  it('says what is wrong with a machine file: its line, and exits with 1, also in the background', async () => {
    const { folder, vfio } = createRuntime();
    const file = join(folder, 'wrong.yaml');
    writeFileSync(file, 'version: 1\nhost:\n  iommu: { addresBits: 48 }\n');
    const told = {
      code: 1,
      out: '',
      err: expect.stringMatching(/^vfio: .*wrong\.yaml:3:\d+: host\.iommu.*addressBits.*\n$/),
    };
    expect(await vfio('up', file)).toEqual(told);
    expect(await vfio('up', file, '--detach')).toEqual(told);
    const unknown = join(folder, 'unknown.yaml');
    writeFileSync(unknown, 'version: 1\nnosuch: {}\n');
    const { code, err } = await vfio('ls', '-m', unknown);
    expect(code).toBe(1);
    expect(err).toContain("unknown.yaml:2:1: nosuch: section 'nosuch' needs @vfio/nosuch: npm install @vfio/nosuch");
  });

  it('ends with 2 when it is used wrongly', async () => {
    const { vfio } = createRuntime();
    expect(await vfio('nosuch')).toMatchObject({
      code: 2,
      out: '',
      err: expect.stringContaining("unknown command 'nosuch'"),
    });
    expect(await vfio('up')).toMatchObject({
      code: 2,
      err: expect.stringContaining("missing required argument 'machine.yaml'"),
    });
  });

  it('replays and traces a script', async () => {
    const { vfio } = createRuntime();
    const replay = await vfio('replay', script);
    expect(replay).toMatchObject({ code: 0, err: '', out: expect.stringMatching(/^mtty-irq +90 +90 +0$/m) });
    const trace = await vfio('trace', script);
    expect(trace.code).toBe(0);
    expect(trace.out).toContain('flags=DATA_EVENTFD|ACTION_TRIGGER, index=0, start=0, count=1, [6]}) = 0');
  });

  it('takes a reader that has seen enough', async () => {
    const { start } = createRuntime();
    const child = start('exercise', '--json', '-m', lab);
    child.stdout?.once('data', () => child.stdout?.destroy());
    const [code] = await once(child, 'exit');
    expect(code).toBe(0);
  });

  it('keeps the log of a machine in the background beside its socket', async () => {
    const { sockets, vfio } = createRuntime();
    await vfio('up', lab, '-d', '-n', 'ci');
    expect(statSync(join(sockets, 'ci.log')).mode & 0o777).toBe(0o600);
    await vfio('down');
    // the last line comes after the socket is gone, which is what `down` waits for
    const log = () => readFileSync(join(sockets, 'ci.log'), 'utf8');
    await expect.poll(log, { timeout: 20_000 }).toMatch(/^lab is up with .*\nlab is down\n$/);
  });
});
