// Runs a script on a machine of its own and shows the system calls that it makes.

import { loadScript, recordScript } from '@vfio/testing';
import type { Options } from '../command.js';
import { TraceWriter } from '../commands/trace.js';
import { CommandError, Exit } from '../errors.js';
import { driversOf, type Io } from '../io.js';
import type { Terminal } from '../output/terminal.js';
import { Tracer } from '../trace/tracer.js';
import { ScriptMachines } from './machines.js';

/**
 * `vfio trace script.vfs`
 *
 * @returns the exit code
 * @throws CommandError - no installed package offers a module that it needs
 * @throws ScriptError - a line of it can not be carried out; the trace up to there is written
 */
export async function traceScript(path: string, options: Options, terminal: Terminal, io: Io): Promise<number> {
  const script = await loadScript(path);
  const machines = new ScriptMachines({ drivers: await driversOf(io) });
  const missing = await machines.missingModules(script.header);
  if (missing.length > 0) throw new CommandError(`${path}: no installed package offers ${missing.join(', ')}`);
  using writer = new TraceWriter(terminal, options);
  await using made = await machines.create(path, script.header);
  using _tracer = new Tracer(made.machine.host, (call) => writer.write(call), { all: options.all === true });
  const lines = await recordScript(script, made.process, { clock: made.clock });
  terminal.note(`${script.file}: ${lines.length} lines of transcript`);
  return Exit.OK;
}
