// Replays as text for people: one line for a script, and for each step that differs what was recorded and what came instead.

import type { TranscriptLine } from '../script/transcript.js';
import type { Difference } from './compare.js';
import type { Deviation } from './deviations.js';
import type { ReplayResult } from './replay.js';

/** What of a report can be chosen. */
export interface ReportOptions {
  /** Most differences that are written out; the rest is counted. All by default. */
  readonly limit?: number;
}

/** Keys that say which step it is, not what it answered. */
const identity = new Set(['n', 'line', 'proc', 'op', 'src', 'bind']);

/**
 * A replay in one line: `mtty-irq.vfs: 90 steps, 88 same, 2 different`.
 */
export function formatSummary(result: ReplayResult): string {
  const parts = [`${result.steps} steps`, `${result.same} same`, `${result.different} different`];
  if (result.ignored > 0) parts.push(`${result.ignored} with other device numbers`);
  if (result.deviating.length > 0) parts.push(`${result.deviating.length} deviating`);
  if (result.stale.length > 0) parts.push(`${result.stale.length} stale deviations`);
  if (result.failures.length > 0) parts.push(`${result.failures.length} failures`);
  return `${result.script}: ${parts.join(', ')}`;
}

/**
 * A replay with all that there is to say about it.
 *
 * @returns lines, the last one without a line end
 */
export function formatReplay(result: ReplayResult, options: ReportOptions = {}): string {
  const limit = options.limit ?? Number.POSITIVE_INFINITY;
  const blocks = [formatSummary(result)];
  for (const difference of result.differences.slice(0, limit)) {
    blocks.push(formatDifference(result.script, difference));
  }
  const hidden = result.differences.length - limit;
  if (hidden > 0) blocks.push(`and ${hidden} more differences`);
  for (const { deviation, difference } of result.deviating) {
    blocks.push(`deviates: ${formatDifference(result.script, difference)}\n  because: ${deviation.reason}`);
  }
  for (const deviation of result.stale) blocks.push(formatStale(deviation));
  for (const failure of result.failures) blocks.push(`failed: ${failure.message}${formatCause(failure)}`);
  return blocks.join('\n\n');
}

/**
 * A difference in the form of a unified diff: what was recorded with `-`, what came with `+`, one key for each line.
 *
 * @param script - file name for the first line
 */
export function formatDifference(script: string, difference: Difference): string {
  const { expected, got } = difference;
  const lines = [`${script}${difference.line === undefined ? '' : `:${difference.line}`}: ${difference.src}`];
  const which = describeStep(difference);
  if (which !== '') lines.push(`  @@ ${which} @@`);
  if (!expected) lines.push('  the recording has no such step');
  if (!got) lines.push('  the step is missing');
  const old = new Map(expected ? Object.entries(expected) : []);
  const now = new Map(got ? Object.entries(got) : []);
  const keys = new Set([...old.keys(), ...now.keys()]);
  for (const key of keys) {
    const differs = difference.keys.includes(key);
    if (identity.has(key) && !(differs && expected && got)) continue;
    if (!differs) {
      lines.push(`    ${key}: ${show(old.get(key))}`);
      continue;
    }
    if (old.has(key)) lines.push(`  - ${key}: ${show(old.get(key))}`);
    if (now.has(key)) lines.push(`  + ${key}: ${show(now.get(key))}`);
    const where = key === 'out' ? differingBytes(old.get(key), now.get(key)) : '';
    if (where !== '') lines.push(`      differs in ${where}`);
  }
  return lines.join('\n');
}

function describeStep({ n, proc, expected, got }: Difference): string {
  const parts: string[] = [];
  if (n !== undefined) parts.push(`step ${n}`);
  if (proc !== undefined) parts.push(`process ${proc}`);
  for (const [name, value] of Object.entries(bindings(expected ?? got))) parts.push(`${name}=${value}`);
  return parts.join(', ');
}

function bindings(line: TranscriptLine | undefined): Readonly<Record<string, string>> {
  return line && 'bind' in line && line.bind ? line.bind : {};
}

/** Offsets at which two hex strings differ, runs joined: `bytes 8-11, 20`. */
function differingBytes(old: unknown, now: unknown): string {
  if (typeof old !== 'string' || typeof now !== 'string') return '';
  const runs: { from: number; to: number }[] = [];
  const length = Math.max(old.length, now.length) / 2;
  for (let at = 0; at < length; at++) {
    if (old.slice(2 * at, 2 * at + 2) === now.slice(2 * at, 2 * at + 2)) continue;
    const last = runs.at(-1);
    if (last && last.to === at - 1) last.to = at;
    else runs.push({ from: at, to: at });
  }
  if (runs.length === 0) return '';
  return `bytes ${runs.map(({ from, to }) => (from === to ? `${from}` : `${from}-${to}`)).join(', ')}`;
}

function show(value: unknown): string {
  return JSON.stringify(value);
}

function formatStale({ script, line, proc, reason }: Deviation): string {
  const where = proc === undefined ? `line ${line}` : `line ${line} of process ${proc}`;
  return `stale deviation: ${script}, ${where} is as recorded, although it is listed: ${reason}`;
}

function formatCause({ cause }: Error): string {
  return cause instanceof Error && cause.stack !== undefined ? `\n${cause.stack}` : '';
}
