// Steps where this implementation differs from the recorded one on purpose. Each needs a reason, and each has to differ: an entry
// that no longer does is a failure, so that the list says what is true.

import type { Difference } from './compare.js';

/** A line of a script whose answers differ on purpose. */
export interface Deviation {
  /** Name of the script, without its ending. */
  readonly script: string;
  /** Line of the script; all steps that it makes may differ. */
  readonly line: number;
  /** Only the steps of this spawned process. */
  readonly proc?: string;
  readonly reason: string;
}

/** A difference that is meant to be. */
export interface Deviating {
  readonly deviation: Deviation;
  readonly difference: Difference;
}

/** Differences told apart. */
export interface SortedDifferences {
  /** Those that nobody has given a reason for. */
  readonly differences: readonly Difference[];
  readonly deviating: readonly Deviating[];
  /** Entries for this script that nothing differs at. */
  readonly stale: readonly Deviation[];
}

/**
 * Reads a list of deviations.
 *
 * @param file - for the error
 * @throws SyntaxError - it is not a list of `{ script, line, reason, [proc] }`
 */
export function parseDeviations(text: string, file: string): Deviation[] {
  let list: unknown;
  try {
    list = JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`${file}: not JSON`, { cause });
  }
  if (!Array.isArray(list)) throw new SyntaxError(`${file}: not a list`);
  return list.map((entry: unknown, index) => {
    const deviation = readDeviation(entry);
    if (!deviation) {
      throw new SyntaxError(`${file}: entry ${index + 1} needs a script, a line and a reason, and may have a proc`);
    }
    return deviation;
  });
}

/**
 * Tells differences that are meant to be from others.
 *
 * @param script - name of the script that was replayed
 * @param deviations - entries for other scripts are left alone
 */
export function sortDifferences(
  differences: readonly Difference[],
  deviations: readonly Deviation[],
  script: string,
): SortedDifferences {
  const name = scriptName(script);
  const own = deviations.filter((deviation) => scriptName(deviation.script) === name);
  const deviating: Deviating[] = [];
  const rest: Difference[] = [];
  for (const difference of differences) {
    const deviation = own.find((entry) => covers(entry, difference));
    if (deviation) deviating.push({ deviation, difference });
    else rest.push(difference);
  }
  const stale = own.filter((entry) => !differences.some((difference) => covers(entry, difference)));
  return { differences: rest, deviating, stale };
}

/** Name of a script without folders and ending. */
export function scriptName(path: string): string {
  return path.replace(/^.*\//, '').replace(/\.vfs$/, '');
}

function covers(deviation: Deviation, difference: Difference): boolean {
  if (deviation.line !== difference.line) return false;
  return deviation.proc === undefined || deviation.proc === difference.proc;
}

function readDeviation(entry: unknown): Deviation | undefined {
  if (typeof entry !== 'object' || entry === null) return undefined;
  if (!('script' in entry) || typeof entry.script !== 'string') return undefined;
  if (!('line' in entry) || typeof entry.line !== 'number' || !Number.isInteger(entry.line)) return undefined;
  if (!('reason' in entry) || typeof entry.reason !== 'string' || entry.reason.trim() === '') return undefined;
  const { script, line, reason } = entry;
  if (!('proc' in entry)) return { script, line, reason };
  return typeof entry.proc === 'string' ? { script, line, reason, proc: entry.proc } : undefined;
}
