// Measures and prints. Absolute figures differ from machine to machine: the ratios are what to look at, and they are to a
// floor that was measured in between.
//
//   npm run bench                     everything
//   npm run bench -- --only type1     what has the word in its name
//   npm run bench -- --rounds 11 --round-ms 50

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { floors } from './floors.js';
import { type Effort, measure } from './measure.js';
import { type Bench, benches } from './subjects.js';
import { duration, rate, ratio, table } from './table.js';

/** One subject in one mode, and its floor beside it. */
interface Figure {
  readonly ns: number;
  readonly floorNs: number;
}

/** A positive number out of the command line. */
function count(text: string, option: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new RangeError(`--${option} takes a positive number, not '${text}'`);
  return value;
}

/** Measures the subjects of a machine whose names have the word. */
async function figures(bench: Bench, only: string, effort: Effort): Promise<Map<string, Figure>> {
  const found = new Map<string, Figure>();
  for (const { name, floor, work } of bench.subjects) {
    if (!name.includes(only)) continue;
    const [ns = Number.NaN, floorNs = Number.NaN] = await measure([work, floors[floor]], effort);
    found.set(name, { ns, floorNs });
  }
  return found;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      rounds: { type: 'string', default: '7' },
      'round-ms': { type: 'string', default: '20' },
    },
  });
  const effort = { rounds: count(values.rounds, 'rounds'), roundMs: count(values['round-ms'], 'round-ms') };
  console.log(
    `Node ${process.version} on ${cpus()[0]?.model.trim() ?? 'an unknown CPU'}, medians of ${effort.rounds} rounds\n`,
  );

  const floorNs = await measure(Object.values(floors), effort);
  const floorRows = Object.keys(floors).map((name, i) => [name, duration(floorNs[i] ?? Number.NaN)]);
  console.log(`${table(['floor', 'time'], floorRows)}\n`);

  const rows: string[][] = [];
  for (const make of benches) {
    const modes: Map<string, Figure>[] = [];
    const subjects = new Map<string, string>();
    for (const checked of [false, true]) {
      await using bench = await make(checked);
      for (const { name, floor } of bench.subjects) subjects.set(name, floor);
      modes.push(await figures(bench, values.only, effort));
    }
    for (const [name, floor] of subjects) {
      const [free, checked] = modes.map((mode) => mode.get(name));
      if (!free || !checked) continue;
      const columns = [duration(free.ns), rate(free.ns), ratio(free.ns / free.floorNs)];
      rows.push([name, ...columns, duration(checked.ns), ratio(checked.ns / free.ns), floor]);
    }
  }
  console.log(table(['path', 'time', 'rate', 'to floor', 'checked', 'to unchecked', 'floor'], rows));
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? (error.stack ?? error.message) : error);
  process.exitCode = 1;
}
