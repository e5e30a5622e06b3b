// How long things take. What is measured and what it is held against take turns in the same run, so that whatever else the
// machine does meets both; a figure is the median of the rounds.

/** Something to be timed: does its work `count` times. */
export type Work = (count: number) => void | Promise<void>;

/** How long to measure. */
export interface Effort {
  /** Times that each work is timed; odd. */
  readonly rounds: number;
  /** How long one round is to take at least, in milliseconds. */
  readonly roundMs: number;
  /** How long each work runs before the first round, in milliseconds: until its code is compiled for good. */
  readonly warmUpMs: number;
}

/** Rounds are at least one repetition long, and never longer than this many. */
const mostRepetitions = 1 << 26;

/** A work that is warming up looks at the time after this many at the latest. */
const warmUpRepetitions = 1 << 10;

/** The middle one of some numbers. */
export function median(numbers: readonly number[]): number {
  const sorted = [...numbers].sort((a, b) => a - b);
  const middle = sorted[Math.floor(sorted.length / 2)];
  if (middle === undefined) throw new RangeError('the median of nothing');
  return middle;
}

async function timeMs(work: Work, count: number): Promise<number> {
  const start = performance.now();
  await work(count);
  return performance.now() - start;
}

/** Repetitions that fill a round, once the work is warm. */
async function calibrate(work: Work, { roundMs, warmUpMs }: Effort): Promise<number> {
  const start = performance.now();
  for (let count = 1; performance.now() - start < warmUpMs; count = Math.min(2 * count, warmUpRepetitions)) {
    await work(count);
  }
  for (let count = 1; ; count *= 2) {
    const took = await timeMs(work, count);
    if (took >= roundMs || count >= mostRepetitions) return count;
  }
}

/**
 * Times several works beside each other.
 *
 * @returns nanoseconds for one repetition of each, in the order given
 */
export async function measure(works: readonly Work[], effort: Effort): Promise<number[]> {
  const counts: number[] = [];
  for (const work of works) counts.push(await calibrate(work, effort));
  const times: number[][] = works.map(() => []);
  for (let round = 0; round < effort.rounds; round++) {
    for (const [i, work] of works.entries()) {
      const count = counts[i] ?? 1;
      times[i]?.push(((await timeMs(work, count)) / count) * 1e6);
    }
  }
  return times.map(median);
}
