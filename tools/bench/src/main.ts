// Measures and prints. Absolute figures differ from machine to machine: the ratios are what to look at, and they are to a
// floor that was measured in between.
//
//   npm run bench                     everything, about five minutes
//   npm run bench -- --part paths     the hot paths beside their floors, or 'scale': what many cost beside few
//   npm run bench -- --only type1     what has the word in its name
//   npm run bench -- --markdown       tables for a README
//   npm run bench -- --rounds 11 --round-ms 50 --warm-up-ms 3000

import { cpus } from 'node:os';
import { parseArgs } from 'node:util';
import { floors } from './floors.js';
import { type Effort, measure } from './measure.js';
import { measureScale } from './measure-scale.js';
import { scaleRow } from './scale.js';
import { type Bench, benches, type Subject } from './subjects.js';
import { duration, markdownTable, rate, ratio, table } from './table.js';
import { type Figure, isMet, targetText, verdict } from './target.js';

/** Writes a table. */
type Write = typeof table;

const parts = ['all', 'paths', 'scale'];

/** A positive number out of the command line. */
function count(text: string, option: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new RangeError(`--${option} takes a positive number, not '${text}'`);
  return value;
}

/** Measures the subjects of a machine whose names have the word. */
async function figures(bench: Bench, only: string, effort: Effort, found: Map<string, Figure>): Promise<void> {
  for (const { name, floor, work } of bench.subjects) {
    if (!name.includes(only)) continue;
    const [ns = Number.NaN, floorNs = Number.NaN] = await measure([work, floors[floor]], effort);
    found.set(name, { ns, floorNs });
  }
}

function pathRow({ name, floor, target }: Subject, free: Figure, checked: Figure): string[] {
  const columns = [duration(free.ns), rate(free.ns), ratio(free.ns / free.floorNs), floor];
  const asked = target ? [targetText(target), verdict(isMet(free, target))] : ['', ''];
  return [name, ...columns, ...asked, duration(checked.ns), ratio(checked.ns / free.ns)];
}

/** The hot paths, in both modes, beside their floors. */
async function paths(only: string, effort: Effort, write: Write): Promise<void> {
  const floorNs = await measure(Object.values(floors), effort);
  const floorRows = Object.keys(floors).map((name, i) => [name, duration(floorNs[i] ?? Number.NaN)]);
  console.log(`${write(['floor', 'time'], floorRows)}\n`);
  // nobody has both modes in one program: what the compiler learns in checked mode would slow the other down
  const modes: Map<string, Figure>[] = [];
  const subjects: Subject[] = [];
  for (const checked of [false, true]) {
    const found = new Map<string, Figure>();
    for (const make of benches) {
      await using bench = await make(checked);
      if (!checked) subjects.push(...bench.subjects);
      await figures(bench, only, effort, found);
    }
    modes.push(found);
  }
  const rows = subjects.flatMap((subject) => {
    const [free, checked] = modes.map((mode) => mode.get(subject.name));
    return free && checked ? [pathRow(subject, free, checked)] : [];
  });
  const header = ['path', 'time', 'rate', 'to floor', 'floor', 'target', 'result', 'checked', 'to unchecked'];
  console.log(`${write(header, rows)}\n`);
}

/** What many cost beside few. */
async function scale(only: string, write: Write): Promise<void> {
  const rows = (await measureScale(only)).map(scaleRow);
  console.log(write(['beside how many', 'few', 'many', 'ratio', 'target', 'result'], rows));
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      only: { type: 'string', default: '' },
      part: { type: 'string', default: 'all' },
      markdown: { type: 'boolean', default: false },
      rounds: { type: 'string', default: '7' },
      'round-ms': { type: 'string', default: '20' },
      'warm-up-ms': { type: 'string', default: '2000' },
    },
  });
  const { only, part } = values;
  if (!parts.includes(part)) throw new RangeError(`--part takes one of ${parts.join(', ')}, not '${part}'`);
  const effort = {
    rounds: count(values.rounds, 'rounds'),
    roundMs: count(values['round-ms'], 'round-ms'),
    warmUpMs: count(values['warm-up-ms'], 'warm-up-ms'),
  };
  const write = values.markdown ? markdownTable : table;
  console.log(
    `Node ${process.version} on ${cpus()[0]?.model.trim() ?? 'an unknown CPU'}, medians of ${effort.rounds} rounds\n`,
  );
  if (part !== 'scale') await paths(only, effort, write);
  if (part !== 'paths') await scale(only, write);
}

try {
  await main();
} catch (error) {
  console.error(error instanceof Error ? (error.stack ?? error.message) : error);
  process.exitCode = 1;
}
