// The machine that a command works on: one that is up, or one of its own.

import { type LoadOptions, Machine } from '@vfio/machine';
import type { Invocation } from './command.js';
import { type ControlClient, connect } from './control/client.js';
import { controlDirectory, knownSockets, machineName, socketPath } from './control/socket-path.js';
import { CommandError, Exit, UsageError } from './errors.js';
import type { Io } from './io.js';
import type { Terminal } from './output/terminal.js';

/** Which machine was asked for. */
export interface TargetOptions {
  /** A machine file: a machine of its own. */
  readonly machine?: string;
  /** Name of a machine that is up. */
  readonly name?: string;
  /** Control socket of one. */
  readonly control?: string;
}

/**
 * Carries out a command on the machine that was asked for, and shows what comes of it.
 *
 * @returns the exit code
 */
export async function runOnTarget(
  invocation: Invocation,
  options: TargetOptions,
  terminal: Terminal,
  io: Io,
): Promise<number> {
  const { machine, name, control } = options;
  if (machine === undefined) return runRemotely(invocation, await findMachine({ name, control }, io), terminal, io);
  if (name !== undefined || control !== undefined) {
    throw new UsageError('--machine makes a machine of its own: leave out --name and --control, or --machine');
  }
  return runLocally(invocation, machine, terminal, io);
}

async function runLocally(invocation: Invocation, file: string, terminal: Terminal, io: Io): Promise<number> {
  const machine = await bringUp(file, terminal, io);
  let code: number;
  try {
    const view = invocation.view(terminal);
    const context = { machine, signal: io.signal, emit: view.event };
    code = view.result(await invocation.command.run(context, invocation.args));
  } catch (error) {
    await machine.shutdown();
    throw error;
  }
  return reportLeaks(await machine.shutdown(), machine.name, terminal) ? Exit.FAILED : code;
}

/** Brings a machine up, and says so if it takes long. */
export async function bringUp(file: string, terminal: Terminal, io: Io, options: LoadOptions = {}): Promise<Machine> {
  using _progress = terminal.progress(`bringing ${file} up`);
  return await Machine.load(file, {
    searchFrom: io.searchFrom,
    ...(io.drivers ? { drivers: io.drivers } : {}),
    ...options,
  });
}

/** Says what a machine left behind; true if there is something. */
export function reportLeaks(
  leaks: readonly { readonly kind: string; readonly what: string; readonly origin?: string }[],
  machine: string,
  terminal: Terminal,
): boolean {
  for (const { kind, what } of leaks) terminal.note(`vfio: ${machine} left a ${kind} behind: ${what}`);
  return leaks.length > 0;
}

async function runRemotely(
  { command, args, view: createView }: Invocation,
  client: ControlClient,
  terminal: Terminal,
  io: Io,
): Promise<number> {
  using progress = terminal.progress(`waiting for ${client.hello.machine}`);
  try {
    const view = createView(terminal);
    const result = await client.call(command.name, args, view.event, io.signal);
    progress[Symbol.dispose]();
    return view.result(result);
  } finally {
    client.close();
  }
}

/**
 * Connects to the machine that is up: the one that was named, or the only one.
 *
 * @throws CommandError - there is none, or there are several
 */
export async function findMachine(
  { name, control }: { readonly name: string | undefined; readonly control: string | undefined },
  io: Io,
): Promise<ControlClient> {
  if (name !== undefined && control !== undefined) throw new UsageError('give --name or --control, not both');
  if (control !== undefined || name !== undefined) {
    const path = control ?? socketPath(io.env, name ?? '');
    const client = await connect(path);
    if (client) return client;
    throw new CommandError(`no machine is up at ${path}: vfio up <machine.yaml>`);
  }
  const found: { readonly path: string; readonly client: ControlClient }[] = [];
  for (const path of knownSockets(io.env)) {
    const client = await connect(path).catch(() => undefined);
    if (client) found.push({ path, client });
  }
  const [only, other] = found;
  if (only && !other) return only.client;
  for (const { client } of found) client.close();
  if (!only) {
    const where = controlDirectory(io.env);
    throw new CommandError(`no machine is up (${where}): vfio up <machine.yaml>, or give a file with --machine`);
  }
  const names = found.map(({ path }) => machineName(path)).join(', ');
  throw new CommandError(`several machines are up: give one of ${names} with --name`);
}
