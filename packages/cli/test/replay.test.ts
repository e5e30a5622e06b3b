import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { driverPackage } from '@vfio/mdev-samples/machine';
import { parseHeader } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { waitingText } from '../src/commands/replay.js';
import { ScriptMachines } from '../src/replay/machines.js';
import { findScripts, findUpward } from '../src/replay/scripts.js';
import { run, temporaryFolder, writeIn } from './lab.js';

const header = '#@ machine small\n#@ modules vfio_iommu_type1\n';
const step = (n: number, line: number, src: string, rest: object) =>
  JSON.stringify({ n, line, op: src.split(' ')[0], src, ...rest });

/** A folder with a script that opens the container, and what a kernel would answer. */
function createTranscripts() {
  const folder = temporaryFolder();
  for (const name of ['scripts/sub', 'golden/some-kernel', 'machines'])
    mkdirSync(join(folder, name), { recursive: true });
  writeIn(folder, 'machines/small.yaml', 'version: 1\nmodules: [mtty]\n');
  const script = (name: string, text: string, ...answers: string[]) => {
    writeIn(
      folder,
      `golden/some-kernel/${name}.jsonl`,
      [...answers, `{"end":true,"steps":${answers.length}}`, ''].join('\n'),
    );
    return writeIn(folder, `scripts/${name}.vfs`, text);
  };
  const open = step(1, 3, 'open c /dev/vfio/vfio rdwr', { ret: 'fd' });
  const version = (ret: number) => step(2, 4, 'ioctl c VFIO_GET_API_VERSION none', { ret });
  const text = `${header}open c /dev/vfio/vfio rdwr\nioctl c VFIO_GET_API_VERSION none\n`;
  return {
    folder,
    script,
    same: () => script('same', text, open, version(0)),
    different: () => script('different', text, open, version(7)),
    waiting: () => script('waiting', '#@ machine small\n#@ modules mtty vfio-nothing\n', open),
  };
}

describe('vfio replay', () => {
  it('shows what is the same, and exits with 0', async () => {
    const { same } = createTranscripts();
    const { code, out, err } = await run(['replay', same()]);
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(out).toBe(
      'SCRIPT  STEPS  SAME  DIFFERENT\nsame        2     2          0\n1 transcript: 2 steps, 2 same, 0 different\n',
    );
  });

  it('shows what differs, and exits with 1', async () => {
    const { folder, same, different } = createTranscripts();
    same();
    const path = different();
    const { code, out, err } = await run(['replay', folder]);
    expect(code).toBe(1);
    expect(out).toContain('different      2     1          1\n');
    expect(out).toContain('2 transcripts: 4 steps, 3 same, 1 different\n');
    expect(err).toBe('vfio: --diff shows what differs\n');
    const diff = await run(['replay', '--diff', path]);
    expect(diff.out).toContain(
      'different.vfs:4: ioctl c VFIO_GET_API_VERSION none\n  @@ step 2 @@\n  - ret: 7\n  + ret: 0',
    );
  });

  it('takes differences that are meant to be, and complains of those that are none', async () => {
    const { folder, same, different } = createTranscripts();
    const path = different();
    writeIn(folder, 'deviations.json', '[{"script":"different","line":4,"reason":"we know better"}]');
    const { code, out } = await run(['replay', path]);
    expect(code).toBe(0);
    expect(out).toContain('0 different, 1 different on purpose');
    const list = writeIn(folder, 'other.json', '[{"script":"same","line":4,"reason":"once"}]');
    const stale = await run(['replay', same(), '--deviations', list]);
    expect(stale).toMatchObject({ code: 1, err: 'vfio: same.vfs:4: listed as a deviation, but as recorded (once)\n' });
    const missing = await run(['replay', same(), '--deviations', join(folder, 'nosuch')]);
    expect(missing).toMatchObject({ code: 1, err: expect.stringContaining(`no such file: ${folder}/nosuch`) });
  });

  it('counts scripts of a folder that wait for a driver, and fails for one that was named', async () => {
    const { folder, same, waiting } = createTranscripts();
    same();
    const path = waiting();
    const all = await run(['replay', folder]);
    expect(all.code).toBe(0);
    expect(all.out).toContain('1 more waits for modules that no installed package offers: vfio_nothing (1)\n');
    const one = await run(['replay', path]);
    expect(one).toMatchObject({ code: 1, err: `vfio: ${path}: no installed package offers vfio_nothing\n` });
  });

  it.each([
    ['#@ modules vfio\n', "its header names no machine: add '#@ machine NAME'"],
    ['#@ machine nowhere\n', 'no machines/nowhere.yaml beside it or above'],
    [`${header}nosuch command\n`, "unknown command 'nosuch'"],
  ])('says what is wrong with the script %j', async (text, why) => {
    const { script } = createTranscripts();
    const { code, err } = await run(['replay', script('broken', text)]);
    expect(code).toBe(1);
    expect(err).toContain(why);
  });

  it('says what is missing', async () => {
    expect(await run(['replay', 'nosuch'])).toMatchObject({
      code: 1,
      err: expect.stringContaining("no script 'nosuch'"),
    });
    const empty = temporaryFolder();
    expect(await run(['replay', empty])).toMatchObject({
      code: 1,
      err: expect.stringContaining(`no scripts in '${empty}'`),
    });
    const lonely = writeIn(empty, 'lonely.vfs', header);
    expect(await run(['replay', lonely])).toMatchObject({
      code: 1,
      err: expect.stringContaining('no recorded answers to lonely.vfs'),
    });
  });

  it('--json: all of it for programs', async () => {
    const { folder, different, waiting } = createTranscripts();
    different();
    waiting();
    const { code, out } = await run(['replay', '--json', folder]);
    expect(code).toBe(1);
    expect(JSON.parse(out)).toEqual([
      expect.objectContaining({ kind: 'replayed', steps: 2, same: 1, different: 1, ok: false, failures: [] }),
      expect.objectContaining({ kind: 'waiting', modules: ['vfio_nothing'] }),
    ]);
  });
});

describe('vfio trace script.vfs', () => {
  it('shows the calls that a script makes', async () => {
    const { same } = createTranscripts();
    const { code, out } = await run(['trace', same()]);
    expect(code).toBe(0);
    expect(out).toMatch(
      / {2}open\("\/dev\/vfio\/vfio", O_RDWR\) = 3\n {2}ioctl\(3<.*>, VFIO_GET_API_VERSION.*\) = 0\n/,
    );
  });

  it('fails where the script can not run', async () => {
    const { waiting } = createTranscripts();
    expect(await run(['trace', waiting()])).toMatchObject({
      code: 1,
      err: expect.stringContaining('no installed package offers vfio_nothing'),
    });
  });
});

describe('ScriptMachines', () => {
  const machines = new ScriptMachines({ drivers: [driverPackage] });

  it('knows the modules of VFIO and of the packages, with either kind of dash', async () => {
    const modules = (words: string) => machines.missingModules(parseHeader(`#@ modules ${words}\n`));
    expect(await modules('vfio vfio_iommu_type1:allow_unsafe_interrupts=1 mtty mdev')).toEqual([]);
    expect(await modules('vfio-iommu-type1 vfio-pci')).toEqual(['vfio_pci']);
  });

  it("replaces the file's modules by the header's, and moves time only with the script", async () => {
    const { same } = createTranscripts();
    const made = await machines.create(
      same(),
      parseHeader('#@ machine small\n#@ modules vfio_iommu_type1:dma_entry_limit=7\n'),
    );
    await using _end = { [Symbol.asyncDispose]: () => made[Symbol.asyncDispose]() };
    const { modules } = made.machine.host;
    expect(modules.get('mtty')).toBeUndefined();
    expect(await made.process.readFile('/sys/module/vfio_iommu_type1/parameters/dma_entry_limit')).toBe('7\n');
    expect(made.clock.now()).toBe(made.machine.host.clock.now());
  });
});

describe('findScripts', () => {
  it('takes each script once, those of folders in order', () => {
    const { folder, same, different } = createTranscripts();
    const [a, b] = [same(), different()];
    writeIn(folder, 'scripts/sub/deep.vfs', '');
    writeIn(folder, 'scripts/readme.md', '');
    expect(findScripts([a, join(folder, 'scripts')])).toEqual([
      { path: a, explicit: true },
      { path: b, explicit: false },
      { path: join(folder, 'scripts/sub/deep.vfs'), explicit: false },
    ]);
  });
});

describe('findUpward', () => {
  it('finds the nearest file', () => {
    const { folder, same } = createTranscripts();
    const far = writeIn(folder, 'deviations.json', '[]');
    expect(findUpward(same(), 'deviations.json')).toBe(far);
    const near = writeIn(join(folder, 'scripts'), 'deviations.json', '[]');
    expect(findUpward(same(), 'deviations.json')).toBe(near);
    expect(findUpward(same(), 'nosuch-anywhere.json')).toBeUndefined();
  });
});

describe('waitingText', () => {
  it('counts modules, the most wanted first', () => {
    const waiting = (...modules: string[]) => ({ path: 'x', explicit: false, kind: 'waiting' as const, modules });
    expect(waitingText([])).toBeUndefined();
    expect(waitingText([waiting('a'), waiting('b', 'a')])).toBe(
      '2 more wait for modules that no installed package offers: a (2), b (1)',
    );
  });
});
