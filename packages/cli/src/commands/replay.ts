import { formatReplay, type ReplayResult } from '@vfio/testing';
import { Exit } from '../errors.js';
import { driversOf, type Io } from '../io.js';
import { type Column, renderTable } from '../output/table.js';
import type { Terminal } from '../output/terminal.js';
import { runReplay, type ScriptOutcome } from '../replay/run.js';

/** How `replay` was asked to show and judge. */
export interface ReplayCommandOptions {
  readonly json: boolean;
  /** Shows what differs. */
  readonly diff: boolean;
  readonly deviations?: string;
}

type Replayed = Extract<ScriptOutcome, { kind: 'replayed' }>;
type Waiting = Extract<ScriptOutcome, { kind: 'waiting' }>;

/** `vfio replay` */
export async function replay(
  paths: readonly string[],
  options: ReplayCommandOptions,
  terminal: Terminal,
  io: Io,
): Promise<number> {
  const drivers = await driversOf(io);
  const outcomes: ScriptOutcome[] = [];
  using progress = terminal.progress('replaying');
  const run = runReplay(paths, {
    drivers,
    signal: io.signal,
    ...(options.deviations === undefined ? {} : { deviations: options.deviations }),
    onStart: (path, index, count) => progress.update(`replaying ${path}, ${index + 1} of ${count}`),
  });
  for await (const outcome of run) outcomes.push(outcome);
  progress[Symbol.dispose]();
  if (options.json) terminal.json(outcomes.map(asJson));
  else showReplay(outcomes, options, terminal);
  return replayFailed(outcomes) ? Exit.FAILED : Exit.OK;
}

/** Whether something differs or could not be replayed; a script that waits for a driver counts only if it was named itself. */
export function replayFailed(outcomes: readonly ScriptOutcome[]): boolean {
  return outcomes.some(
    (one) =>
      one.kind === 'failed' || (one.kind === 'replayed' && !one.result.ok) || (one.kind === 'waiting' && one.explicit),
  );
}

function showReplay(outcomes: readonly ScriptOutcome[], { diff }: ReplayCommandOptions, terminal: Terminal): void {
  const replayed = outcomes.filter((one): one is Replayed => one.kind === 'replayed');
  if (replayed.length > 0) {
    const rows = replayed.map(({ result }) => replayRow(result, terminal));
    terminal.write(renderTable(replayColumns, rows, terminal.colours));
    terminal.print(totalOf(replayed));
  }
  for (const { result } of replayed) {
    if (result.ok) continue;
    if (diff) terminal.print(`\n${formatReplay(result)}`);
    else for (const line of problemsOf(result)) terminal.note(`vfio: ${line}`);
  }
  if (!diff && replayed.some(({ result }) => result.different > 0)) terminal.note('vfio: --diff shows what differs');
  for (const outcome of outcomes) {
    if (outcome.kind === 'failed') terminal.note(`vfio: ${outcome.path}: ${outcome.reason}`);
    if (outcome.kind === 'waiting' && outcome.explicit) {
      terminal.note(`vfio: ${outcome.path}: no installed package offers ${outcome.modules.join(', ')}`);
    }
  }
  const waiting = waitingText(outcomes.filter((one): one is Waiting => one.kind === 'waiting' && !one.explicit));
  if (waiting !== undefined) terminal.print(waiting);
}

/** Columns of a table of replays. */
export const replayColumns: readonly Column[] = [
  { title: 'SCRIPT' },
  { title: 'STEPS', align: 'right' },
  { title: 'SAME', align: 'right' },
  { title: 'DIFFERENT', align: 'right' },
];

/** The row of a replay. */
export function replayRow({ script, steps, same, different, ok }: ReplayResult, { colours }: Terminal): string[] {
  const mark = ok ? (text: string) => text : colours.red;
  return [mark(script.replace(/\.vfs$/, '')), String(steps), String(same), mark(String(different))];
}

/** What is wrong with a replay beside the steps that differ. */
export function problemsOf({ script, failures, stale }: ReplayResult): string[] {
  return [
    ...failures.map((failure) => `${script}: ${failure.message}`),
    ...stale.map(({ line, reason }) => `${script}:${line}: listed as a deviation, but as recorded (${reason})`),
  ];
}

/** `27 transcripts: 1,204 steps, 1,204 same, 0 different` */
export function totalOf(replayed: readonly Replayed[]): string {
  const sum = (key: 'steps' | 'same' | 'different') =>
    replayed.reduce((total, { result }) => total + result[key], 0).toLocaleString('en');
  const deviating = replayed.reduce((total, { result }) => total + result.deviating.length, 0);
  const also = deviating > 0 ? `, ${deviating} different on purpose` : '';
  const count = `${replayed.length} transcript${replayed.length === 1 ? '' : 's'}`;
  return `${count}: ${sum('steps')} steps, ${sum('same')} same, ${sum('different')} different${also}`;
}

/** `50 more wait for drivers that are not installed: vfio_pci (31), vfio_platform (9)`; undefined if none does. */
export function waitingText(waiting: readonly Waiting[]): string | undefined {
  if (waiting.length === 0) return undefined;
  const counts = new Map<string, number>();
  for (const { modules } of waiting) {
    for (const module of modules) counts.set(module, (counts.get(module) ?? 0) + 1);
  }
  const most = [...counts].sort(([, a], [, b]) => b - a).map(([module, count]) => `${module} (${count})`);
  const verb = waiting.length === 1 ? 'waits' : 'wait';
  return `${waiting.length} more ${verb} for modules that no installed package offers: ${most.join(', ')}`;
}

/** An outcome for programs. */
function asJson(outcome: ScriptOutcome): object {
  const { path, kind } = outcome;
  if (kind === 'waiting') return { path, kind, modules: outcome.modules };
  if (kind === 'failed') return { path, kind, reason: outcome.reason };
  const { script, steps, same, different, ok, differences, deviating, stale, failures } = outcome.result;
  return {
    path,
    kind,
    script,
    steps,
    same,
    different,
    ok,
    differences,
    deviating: deviating.map(({ deviation }) => deviation),
    stale,
    failures: failures.map(({ message }) => message),
  };
}
