import { mkdir, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Host, VirtualClock } from '@vfio/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { parseDeviations } from '../src/replay/deviations.js';
import { findGolden, GoldenNotFoundError, loadDeviations, loadScript, loadTranscript } from '../src/replay/files.js';
import { type ReplayMachine, replayFile, replayScript } from '../src/replay/replay.js';
import { formatReplay, formatSummary } from '../src/replay/report.js';
import type { ScriptHeader } from '../src/script/header.js';
import { parseScript } from '../src/script/parse.js';
import { isStep, parseTranscript, type TranscriptLine } from '../src/script/transcript.js';

const fixture = fileURLToPath(new URL('fixtures/scripts/eventfds.vfs', import.meta.url));

const bare = (): ReplayMachine => {
  const clock = new VirtualClock();
  const host = new Host({ checked: true, clock });
  return { process: host.spawn(), clock, [Symbol.asyncDispose]: () => host[Symbol.asyncDispose]() };
};

/** The recorded transcript with one answer changed. */
function changed(golden: readonly TranscriptLine[], n: number, change: object): TranscriptLine[] {
  return golden.map((line) => (isStep(line) && line.n === n ? { ...line, ...change } : line));
}

describe('replayFile', () => {
  it('runs a script on the machine that its header asks for, and finds nothing to complain of', async () => {
    const asked: ScriptHeader[] = [];
    const result = await replayFile(fixture, {
      createMachine: (header) => {
        asked.push(header);
        return bare();
      },
    });
    expect(asked).toEqual([{ family: 'interpreter', machine: 'any', modules: [] }]);
    expect(result).toMatchObject({ script: 'eventfds.vfs', steps: 57, same: 57, different: 0, ok: true });
    expect(formatReplay(result)).toBe('eventfds.vfs: 57 steps, 57 same, 0 different');
  });
});

describe('replayScript', () => {
  it('reports what differs', async () => {
    const script = await loadScript(fixture);
    const golden = changed(await loadTranscript(await findGolden(fixture)), 8, { count: 4 });
    const result = await replayScript(script, golden, { createMachine: bare });
    expect(result).toMatchObject({ steps: 57, same: 56, different: 1, ok: false });
    expect(result.differences).toMatchObject([{ n: 8, line: 12, src: 'evread e', keys: ['count'] }]);
    expect(formatReplay(result)).toBe(
      [
        'eventfds.vfs: 57 steps, 56 same, 1 different',
        '',
        'eventfds.vfs:12: evread e',
        '  @@ step 8 @@',
        '    signaled: true',
        '  - count: 4',
        '  + count: 3',
      ].join('\n'),
    );
  });

  it('sets differences with a reason apart, and complains of a reason without a difference', async () => {
    const script = await loadScript(fixture);
    const golden = changed(await loadTranscript(await findGolden(fixture)), 8, { count: 4 });
    const deviations = [{ script: 'eventfds', line: 12, reason: 'counts differently' }];
    const result = await replayScript(script, golden, {
      createMachine: bare,
      deviations: [...deviations, { script: 'other', line: 1, reason: 'not about this one' }],
    });
    expect(result).toMatchObject({ same: 56, different: 0, stale: [], ok: true });
    expect(result.deviating).toMatchObject([{ deviation: deviations[0], difference: { n: 8 } }]);
    expect(formatReplay(result)).toContain('deviates: eventfds.vfs:12: evread e');
    expect(formatReplay(result)).toContain('  because: counts differently');

    const original = await loadTranscript(await findGolden(fixture));
    const stale = await replayScript(script, original, { createMachine: bare, deviations });
    expect(stale).toMatchObject({ same: 57, different: 0, stale: deviations, ok: false });
    expect(formatSummary(stale)).toBe('eventfds.vfs: 57 steps, 57 same, 0 different, 1 stale deviations');
    expect(formatReplay(stale)).toContain('stale deviation: eventfds, line 12 is as recorded');
  });

  it('goes by the process too, where a deviation names one', async () => {
    const script = parseScript('spawn p\n  note a\nend\nwait p\n', 'x.vfs');
    const golden = parseTranscript(
      [
        '{"n":1,"line":1,"op":"spawn","src":"spawn p"}',
        '{"n":2,"line":4,"op":"wait","src":"wait p","exited":true,"status":0}',
        '{"n":1,"line":2,"proc":"p","op":"note","src":"note a","text":"b"}',
        '{"end":true,"steps":2}',
      ].join('\n'),
      'x.jsonl',
    );
    const entry = { script: 'x', line: 2, reason: 'so' };
    const of = (proc: string) =>
      replayScript(script, golden, { createMachine: bare, deviations: [{ ...entry, proc }] });
    expect(await of('p')).toMatchObject({ different: 0, ok: true });
    expect(await of('q')).toMatchObject({ different: 1, stale: [{ proc: 'q' }], ok: false });
  });

  it('keeps a mistake and a failure as part of the result', async () => {
    const golden = parseTranscript(
      '{"n":1,"line":1,"op":"note","src":"note a","text":"a"}\n{"end":true,"steps":1}',
      'x',
    );
    const result = await replayScript(parseScript('note a\nfrob\n', 'x.vfs'), golden, { createMachine: bare });
    expect(result).toMatchObject({ same: 1, ok: false, failures: [{ message: "x.vfs:2: unknown command 'frob'" }] });
    expect(result.differences.map((difference) => difference.src)).toEqual([
      "fatal: unknown command 'frob'",
      'end of the script',
    ]);
    expect(formatReplay(result)).toContain("failed: x.vfs:2: unknown command 'frob'");
  });

  it('takes what the end of the machine finds for a failure', async () => {
    const golden = parseTranscript('{"end":true,"steps":0}', 'x');
    const result = await replayScript(parseScript('', 'x.vfs'), golden, {
      createMachine: () => ({
        ...bare(),
        [Symbol.asyncDispose]: async () => {
          throw new Error('leaked');
        },
      }),
    });
    expect(result).toMatchObject({ steps: 0, different: 0, ok: false, failures: [{ message: 'leaked' }] });
  });

  it('lets through that there is no such machine', async () => {
    const run = replayScript(parseScript('', 'x.vfs'), [], {
      createMachine: () => Promise.reject(new Error('no machine pci')),
    });
    await expect(run).rejects.toThrow('no machine pci');
  });
});

describe('formatReplay', () => {
  it('says which bytes differ, in which process and which round of a loop', async () => {
    const script = parseScript(
      'for I in 5\n  spawn p\n    anon m PAGE\n    dump m 0 8\n  end\n  wait p\nend\n',
      'x.vfs',
    );
    const golden = parseTranscript(
      [
        '{"n":1,"line":2,"op":"spawn","src":"spawn p","bind":{"I":"5"}}',
        '{"n":2,"line":6,"op":"wait","src":"wait p","bind":{"I":"5"},"exited":true,"status":0}',
        '{"n":1,"line":3,"proc":"p","op":"anon","src":"anon m PAGE","bind":{"I":"5"},"ret":"ptr"}',
        '{"n":2,"line":4,"proc":"p","op":"dump","src":"dump m 0 8","bind":{"I":"5"},"out":"0001020000000077"}',
        '{"n":3,"line":4,"proc":"p","op":"dump","src":"dump m 0 8","bind":{"I":"5"},"out":"00"}',
        '{"end":true,"steps":2}',
      ].join('\n'),
      'x.jsonl',
    );
    const result = await replayScript(script, golden, { createMachine: bare });
    expect(formatReplay(result)).toBe(
      [
        'x.vfs: 5 steps, 3 same, 2 different',
        '',
        'x.vfs:4: dump m 0 8',
        '  @@ step 2, process p, I=5 @@',
        '  - out: "0001020000000077"',
        '  + out: "0000000000000000"',
        '      differs in bytes 1-2, 7',
        '',
        'x.vfs:4: dump m 0 8',
        '  @@ step 3, process p, I=5 @@',
        '  the step is missing',
        '  - out: "00"',
      ].join('\n'),
    );
    expect(formatReplay(result, { limit: 1 })).toMatch(/and 1 more differences$/);
  });
});

describe('files', () => {
  let folder = '';
  beforeEach(async () => {
    folder = await mkdtemp(join(tmpdir(), 'vfio-replay-'));
  });
  afterEach(() => rm(folder, { recursive: true }));

  const put = async (path: string, text = '') => {
    await mkdir(join(folder, path, '..'), { recursive: true });
    await writeFile(join(folder, path), text);
    return join(folder, path);
  };

  it('findGolden looks into golden/* of every folder above the script, the nearest first', async () => {
    const script = await put('a/scripts/arm64/x.vfs');
    const far = await put('golden/linux/x.jsonl');
    await put('golden/linux/y.jsonl');
    expect(await findGolden(script)).toBe(far);
    const near = await put('a/golden/linux-arm64/x.jsonl');
    await put('a/golden/stray.txt');
    expect(await findGolden(script)).toBe(near);
  });

  it('findGolden says where it looked', async () => {
    const script = await put('scripts/x.vfs');
    const error = await findGolden(script).catch((caught: unknown) => caught);
    expect(error).toBeInstanceOf(GoldenNotFoundError);
    expect(error).toMatchObject({ script: 'x.vfs' });
    expect((error as Error).message).toContain(`${folder}/scripts/golden/*/x.jsonl, ${folder}/golden/*/x.jsonl`);
  });

  it('findGolden refuses to choose', async () => {
    const script = await put('scripts/x.vfs');
    await put('golden/a/x.jsonl');
    await put('golden/b/x.jsonl');
    await expect(findGolden(script)).rejects.toThrow(/^several recorded answers to x\.vfs: /);
  });

  it('loadTranscript says which line is none', async () => {
    await expect(loadTranscript(await put('x.jsonl', '{"end":true,"steps":0}\n{"n":1}\n'))).rejects.toThrow(
      'x.jsonl:2: neither a step, nor an end, nor a fatal error',
    );
    await expect(loadTranscript(await put('y.jsonl', '\n{"n":1'))).rejects.toThrow('y.jsonl:2: not JSON');
  });

  it('loadDeviations takes a file that is not there for an empty list', async () => {
    expect(await loadDeviations(join(folder, 'deviations.json'))).toEqual([]);
    const entry = { script: 'x', line: 1, reason: 'y' };
    expect(await loadDeviations(await put('deviations.json', JSON.stringify([entry])))).toEqual([entry]);
  });

  it('loadScript names the file without its folder', async () => {
    await expect(loadScript(await put('x.vfs', 'end\n'))).rejects.toThrow('x.vfs:1: end without for or spawn');
  });
});

describe('parseDeviations', () => {
  it.each([
    ['{', 'd.json: not JSON'],
    ['{}', 'd.json: not a list'],
    ['[{"script":"x","line":1}]', 'd.json: entry 1 needs a script, a line and a reason, and may have a proc'],
    ['[{"script":"x","line":1,"reason":" "}]', 'd.json: entry 1 needs'],
    ['[{"script":"x","line":"1","reason":"y"}]', 'd.json: entry 1 needs'],
    ['[{"script":"x","line":1.5,"reason":"y"}]', 'd.json: entry 1 needs'],
    ['[{"script":"x","line":1,"reason":"y","proc":2}]', 'd.json: entry 1 needs'],
    ['[{"script":"x","line":1,"reason":"y"},3]', 'd.json: entry 2 needs'],
  ])('refuses %s', (text, message) => {
    expect(() => parseDeviations(text, 'd.json')).toThrow(message);
  });
});
