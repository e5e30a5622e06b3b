// Runs a script in a process of a host, step by step.

import { O, type Process, type VirtualClock } from '@vfio/host';
import { builtinPrograms } from './builtin-programs.js';
import { attempt } from './outcome.js';
import type { Script } from './parse.js';
import type { Program } from './programs.js';
import { Pump } from './pump.js';
import { type RunScope, ScriptProcess, StepFailure } from './script-process.js';
import type { TranscriptLine } from './transcript.js';

/** How to run a script. */
export interface RunOptions {
  /**
   * The virtual clock that the host was made with: the run moves it to the next timer whenever all processes of the script wait, and
   * only then. Without it the host's time is taken to pass by itself.
   */
  readonly clock?: VirtualClock;
  /** Variables that are set before the script starts; its `default` lines leave them alone. */
  readonly variables?: Readonly<Record<string, string>>;
  /** The longest time that one step may take on the host's clock, in milliseconds; 60 s by default. */
  readonly stepTimeoutMs?: number;
  /** Beginnings of paths and what they stand for: `{ '/dev': '/run/x/dev' }`. */
  readonly paths?: Readonly<Record<string, string>>;
  /** Programs for `run`, besides modprobe, rmmod, true and false. */
  readonly programs?: Readonly<Record<string, Program>>;
}

const DEFAULT_STEP_TIMEOUT_MS = 60_000;

/** Longest time that processes are given to go away when the run is over. */
const CLEANUP_MS = 10_000;

/**
 * Runs a script. Each line of the transcript is given as soon as it is there; time goes on while the next one is asked for.
 *
 * @param script - what `parseScript` made of it
 * @param process - used up: it is exited when the script ends, and spawned ones that are left are killed
 * @returns the transcript, the lines of a spawned process after the `wait` that saw it exit
 * @throws ScriptError - a line cannot be carried out; the transcript up to there, with a `fatal` line, came first
 * @throws StepFailure - a call ended with something else than an answer or an errno
 */
export async function* runScript(
  script: Script,
  process: Process,
  options: RunOptions = {},
): AsyncGenerator<TranscriptLine, void, undefined> {
  const clock = options.clock ?? process.host.clock;
  const pump = new Pump(options.clock);
  const lines: TranscriptLine[] = [];
  const errors: Error[] = [];
  const running = new Set<ScriptProcess>();
  const run: RunScope = {
    file: script.file,
    clock,
    programs: new Map([...builtinPrograms, ...Object.entries(options.programs ?? {})]),
    stepTimeoutMs: options.stepTimeoutMs ?? DEFAULT_STEP_TIMEOUT_MS,
    mapPath: (path) => mapPath(path, options.paths ?? {}),
    notify: () => pump.notify(),
    report: (error) => {
      errors.push(error);
      pump.notify();
    },
    running,
  };
  const first = new ScriptProcess(run, { process, emit: (line) => lines.push(line) });
  for (const [name, value] of Object.entries(options.variables ?? {})) first.names.variables.set(name, value);

  try {
    await openStandardStreams(process);
    first.main(script.body);
    const over = () => first.status !== undefined || errors.some(isFailure);
    while (!over()) {
      await pump.until(() => lines.length > 0 || over());
      yield* lines.splice(0);
    }
    // whatever came while the one who asked was busy with the line before
    yield* lines.splice(0);
  } finally {
    for (const left of running) left.destroy();
    let late = false;
    const deadline = clock.setTimer(CLEANUP_MS, () => {
      late = true;
      pump.notify();
    });
    await pump.until(() => running.size === 0 || late);
    deadline.cancel();
  }
  const [error] = errors;
  if (error) throw error;
}

/**
 * Runs a script to its end.
 *
 * @returns all lines of the transcript
 * @throws ScriptError - a line cannot be carried out
 * @throws StepFailure - a call ended with something else than an answer or an errno
 */
export async function recordScript(
  script: Script,
  process: Process,
  options: RunOptions = {},
): Promise<TranscriptLine[]> {
  const lines: TranscriptLine[] = [];
  for await (const line of runScript(script, process, options)) lines.push(line);
  return lines;
}

/** Descriptors 0 to 2 are taken in every program, and so the first one that a script opens is 3. */
async function openStandardStreams(process: Process): Promise<void> {
  for (const descriptor of [0, 1, 2]) {
    if (!process.files.getOrUndefined(descriptor)) await attempt(() => process.open('/dev/null', O.RDWR));
  }
}

/** A run does not go on after a failure of the implementation; a mistake ends only the process that made it. */
function isFailure(error: Error): boolean {
  return error instanceof StepFailure;
}

function mapPath(path: string, paths: Readonly<Record<string, string>>): string {
  for (const [from, to] of Object.entries(paths)) {
    if (path === from || path.startsWith(`${from}/`)) return to + path.slice(from.length);
  }
  return path;
}
