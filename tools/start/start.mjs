// The main job, `npm start`: brings examples/lab.yaml up, drives every device of it through the client, replays all
// transcripts of the real kernel, and says in one table what came of it. `npm start -- --serve` then keeps the lab up.

import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import {
  Exit,
  explain,
  failureOf,
  problemsOf,
  renderTable,
  runExercise,
  runReplay,
  serveMachine,
  Terminal,
  UsageError,
  untilInterrupted,
  waitingText,
} from '@vfio/cli';
import { discoverDrivers, Machine } from '@vfio/machine';

const root = fileURLToPath(new URL('../..', import.meta.url));
const own = fileURLToPath(new URL('.', import.meta.url));
const help = `Usage: npm start [-- options]

Brings examples/lab.yaml up, exercises its devices, and replays what a real kernel answered (transcripts/).

Options:
  --serve    then keep the lab up, with a control socket for 'npm run vfio', until ^C
  -h, --help show this
`;

/** Exercises all devices; a row of the table for each. */
async function exerciseAll(machine, progress, signal) {
  const problems = [];
  const run = runExercise(machine, [], signal);
  let next = await run.next();
  for (; !next.done; next = await run.next()) {
    const event = next.value;
    const { address } = event.device;
    progress.update(`exercising ${address}`);
    if ('step' in event && !event.step.ok) problems.push(`${address}: ${event.step.name}: ${event.step.detail}`);
  }
  const rows = next.value.map(({ address, driver, steps, failed }) => ({
    what: `${driver} ${address}`,
    steps,
    same: steps - failed,
    different: failed,
  }));
  return { rows, problems };
}

/** Replays all transcripts; a row of the table for each that could be. */
async function replayAll(drivers, progress, signal) {
  const rows = [];
  const problems = [];
  const waiting = [];
  const onStart = (_path, index, count) => progress.update(`replaying transcript ${index + 1} of ${count}`);
  for await (const outcome of runReplay([join(root, 'transcripts', 'scripts')], { drivers, signal, onStart })) {
    if (outcome.kind === 'waiting') waiting.push(outcome);
    else if (outcome.kind === 'failed') problems.push(`${outcome.path}: ${outcome.reason}`);
    else {
      const { script, steps, same, different, ok } = outcome.result;
      rows.push({ what: script.replace(/\.vfs$/, ''), steps, same, different });
      problems.push(...problemsOf(outcome.result));
      if (!ok && different > 0) problems.push(`${script}: npm run vfio -- replay --diff ${outcome.path}`);
    }
  }
  return { rows, problems, waiting };
}

function showTable(rows, terminal) {
  const { bold, red } = terminal.colours;
  const sum = (key) => rows.reduce((total, row) => total + row[key], 0);
  const total = { what: 'total', steps: sum('steps'), same: sum('same'), different: sum('different') };
  const cells = ({ what, steps, same, different }) =>
    [what, ...[steps, same, different].map((number) => number.toLocaleString('en'))].map((cell) =>
      different > 0 ? red(cell) : cell,
    );
  /** @type {import('@vfio/cli').Column[]} */
  const columns = [
    { title: 'DEVICE OR TRANSCRIPT' },
    { title: 'STEPS', align: 'right' },
    { title: 'SAME', align: 'right' },
    { title: 'DIFFERENT', align: 'right' },
  ];
  terminal.write(renderTable(columns, [...rows.map(cells), cells(total).map(bold)], terminal.colours));
}

/** What was asked for on the command line. */
function readOptions() {
  try {
    return parseArgs({ options: { serve: { type: 'boolean' }, help: { type: 'boolean', short: 'h' } } }).values;
  } catch (error) {
    throw new UsageError(`${error instanceof Error ? error.message : error}: see npm start -- --help`);
  }
}

async function main(terminal, signal) {
  const values = readOptions();
  if (values.help) {
    terminal.write(help);
    return Exit.OK;
  }
  const drivers = await discoverDrivers([own]);
  const machine = await Machine.load(join(root, 'examples', 'lab.yaml'), { drivers });
  try {
    const progress = terminal.progress('bringing the lab up');
    const exercised = await exerciseAll(machine, progress, signal);
    const replayed = await replayAll(drivers, progress, signal);
    progress[Symbol.dispose]();
    showTable([...exercised.rows, ...replayed.rows], terminal);
    const waiting = waitingText(replayed.waiting);
    if (waiting !== undefined) terminal.print(waiting);
    const problems = [...exercised.problems, ...replayed.problems];
    for (const problem of problems) terminal.note(`vfio: ${problem}`);
    if (values.serve) {
      const onListening = (path) =>
        terminal.note(`${machine.name} is up at ${path}: npm run vfio -- ls in another terminal, ^C here ends it`);
      await serveMachine(machine, { env: process.env, signal, onListening, note: (line) => terminal.note(line) });
      terminal.note(`${machine.name} is down`);
    }
    const leaks = await machine.shutdown();
    for (const { kind, what } of leaks) terminal.note(`vfio: ${machine.name} left a ${kind} behind: ${what}`);
    return problems.length + leaks.length > 0 ? Exit.FAILED : Exit.OK;
  } finally {
    await machine.shutdown();
  }
}

const terminal = new Terminal({ stdout: process.stdout, stderr: process.stderr, env: process.env });
const signal = untilInterrupted(() => process.exit(Exit.INTERRUPTED));
try {
  process.exitCode = await main(terminal, signal);
} catch (error) {
  const failure = failureOf(error);
  terminal.note(explain(failure, Boolean(process.env.VFIO_DEBUG)));
  process.exitCode = failure.exitCode;
}
