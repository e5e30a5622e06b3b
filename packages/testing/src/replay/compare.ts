// Compares a transcript with the recorded one, step by step and key by key.

import { isDeepStrictEqual } from 'node:util';
import { formatLine, isStep, type TranscriptLine, type TranscriptStep } from '../script/transcript.js';

/** A step, or a last line, that is not as it was recorded. */
export interface Difference {
  /** Number of the step in its process; absent for what is no step. */
  readonly n?: number;
  /** Line of the script; absent for the last line. */
  readonly line?: number;
  /** Name of the spawned process. */
  readonly proc?: string;
  /** The line as written, or what the entry is. */
  readonly src: string;
  /** Absent: there was no such step. */
  readonly expected?: TranscriptLine;
  /** Absent: the step is missing. */
  readonly got?: TranscriptLine;
  /** What differs; all keys if the step is missing or there was none. */
  readonly keys: readonly string[];
}

/** How two transcripts compare. */
export interface Comparison {
  /** Steps of either of them. */
  readonly steps: number;
  readonly same: number;
  /** Steps of the same that differ in device numbers, which did not count. */
  readonly ignored: number;
  /** In the order of the script's execution. */
  readonly differences: readonly Difference[];
}

/** What of a comparison can be chosen. */
export interface CompareOptions {
  /** Takes the major and minor numbers of devices for equal. */
  readonly ignoreDeviceNumbers?: boolean;
}

/**
 * Compares transcripts.
 *
 * @param expected - the recorded one
 * @param got - the one to judge
 */
export function compareTranscripts(
  expected: readonly TranscriptLine[],
  got: readonly TranscriptLine[],
  options: CompareOptions = {},
): Comparison {
  const wanted = keyed(expected);
  const answers = keyed(got.map(asRead));
  const placed: { readonly place: number; readonly difference: Difference }[] = [];
  let steps = 0;
  let same = 0;
  let ignored = 0;
  const place = new Map([...wanted.keys()].map((key, index) => [key, index]));

  for (const [key, line] of wanted) {
    const answer = answers.get(key);
    const verdict = judge(line, answer, options);
    if (isStep(line)) {
      steps++;
      if (verdict.keys.length === 0) same++;
      if (verdict.ignored) ignored++;
    }
    if (verdict.keys.length > 0) {
      placed.push({ place: place.get(key) ?? 0, difference: difference(line, answer, verdict.keys) });
    }
  }
  let last = -1;
  for (const [key, answer] of answers) {
    last = place.get(key) ?? last;
    if (wanted.has(key)) continue;
    if (isStep(answer)) steps++;
    placed.push({ place: last + 0.5, difference: difference(undefined, answer, Object.keys(answer)) });
  }
  placed.sort((a, b) => a.place - b.place);
  return { steps, same, ignored, differences: placed.map((entry) => entry.difference) };
}

/** A line as it would come back from its text: the recorded one has been there. */
function asRead(line: TranscriptLine): TranscriptLine {
  return JSON.parse(formatLine(line));
}

/**
 * Lines by what makes them the same line in both transcripts: the process, of several with the same name the
 * how-manieth, and the number of the step.
 */
function keyed(lines: readonly TranscriptLine[]): Map<string, TranscriptLine> {
  const incarnations = new Map<string, number>();
  const result = new Map<string, TranscriptLine>();
  for (const line of lines) {
    if (!isStep(line)) {
      result.set('end' in line ? 'end' : `fatal ${line.proc ?? ''} ${line.line}`, line);
      continue;
    }
    const proc = line.proc ?? '';
    if (line.n === 1) incarnations.set(proc, (incarnations.get(proc) ?? 0) + 1);
    result.set(`step ${proc} ${incarnations.get(proc) ?? 0} ${line.n}`, line);
  }
  return result;
}

interface Verdict {
  readonly keys: readonly string[];
  /** They differ, but only in what does not count. */
  readonly ignored: boolean;
}

function judge(expected: TranscriptLine, got: TranscriptLine | undefined, options: CompareOptions): Verdict {
  if (!got) return { keys: Object.keys(expected), ignored: false };
  // how many steps there were shows in the steps
  if ('end' in expected) return { keys: [], ignored: false };
  const keys = differingKeys(expected, got);
  if (keys.length === 0 || !options.ignoreDeviceNumbers || !isStep(expected) || !isStep(got)) {
    return { keys, ignored: false };
  }
  const left = differingKeys(withoutDeviceNumbers(expected), withoutDeviceNumbers(got));
  return { keys: left, ignored: left.length === 0 };
}

function differingKeys(a: TranscriptLine, b: TranscriptLine): string[] {
  const left = new Map<string, unknown>(Object.entries(a));
  const right = new Map<string, unknown>(Object.entries(b));
  const keys = new Set([...left.keys(), ...right.keys()]);
  return [...keys].filter((key) => !isDeepStrictEqual(left.get(key), right.get(key)));
}

/** A step with `*` for major and minor numbers: those of `stat`, of a uevent file and of a `dev` file. */
function withoutDeviceNumbers(step: TranscriptStep): TranscriptStep {
  const { major, minor, text, ...rest } = step;
  if (text === undefined) return rest;
  const isDevFile = step.op === 'cat' && /\/dev\b[^/]*$/.test(step.src);
  const masked = isDevFile ? text.replace(/^\d+:\d+$/m, '*:*') : text.replace(/^(MAJOR|MINOR)=\d+$/gm, '$1=*');
  return { ...rest, text: masked };
}

function difference(
  expected: TranscriptLine | undefined,
  got: TranscriptLine | undefined,
  keys: readonly string[],
): Difference {
  const either = expected ?? got;
  const base = { keys, ...(expected && { expected }), ...(got && { got }) };
  if (!either || 'end' in either) return { src: 'end of the script', ...base };
  const { line, proc } = either;
  const where = { line, ...(proc !== undefined && { proc }) };
  if (isStep(either)) return { n: either.n, ...where, src: either.src, ...base };
  return { ...where, src: `fatal: ${either.fatal}`, ...base };
}
