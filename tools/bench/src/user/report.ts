// Rates of several servers in one table, with what is asked of ours beside what another one does.

import { median } from '../measure.js';
import { duration, rate, ratio } from '../table.js';
import { verdict } from '../target.js';
import type { Outcome, Sample } from './client.js';

/** What a test is called, and how our rate has to be to the other server's. */
export interface Test {
  readonly test: string;
  readonly what: string;
  /** On one processor, and on two: least ratio of rates. */
  readonly one?: number;
  readonly two?: number;
  /** libvfio-user's rate to the floor's READ of 4 B, both on one processor of one machine, as once measured. */
  readonly known?: number;
}

/** Those rates: libvfio-user, release build, blocking; two virtual processors of an AMD EPYC. */
const knownPeer = {
  read4: 77_800,
  posted4: 310_000,
  pipe4: 161_600,
  read4k: 68_600,
  dmamapfd: 28_900,
  irqtrigger: 77_500,
};
const knownFloor = 104_000;

/** All tests, in the order of the client. */
export const tests: readonly Test[] = [
  { test: 'connect', what: 'connect to first info', one: 0.5 },
  { test: 'read4', what: 'READ 4 B', one: 0.9, two: 3, known: knownPeer.read4 / knownFloor },
  { test: 'write4', what: 'WRITE 4 B' },
  { test: 'posted4', what: 'posted WRITE 4 B', one: 1.6, known: knownPeer.posted4 / knownFloor },
  { test: 'pipe4', what: '16 READs of 4 B in flight', one: 1.6, known: knownPeer.pipe4 / knownFloor },
  { test: 'read4k', what: 'READ 4 KiB', known: knownPeer.read4k / knownFloor },
  { test: 'write4k', what: 'WRITE 4 KiB' },
  { test: 'read1m', what: 'READ 1 MiB', one: 0.95 },
  { test: 'dmamapfd', what: 'DMA map + unmap, descriptor', one: 0.9, known: knownPeer.dmamapfd / knownFloor },
  { test: 'dmamap', what: 'DMA map + unmap, without' },
  { test: 'setirqs', what: 'SET_IRQS, one eventfd' },
  { test: 'irqtrigger', what: 'trigger to eventfd', one: 0.95, known: knownPeer.irqtrigger / knownFloor },
  { test: 'reginfo', what: 'region info' },
];

/** Rounds of one server. */
export type Rounds = readonly ReadonlyMap<string, Outcome>[];

/** Whose figures there are: ours first. */
export interface Measured {
  readonly ours: Rounds;
  /** libvfio-user. */
  readonly peer?: Rounds;
  /** A server of our kind that checks nothing and does nothing. */
  readonly probe?: Rounds;
  readonly floor: Rounds;
}

/** The median of a test over the rounds; undefined where none was made, or one failed. */
export function summary(rounds: Rounds | undefined, test: string): Outcome | undefined {
  const outcomes = rounds?.map((round) => round.get(test)) ?? [];
  const samples: Sample[] = [];
  for (const outcome of outcomes) {
    if (outcome === undefined || 'failed' in outcome) return outcome;
    samples.push(outcome);
  }
  if (samples.length === 0) return undefined;
  const perSecond = median(samples.map((sample) => sample.perSecond));
  const [p50, p99] = [numbers(samples, 'p50'), numbers(samples, 'p99')];
  return p50.length === 0 || p99.length === 0 ? { perSecond } : { perSecond, p50: median(p50), p99: median(p99) };
}

/**
 * The table's head and rows.
 *
 * @param two - the server and its client have a processor each
 */
export function report(measured: Measured, two: boolean): { head: string[]; rows: string[][] } {
  const peer = measured.peer !== undefined;
  const head = ['test', 'ours', 'p50', 'p99', ...(peer ? ['libvfio-user', 'ours to it'] : []), 'target', 'result'];
  head.push('probe', 'ours to it', 'floor', 'ours to it', ...(peer ? [] : ['libvfio-user to it, once']));
  const rows = tests.map((test) => {
    const [ours, theirs, probe, floor] = [measured.ours, measured.peer, measured.probe, measured.floor].map((rounds) =>
      summary(rounds, test.test),
    );
    const asked = two ? test.two : test.one;
    const to = quotient(ours, theirs);
    const target = asked === undefined ? '' : `>= ${ratio(asked)}`;
    const result = asked === undefined || to === undefined ? '' : verdict(to >= asked);
    const known = test.known === undefined || two ? '' : ratio(test.known);
    return [
      test.what,
      rateText(ours),
      timeText(ours, 'p50'),
      timeText(ours, 'p99'),
      ...(peer ? [rateText(theirs), ratioText(to)] : []),
      target,
      result,
      rateText(probe),
      ratioText(quotient(ours, probe)),
      rateText(floor),
      ratioText(quotient(ours, floor)),
      ...(peer ? [] : [known]),
    ];
  });
  return { head, rows };
}

function numbers(samples: readonly Sample[], name: 'p50' | 'p99'): number[] {
  return samples.flatMap((sample) => sample[name] ?? []);
}

function quotient(one: Outcome | undefined, other: Outcome | undefined): number | undefined {
  if (one === undefined || other === undefined || 'failed' in one || 'failed' in other) return undefined;
  return one.perSecond / other.perSecond;
}

function rateText(outcome: Outcome | undefined): string {
  if (outcome === undefined) return '';
  return 'failed' in outcome ? outcome.failed : rate(1e9 / outcome.perSecond);
}

function timeText(outcome: Outcome | undefined, name: 'p50' | 'p99'): string {
  const time = outcome === undefined || 'failed' in outcome ? undefined : outcome[name];
  return time === undefined ? '' : duration(time);
}

function ratioText(value: number | undefined): string {
  return value === undefined ? '' : ratio(value);
}
