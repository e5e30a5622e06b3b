import { readdir, readFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { findGolden } from '../src/replay/files.js';
import { commands } from '../src/script/commands/index.js';
import { ScriptError } from '../src/script/errors.js';
import { modulesNeeded } from '../src/script/header.js';
import { parseScript, type Statement } from '../src/script/parse.js';
import { formatLine, isStep, parseTranscript } from '../src/script/transcript.js';
import { literalWord } from '../src/script/words.js';

const transcripts = fileURLToPath(new URL('../../../transcripts', import.meta.url));

async function scripts(): Promise<string[]> {
  const names = await readdir(join(transcripts, 'scripts'), { recursive: true });
  return names.filter((name) => name.endsWith('.vfs')).map((name) => join(transcripts, 'scripts', name));
}

function* flatten(statements: readonly Statement[]): Generator<Statement> {
  for (const statement of statements) {
    yield statement;
    if (statement.kind !== 'command') yield* flatten(statement.body);
  }
}

const steering = ['set', 'default', 'exit', 'wait'];

describe('parseScript', () => {
  it('makes a tree of loops and spawned processes', () => {
    const { body } = parseScript(
      'for I = 0 .. 1\n  spawn p fresh\n    note a\n  end\n  wait p\nend\nnote b\n',
      'x.vfs',
    );
    expect(body).toMatchObject([
      {
        kind: 'for',
        line: 1,
        source: 'for I = 0 .. 1',
        body: [
          { kind: 'spawn', line: 2, source: 'spawn p fresh', body: [{ kind: 'command', line: 3, source: 'note a' }] },
          { kind: 'command', line: 5 },
        ],
      },
      { kind: 'command', line: 7, source: 'note b' },
    ]);
  });

  it('keeps sources as bytes, so that they stand in transcripts as the recordings have them', () => {
    const { body } = parseScript('note é\n', 'x.vfs');
    expect(body[0]?.source).toBe('note \u00c3\u00a9');
  });

  it.each([
    ['note a\nfor I in 1 2\nnote b\n', 2, "missing end of 'for I in 1 2'"],
    ['spawn p\n  for I in 1\n  end\n', 1, "missing end of 'spawn p'"],
    ['note a\nend\n', 2, 'end without for or spawn'],
    ['\nnote "a\n', 2, 'unbalanced quote'],
    ['note ${A\n', 1, 'missing } in ${A'],
  ])('refuses %j', (text, line, reason) => {
    const error = (() => {
      try {
        return parseScript(text, 'x.vfs');
      } catch (caught) {
        return caught;
      }
    })();
    expect(error).toBeInstanceOf(ScriptError);
    expect(error).toMatchObject({ file: 'x.vfs', line, reason, message: `x.vfs:${line}: ${reason}` });
  });
});

describe('the committed scripts', async () => {
  const paths = await scripts();

  it('are all there', () => {
    expect(paths.length).toBe(83);
    expect(new Set(paths.map((path) => basename(path))).size).toBe(paths.length);
  });

  it.each(paths.map((path) => [basename(path), path]))(
    '%s is understood, says what it needs, and has answers',
    async (name, path) => {
      const script = parseScript(await readFile(path, 'utf8'), name);
      expect(script.header.family).toBeDefined();
      expect(['mdev', 'pci', 'noremap', 'arm64', 'arm64-owned', 's390x']).toContain(script.header.machine);
      expect(modulesNeeded(script.header).length).toBeGreaterThan(0);
      for (const statement of flatten(script.body)) {
        if (statement.kind !== 'command') continue;
        const command = literalWord(statement.words[0]);
        expect(steering.includes(command ?? '') || commands.has(command ?? ''), `${name}:${statement.line}`).toBe(true);
      }

      const golden = await readFile(await findGolden(path), 'utf8');
      const lines = parseTranscript(golden, name);
      // the text of a transcript is made again byte by byte
      expect(`${lines.map(formatLine).join('\n')}\n`).toBe(golden);
      const sources = new Map([...flatten(script.body)].map((statement) => [statement.line, statement.source]));
      for (const line of lines.filter(isStep)) expect(line.src).toBe(sources.get(line.line));
      expect(lines.at(-1)).toEqual({ end: true, steps: lines.filter((line) => isStep(line) && !line.proc).length });
    },
  );
});
