import { mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { InterruptedError } from '../src/errors.js';
import { labYaml, run, temporaryFolder, uuids, writeIn } from './lab.js';

const uuidLine = /^[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12} is vfio2\n$/;

describe('a machine of its own', () => {
  it('ls: a table', async () => {
    const { code, out, err } = await run(['ls', '-m', labYaml()]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out.split('\n').map((line) => line.split(/ +/))).toEqual([
      ['DEVICE', 'BUS', 'DRIVER', 'TYPE', 'GROUP', 'VFIO', 'NODE', 'USERS'],
      ['0000:00:1f.0', '-', '-', '-', '0', '-', '-', '0'],
      [uuids[0], 'mdev', 'mtty', 'mtty-1', '1', 'vfio0', '/dev/vfio/1', '0'],
      [uuids[1], 'mdev', 'mtty', 'mtty-2', '2', 'vfio1', '/dev/vfio/2', '0'],
      [''],
    ]);
  });

  it('ls --json: for programs', async () => {
    const { out } = await run(['ls', '--json', '-m', labYaml()]);
    expect(JSON.parse(out)).toContainEqual({
      address: uuids[0],
      bus: 'mdev',
      driver: 'mtty',
      ids: null,
      type: 'mtty-1',
      iommuGroup: 1,
      vfio: 'vfio0',
      node: '/dev/vfio/1',
      users: 0,
    });
  });

  it('types: with how many more there can be', async () => {
    const { code, out } = await run(['types', '-m', labYaml()]);
    expect(code).toBe(0);
    expect(out).toMatch(/^mtty-1 +mtty +Single port serial +vfio-pci +21 +1$/m);
  });

  it('create: with a UUID of its own, or a given one', async () => {
    expect(await run(['create', 'mtty-1', '-m', labYaml()])).toMatchObject({
      code: 0,
      out: expect.stringMatching(uuidLine),
    });
    const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1009';
    const { out } = await run(['create', 'mtty-2', uuid, '--json', '-m', labYaml()]);
    expect(JSON.parse(out)).toEqual({ uuid, type: 'mtty-2', parent: 'mtty', vfio: 'vfio2' });
  });

  it.each([
    [['create', 'mtty-9'], "no type 'mtty-9': mtty-1, mtty-2"],
    [['create', 'mtty-1', '--parent', 'x'], "no type 'mtty-1' of 'x': mtty-1, mtty-2"],
    [['create', 'mtty-1', uuids[0]], `EEXIST`],
    [['remove', 'nosuch'], "no device 'nosuch': see vfio ls"],
    [['remove', '0000:00:1f.0'], '0000:00:1f.0 is no mediated device'],
    [['bind', 'vfio0', 'mtty'], `${uuids[0]} is bound to mtty: vfio unbind ${uuids[0]}, then bind it`],
    [
      ['bind', 'vfio0', 'vfio-pci'],
      "bus 'mdev' has no driver 'vfio-pci': it has mtty; its module may have to be loaded",
    ],
    [['bind', '0000:00:1f.0', 'vfio-pci'], '0000:00:1f.0 is on no bus that could have drivers'],
    [['unbind', '0000:00:1f.0'], '0000:00:1f.0 is bound to no driver'],
    [['exercise', '0000:00:1f.0'], '0000:00:1f.0 is bound to no VFIO driver: vfio bind 0000:00:1f.0 <driver>'],
    [['sysfs', 'cat', '/etc/passwd'], "'/etc/passwd' is not below /sys"],
    [['sysfs', 'cat', 'vfio0/nosuch'], 'ENOENT'],
    [['sysfs', 'write', 'vfio0/remove', 'x'], 'EINVAL'],
  ])('%j fails with one line that says why', async (words, why) => {
    const { code, out, err } = await run([...words, '-m', labYaml()]);
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toMatch(/^vfio: .*\n$/);
    expect(err).toContain(why);
  });

  it('remove and unbind', async () => {
    expect(await run(['remove', 'vfio1', '-m', labYaml()])).toMatchObject({ code: 0, out: `${uuids[1]} removed\n` });
    const unbound = { code: 0, out: `${uuids[0]} unbound from mtty\n` };
    expect(await run(['unbind', uuids[0], '-m', labYaml()])).toMatchObject(unbound);
  });

  it('sysfs: ls with marks, cat, write', async () => {
    const list = await run(['sysfs', 'ls', 'vfio0', '-m', labYaml()]);
    expect(list.out.split('\n')).toEqual(
      expect.arrayContaining(['remove', 'power/', 'mdev_type@ -> ../mdev_supported_types/mtty-1']),
    );
    const json = await run(['sysfs', 'ls', 'bus/mdev', '--json', '-m', labYaml()]);
    expect(JSON.parse(json.out)).toContainEqual({ name: 'devices', kind: 'dir' });
    expect((await run(['sysfs', 'cat', '/sys/module/vfio/version', '-m', labYaml()])).out).toBe('0.3\n');
    expect(await run(['sysfs', 'write', 'vfio0/remove', '1', '-m', labYaml()])).toMatchObject({
      code: 0,
      out: '',
      err: '',
    });
  });

  it('dmesg: by level, as text and JSON', async () => {
    const { out } = await run(['dmesg', '-m', labYaml()]);
    expect(out).toMatch(/^\[ +\d+\.\d{6}\] VFIO - User Level meta-driver version: 0\.3$/m);
    expect((await run(['dmesg', '--level', 'err', '-m', labYaml()])).out).toBe('');
    const lines = (await run(['dmesg', '--json', '-m', labYaml()])).out.trim().split('\n');
    expect(lines.map((line) => JSON.parse(line).text)).toContain('VFIO - User Level meta-driver version: 0.3');
  });

  it('exercise: every device, step by step', async () => {
    const { code, out } = await run(['exercise', '-m', labYaml()]);
    expect(code).toBe(0);
    expect(out.match(/^ {2}ok {6}close +0 users left$/gm)).toHaveLength(2);
    expect(out).toContain(`${uuids[0]} mtty, vfio0\n  ok      open`);
    const lines = (await run(['exercise', 'vfio1', '--json', '-m', labYaml()])).out.trim().split('\n');
    const steps = lines.map((line) => JSON.parse(line));
    expect(new Set(steps.map(({ device }) => device))).toEqual(new Set([uuids[1]]));
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(['open', 'info', 'migration', 'close']));
  });

  it('trace: of a command, whose own output goes to standard error', async () => {
    const { code, out, err } = await run(['trace', '-m', labYaml(), '--', 'exercise', 'vfio0']);
    expect(code).toBe(0);
    expect(out).toMatch(/^\[exercise\/\d+\]\n {2}open\("\/dev\/vfio\/vfio", O_RDWR\|O_CLOEXEC\) = 0\n/);
    expect(out).toContain('VFIO_DEVICE_RESET) = 0\n');
    expect(err).toMatch(/ {2}ok {6}close .*\n\d+ calls, \d+ failed\n$/);
  });

  it('trace: to a file, as JSON', async () => {
    const file = join(temporaryFolder(), 'calls');
    const { out } = await run(['trace', '-m', labYaml(), '-o', file, '--json', 'exercise', 'vfio0', '--json']);
    expect(out).toBe('');
    const [first = ''] = readFileSync(file, 'utf8').split('\n');
    expect(JSON.parse(first)).toMatchObject({ comm: 'exercise', result: '0', failed: false });
  });

  it('says what is wrong with a file: line, place and fix', async () => {
    const file = writeIn(
      temporaryFolder(),
      'lab.yaml',
      'version: 1\nmdev-samples:\n  mtty:\n    devices:\n      - { uuid: x }\n',
    );
    const { code, err } = await run(['ls', '-m', file]);
    expect(code).toBe(1);
    expect(err).toMatch(new RegExp(`^vfio: ${file}:5:\\d+: mdev-samples\\.mtty\\.devices\\[0\\].*\n$`));
    const missing = await run(['up', 'nosuch.yaml']);
    expect(missing).toMatchObject({
      code: 1,
      err: 'vfio: nosuch.yaml: no such file: give the path of a machine file\n',
    });
  });

  it('shows a stack only when asked', async () => {
    const { err } = await run(['ls', '-m', 'nosuch.yaml'], { env: { VFIO_DEBUG: '1' } });
    expect(err).toMatch(/^vfio: nosuch\.yaml: .*\nMachineFileError: .*\n {4}at /);
  });

  it('ends with 130 when it is interrupted', async () => {
    const abort = new AbortController();
    abort.abort(new InterruptedError());
    expect(await run(['exercise', '-m', labYaml()], { signal: abort.signal })).toMatchObject({
      code: 130,
      err: 'vfio: interrupted\n',
    });
  });
});

describe('no machine', () => {
  it('says how to get one', async () => {
    const { code, err, folder } = await run(['ls']);
    expect(code).toBe(1);
    expect(err).toBe(
      `vfio: no machine is up (${folder}/vfio-${process.getuid?.()}): vfio up <machine.yaml>, or give a file with --machine\n`,
    );
  });
});

describe('wrong use', () => {
  it.each([
    [[], 'Usage: vfio'],
    [['nosuch'], "unknown command 'nosuch'"],
    [['ls', 'more'], 'too many arguments'],
    [['ls', '--nosuch'], "unknown option '--nosuch'"],
    [['create'], "missing required argument 'type'"],
    [['create', 'mtty-1', 'no-uuid'], "'no-uuid' is no UUID: leave it out to get one"],
    [['sysfs'], 'Usage: vfio sysfs'],
    [['dmesg', '--level', 'loud'], "no level 'loud': use one of emerg"],
    [['ls', '-m', 'a.yaml', '-n', 'lab'], 'leave out --name and --control, or --machine'],
    [['ls', '-c', 'a', '-n', 'b'], 'give --name or --control, not both'],
    [['ls', '-n', '../x'], "'../x' can not name a socket"],
    [['trace', '--', 'nosuch'], "unknown command 'nosuch'"],
    [['trace', '--', 'ls', '--nosuch'], "unknown option '--nosuch'"],
    [['replay'], "missing required argument 'script'"],
  ])('%j ends with 2', async (words, why) => {
    const { code, out, err } = await run(words);
    expect({ code, out }).toEqual({ code: 2, out: '' });
    expect(err).toContain(why);
  });
});

describe('help', () => {
  it.each([
    [['--help'], 'Usage: vfio [options] [command]'],
    [['help', 'create'], 'Usage: vfio create [options] <type> [uuid]'],
    ...['ls', 'types', 'create', 'remove', 'bind', 'unbind', 'dmesg', 'exercise', 'trace', 'up', 'down', 'replay'].map(
      (word): [string[], string] => [[word, '--help'], `Usage: vfio ${word}`],
    ),
    ...['ls', 'cat', 'write'].map((word): [string[], string] => [
      ['sysfs', word, '--help'],
      `Usage: vfio sysfs ${word}`,
    ]),
  ])('%j: with examples', async (words, usage) => {
    const { code, out, err } = await run(words);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toContain(usage);
    expect(out).toMatch(/\nExamples:\n {2}vfio /);
  });

  it('--version', async () => {
    expect(await run(['--version'])).toMatchObject({ code: 0, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});

describe('driver packages', () => {
  it('are found beside the machine file, by no name that the command knows', async () => {
    const folder = temporaryFolder();
    const installed = join(folder, 'node_modules', '@acme', 'fake');
    mkdirSync(installed, { recursive: true });
    writeIn(folder, 'package.json', '{"dependencies":{"@acme/fake":"1"}}');
    writeIn(
      installed,
      'package.json',
      '{"name":"@acme/fake","version":"1.0.0","type":"module","keywords":["vfio-driver"],"exports":{"./machine":"./machine.js"}}',
    );
    writeIn(
      installed,
      'machine.js',
      `export const driverPackage = {
        package: '@acme/fake', section: 'fake', schema: { type: 'object' }, modules: ['fake'],
        define: ({ host }) => host.modules.define({ name: 'fake', init: ({ }) => host.log.info('fake is here') }),
        build: ({ host }) => host.modules.modprobe('fake'),
      };`,
    );
    const file = writeIn(folder, 'lab.yaml', 'version: 1\nfake: {}\n');
    const { io, stdout } = await import('./lab.js').then(({ createIo }) => createIo());
    const { drivers: _, ...world } = io;
    const { main } = await import('../src/program.js');
    expect(await main(['dmesg', '-m', file], world)).toBe(0);
    expect(stdout.text).toContain('fake is here');
  });
});
