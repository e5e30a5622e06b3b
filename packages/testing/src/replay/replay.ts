// Runs a script on a machine and holds its transcript against the recorded one.

import type { Process, VirtualClock } from '@vfio/host';
import type { ScriptHeader } from '../script/header.js';
import type { Script } from '../script/parse.js';
import { type RunOptions, runScript } from '../script/run.js';
import type { TranscriptLine } from '../script/transcript.js';
import { type CompareOptions, compareTranscripts, type Difference } from './compare.js';
import { type Deviating, type Deviation, sortDifferences } from './deviations.js';
import { findGolden, loadScript, loadTranscript } from './files.js';

/** A machine that was made for one script. */
export interface ReplayMachine extends Partial<AsyncDisposable> {
  /** Runs the script, as root unless the machine is about something else; used up by it. */
  readonly process: Process;
  /** The virtual clock that its host was made with, if it was: moved forward by the script. */
  readonly clock?: VirtualClock;
}

/** How to replay. */
export interface ReplayOptions extends Omit<RunOptions, 'clock'>, CompareOptions {
  /** Makes the machine that a script asks for, with its modules loaded; disposed of when the script is over. */
  createMachine(header: ScriptHeader): ReplayMachine | Promise<ReplayMachine>;
  /** Differences that are meant to be; entries for other scripts do not matter. */
  readonly deviations?: readonly Deviation[];
}

/** What came of a replay. */
export interface ReplayResult {
  /** File name of the script. */
  readonly script: string;
  /** All steps, those of spawned processes included. */
  readonly steps: number;
  /** Steps that are as recorded. */
  readonly same: number;
  /** Number of `differences`. */
  readonly different: number;
  /** Steps that count as the same although they differ in device numbers; 0 unless `ignoreDeviceNumbers`. */
  readonly ignored: number;
  readonly differences: readonly Difference[];
  /** Differences that are meant to be. */
  readonly deviating: readonly Deviating[];
  /** Deviations that are none any more. */
  readonly stale: readonly Deviation[];
  /** What the run, or taking the machine down, ended with if not with an answer: a mistake in the script, or a bug. */
  readonly failures: readonly Error[];
  readonly transcript: readonly TranscriptLine[];
  /** Nothing differs without a reason, no reason is out of date, and nothing failed. */
  readonly ok: boolean;
}

/**
 * Replays a script and compares.
 *
 * @param script - what to run
 * @param golden - the recorded transcript
 * @throws what `createMachine` throws; whatever goes wrong later is part of the result
 */
export async function replayScript(
  script: Script,
  golden: readonly TranscriptLine[],
  options: ReplayOptions,
): Promise<ReplayResult> {
  const machine = await options.createMachine(script.header);
  const transcript: TranscriptLine[] = [];
  const failures: Error[] = [];
  await collect(failures, async () => {
    const run = { ...options, ...(machine.clock && { clock: machine.clock }) };
    for await (const line of runScript(script, machine.process, run)) transcript.push(line);
  });
  await collect(failures, async () => machine[Symbol.asyncDispose]?.());

  const comparison = compareTranscripts(golden, transcript, options);
  const sorted = sortDifferences(comparison.differences, options.deviations ?? [], script.file);
  return {
    script: script.file,
    steps: comparison.steps,
    same: comparison.same,
    different: sorted.differences.length,
    ignored: comparison.ignored,
    ...sorted,
    failures,
    transcript,
    ok: sorted.differences.length === 0 && sorted.stale.length === 0 && failures.length === 0,
  };
}

/**
 * Replays a script file and compares with the answers that {@link findGolden} finds.
 *
 * @param path - of the script
 * @throws ScriptError - the script cannot be understood
 * @throws GoldenNotFoundError - there are no answers
 */
export async function replayFile(path: string, options: ReplayOptions): Promise<ReplayResult> {
  const script = await loadScript(path);
  const golden = await loadTranscript(await findGolden(path));
  return replayScript(script, golden, options);
}

async function collect(failures: Error[], action: () => Promise<void>): Promise<void> {
  try {
    await action();
  } catch (error) {
    failures.push(error instanceof Error ? error : new Error(String(error)));
  }
}
