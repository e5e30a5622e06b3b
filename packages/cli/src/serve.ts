// Keeps a machine up: a control socket until somebody ends it, then an orderly shutdown that says what was left behind.

import type { Machine } from '@vfio/machine';
import { untilAborted } from './abort.js';
import { plainCommands } from './commands/index.js';
import { traceCommand } from './commands/trace.js';
import type { DownResult } from './control/protocol.js';
import { ControlServer } from './control/server.js';
import type { Environment } from './control/socket-path.js';
import { checkedPath, controlDirectory, prepareDirectory, socketPath } from './control/socket-path.js';
import { UsageError } from './errors.js';

/** How a machine is kept up. */
export interface ServeOptions {
  /** Where it listens; by its name below the directory of control sockets otherwise. */
  readonly control?: string;
  /** Its name there; the machine's own otherwise. */
  readonly name?: string;
  readonly env: Environment;
  /** Ends it when aborted. */
  readonly signal: AbortSignal;
  /** Called when the socket listens. */
  onListening?(path: string): void;
  /** Hears what may interest whoever keeps it up. */
  note?(line: string): void;
}

/** The commands that a machine carries out for others. */
export const servedCommands = [
  ...plainCommands,
  traceCommand(plainCommands, () => {
    throw new UsageError('a machine parses no command lines');
  }),
];

/** Where a machine would listen. */
export function controlPath(
  { control, name, env }: Pick<ServeOptions, 'control' | 'name' | 'env'>,
  machine: string,
): string {
  return control === undefined ? socketPath(env, name ?? machine) : checkedPath(control);
}

/**
 * Serves a machine until the signal is aborted or a client says `down`, and shuts it down.
 *
 * @returns what the machine left behind
 */
export async function serveMachine(machine: Machine, options: ServeOptions): Promise<DownResult> {
  const { signal, env } = options;
  const path = controlPath(options, machine.name);
  if (options.control === undefined) prepareDirectory(controlDirectory(env));
  let stopping: Promise<DownResult> | undefined;
  const asked = new AbortController();
  const stop = () => {
    // whoever waits for something on this machine is told before it goes
    server.interrupt();
    stopping ??= shutdown(machine);
    asked.abort();
    return stopping;
  };
  await using server = await ControlServer.listen(path, {
    machine,
    commands: servedCommands,
    stop,
    ...(options.note ? { note: options.note } : {}),
  });
  options.onListening?.(server.path);
  await untilAborted(AbortSignal.any([signal, asked.signal]));
  return await stop();
}

async function shutdown(machine: Machine): Promise<DownResult> {
  const leaks = await machine.shutdown();
  return { machine: machine.name, leaks: leaks.map(({ kind, what }) => ({ kind, what })) };
}
