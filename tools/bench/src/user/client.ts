// What the client in C tells of a server, one round at a time.

import { onProcessor } from './programs.js';

/** One test of one round. */
export interface Sample {
  /** How often in a second. */
  readonly perSecond: number;
  /** Median and 99th percentile of the round trips, in nanoseconds; of tests that wait for each. */
  readonly p50?: number;
  readonly p99?: number;
}

/** What one round tells: a sample, or why there is none. */
export type Outcome = Sample | { readonly failed: string };

/** How a client measures. */
export interface Round {
  readonly client: string;
  readonly socket: string;
  /** Processor of the client. */
  readonly cpu: number;
  /** Names of tests. */
  readonly tests: readonly string[];
  /** Operations of the cheapest test; others do a part of it. */
  readonly operations: number;
}

const microsecond = 1000;

/**
 * Reads one line of the client.
 *
 * @throws SyntaxError, TypeError - it is no such line
 */
export function readLine(line: string): { test: string; outcome: Outcome } {
  const parsed: unknown = JSON.parse(line);
  if (typeof parsed !== 'object' || parsed === null) throw new TypeError(`${line} is no result`);
  const fields = new Map<string, unknown>(Object.entries(parsed));
  const number = (name: string): number | undefined => {
    const value = fields.get(name);
    return typeof value === 'number' ? value : undefined;
  };
  const test = fields.get('test');
  if (typeof test !== 'string') throw new TypeError(`${line} names no test`);
  const [error, perSecond] = [number('error'), number('ops_per_s')];
  if (error !== undefined) {
    const failed = fields.get('dropped') === true ? `connection lost (${error})` : `refused (${error})`;
    return { test, outcome: { failed } };
  }
  if (perSecond === undefined) throw new TypeError(`${line} has no rate`);
  const [p50, p99] = [number('p50_us'), number('p99_us')];
  const times = p50 === undefined || p99 === undefined ? {} : { p50: p50 * microsecond, p99: p99 * microsecond };
  return { test, outcome: { perSecond, ...times } };
}

/** Measures a server for one round. */
export async function measureRound(round: Round): Promise<Map<string, Outcome>> {
  const { client, socket, cpu, tests, operations } = round;
  const words = ['-j', '-R', '1', '-n', String(operations), '-t', tests.join(','), socket];
  const outcomes = new Map<string, Outcome>();
  for (const line of (await onProcessor(cpu, client, words)).trim().split('\n')) {
    const { test, outcome } = readLine(line);
    outcomes.set(test, outcome);
  }
  return outcomes;
}

/** A line of the floor: name, operations, rate, and the two times. */
const floorLine = /^(\w+) +\d+ ops +(\d+) ops\/s +p50 +([\d.]+) us +p99 +([\d.]+) us/;

/** Reads what the floor prints. */
export function readFloor(text: string): Map<string, Outcome> {
  const outcomes = new Map<string, Outcome>();
  for (const line of text.trim().split('\n')) {
    const [, test, perSecond, p50, p99] = floorLine.exec(line) ?? [];
    if (test === undefined) throw new TypeError(`'${line}' is no line of the floor`);
    const [rate, middle, late] = [Number(perSecond), Number(p50) * microsecond, Number(p99) * microsecond];
    outcomes.set(test, { perSecond: rate, p50: middle, p99: late });
  }
  return outcomes;
}

/** Measures the floor for one round, both of its sides on one processor. */
export async function floorRound(floor: string, cpu: number, operations: number): Promise<Map<string, Outcome>> {
  return readFloor(await onProcessor(cpu, floor, ['-u', '-R', '1', '-n', String(operations)]));
}
