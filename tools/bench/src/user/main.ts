// What messages of vfio-user cost: a client in C measures `vfio serve testdev`, libvfio-user where it is there, a probe, and
// the floor under them all, in turns.
//
//   npm run bench:user                                    one processor, and two
//   VFIO_BENCH_LIBVFIO_USER=/path/to/server npm run bench:user
//   npm run bench:user -- --processors 1 --rounds 9 --operations 20000 --only read4,posted4 --markdown
//   npm run bench:user -- --server 'node server.js'       another one in the place of ours
//
// The other server gets the path of its socket as its only word and serves the reference test device. VFIO_BENCH_CLIENT
// and VFIO_BENCH_FLOOR name the programs of c/ where there is no compiler.

import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { Undo } from '@vfio/host';
import { markdownTable, table } from '../table.js';
import { floorRound, measureRound, type Outcome } from './client.js';
import { program } from './programs.js';
import { type Measured, report, tests } from './report.js';
import { Server, type ServerCommand } from './server.js';

const cli = fileURLToPath(new URL('../../../packages/cli/dist/bin.js', import.meta.url));
const serve = [process.execPath, cli, 'serve', 'testdev'];
const probe = fileURLToPath(new URL('./user-probe.js', import.meta.url));

/** How a run is made. */
interface Run {
  readonly work: string;
  readonly client: string;
  readonly floor: string;
  readonly rounds: number;
  readonly operations: number;
  readonly names: readonly string[];
  /** Our server; the path of its socket is put behind these words. */
  readonly server: readonly string[];
  /** Words for it that let it poll while it has a processor to itself. */
  readonly polling: readonly string[];
}

/** Processors that the client and the servers run on. */
interface Placement {
  readonly client: number;
  readonly server: number;
}

const placements: Readonly<Record<string, Placement>> = {
  '1': { client: 0, server: 0 },
  '2': { client: 0, server: 1 },
};

/** The servers that are compared, ours first. */
function servers({ server, polling }: Run, two: boolean): Map<keyof Measured, ServerCommand> {
  const found = new Map<keyof Measured, ServerCommand>();
  const extra = two ? polling : [];
  const words = server.length > 0 ? [...server, ...extra] : [...serve, ...extra, '--socket-path'];
  found.set('ours', { name: server.length > 0 ? server.join(' ') : 'vfio serve testdev', words });
  const other = process.env.VFIO_BENCH_LIBVFIO_USER;
  if (other) found.set('peer', { name: 'libvfio-user', words: [other] });
  found.set('probe', { name: 'the probe', words: [process.execPath, probe, ...(two ? ['--polling'] : [])] });
  return found;
}

/** Measures everybody in turns; the first round of each is for warmth. */
async function measure(run: Run, { client, server }: Placement, two: boolean): Promise<Measured> {
  await using running = new Undo();
  const found = new Map<keyof Measured, Map<string, Outcome>[]>();
  const started = new Map<keyof Measured, Server>();
  for (const [who, command] of servers(run, two)) {
    const socket = join(run.work, `${who}-${server}.sock`);
    try {
      const one = await Server.start(command, server, socket);
      running.add(() => one[Symbol.asyncDispose]());
      started.set(who, one);
      found.set(who, []);
    } catch (error) {
      // the others can be compared without it
      console.error(`bench: ${error instanceof Error ? error.message : error}`);
      process.exitCode = 1;
    }
  }
  const floor: Map<string, Outcome>[] = [];
  for (let round = -1; round < run.rounds; round++) {
    for (const [who, { socket }] of started) {
      const outcomes = await measureRound({
        client: run.client,
        socket,
        cpu: client,
        tests: run.names,
        operations: run.operations,
      });
      if (round >= 0) found.get(who)?.push(outcomes);
    }
    if (round >= 0) floor.push(await floorRound(run.floor, client, run.operations));
  }
  const [ours = [], peer, besides] = [found.get('ours'), found.get('peer'), found.get('probe')];
  return { ours, floor, ...(peer ? { peer } : {}), ...(besides ? { probe: besides } : {}) };
}

function wordsOf(line: string): string[] {
  return line.split(' ').filter((word) => word !== '');
}

/** A positive number out of the command line. */
function count(text: string, option: string): number {
  const value = Number(text);
  if (!Number.isInteger(value) || value < 1) throw new RangeError(`--${option} takes a positive number, not '${text}'`);
  return value;
}

async function main(): Promise<void> {
  const { values } = parseArgs({
    options: {
      processors: { type: 'string', multiple: true, default: ['1', '2'] },
      rounds: { type: 'string', default: '5' },
      operations: { type: 'string', default: '20000' },
      only: { type: 'string' },
      server: { type: 'string', default: '' },
      polling: { type: 'string', default: '' },
      markdown: { type: 'boolean', default: false },
    },
  });
  const write = values.markdown ? markdownTable : table;
  const only = values.only?.split(',');
  const names = tests.map(({ test }) => test).filter((name) => only?.includes(name) ?? true);
  const work = await mkdtemp(join(tmpdir(), 'vfio-bench-'));
  try {
    const run: Run = {
      work,
      client: await program('vfio-user-client', work),
      floor: await program('uds-floor', work),
      rounds: count(values.rounds, 'rounds'),
      operations: count(values.operations, 'operations'),
      names,
      server: wordsOf(values.server),
      polling: wordsOf(values.polling),
    };
    for (const processors of values.processors) {
      const placement = placements[processors];
      if (!placement) throw new RangeError(`--processors takes 1 or 2, not '${processors}'`);
      const two = placement.client !== placement.server;
      const { head, rows } = report(await measure(run, placement, two), two);
      console.log(`${two ? 'client and server on a processor each' : 'both on one processor'}\n`);
      console.log(`${write(head, rows)}\n`);
    }
  } finally {
    await rm(work, { recursive: true });
  }
}

try {
  await main();
} catch (error) {
  console.error(`bench: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
