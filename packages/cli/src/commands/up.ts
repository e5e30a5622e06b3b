import { spawn } from 'node:child_process';
import { closeSync, openSync, readFileSync, renameSync, unlinkSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { controlDirectory, prepareDirectory } from '../control/socket-path.js';
import { CommandError, Exit } from '../errors.js';
import type { Io } from '../io.js';
import type { Terminal } from '../output/terminal.js';
import { controlPath, serveMachine } from '../serve.js';
import { count, object, text } from '../shape.js';
import { bringUp, reportLeaks } from '../target.js';

/** How `up` was asked to bring a machine up. */
export interface UpOptions {
  readonly name?: string;
  readonly control?: string;
  readonly checked?: boolean;
}

/** What a machine that is up says to the process that started it, if that one listens. */
const ready = object({ machine: text(), devices: count, path: text() });
type Ready = ReturnType<typeof ready>;

/** `vfio up`: until somebody ends it. */
export async function up(file: string, options: UpOptions, terminal: Terminal, io: Io): Promise<number> {
  const machine = await bringUp(file, terminal, io, options.checked === undefined ? {} : { checked: options.checked });
  try {
    const devices = (await machine.devices()).filter(({ vfio }) => vfio !== undefined).length;
    const { leaks } = await serveMachine(machine, {
      ...options,
      env: io.env,
      signal: io.signal,
      note: (line) => terminal.note(`vfio: ${line}`),
      onListening: (path) => {
        const message: Ready = { machine: machine.name, devices, path };
        terminal.note(upText(message));
        process.send?.(message);
        if (process.connected) process.disconnect();
      },
    });
    terminal.note(`${machine.name} is down`);
    return reportLeaks(leaks, machine.name, terminal) ? Exit.FAILED : Exit.OK;
  } finally {
    await machine.shutdown();
  }
}

/**
 * `vfio up --detach`: the same in a process in the background, whose output goes to a file beside its socket.
 *
 * @param words - the command line of that process, after the program
 */
export async function upDetached(
  file: string,
  words: readonly string[],
  options: UpOptions,
  terminal: Terminal,
  io: Io,
): Promise<number> {
  const { control, name } = options;
  const directory = control === undefined ? controlDirectory(io.env) : dirname(control);
  if (control === undefined) prepareDirectory(directory);
  // what is wrong with a name is better said here than in a file
  if (name !== undefined) controlPath({ name, env: io.env }, name);
  const log = join(directory, `up-${process.pid}.log`);
  using _progress = terminal.progress(`bringing ${file} up`);
  const { child, ready } = await startInBackground(words, log, io);
  renameSync(log, `${ready.path.replace(/\.sock$/, '')}.log`);
  terminal.print(`${upText(ready)} (process ${child.pid})`);
  return Exit.OK;
}

async function startInBackground(words: readonly string[], log: string, io: Io) {
  const output = openSync(log, 'wx', 0o600);
  const [program = ''] = process.argv.slice(1);
  const child = spawn(process.execPath, [...process.execArgv, program, ...words], {
    detached: true,
    stdio: ['ignore', output, output, 'ipc'],
    env: { ...io.env },
  });
  closeSync(output);
  const interrupt = () => child.kill('SIGTERM');
  io.signal.addEventListener('abort', interrupt);
  try {
    const message = await new Promise<unknown>((resolve, reject) => {
      child.once('error', reject);
      child.once('message', resolve);
      child.once('exit', (code) => reject(new FailedInBackground(log, code ?? Exit.FAILED)));
    });
    child.removeAllListeners('exit');
    child.unref();
    return { child, ready: ready(message, 'message') };
  } catch (error) {
    unlinkSync(log);
    throw error;
  } finally {
    io.signal.removeEventListener('abort', interrupt);
  }
}

/** The machine did not come up; it has said why itself. */
class FailedInBackground extends CommandError {
  override readonly name = 'FailedInBackground';
  override readonly exitCode: number;

  constructor(log: string, exitCode: number) {
    super(
      readFileSync(log, 'utf8')
        .trim()
        .replace(/^vfio: /, '') || 'it ended without a word',
    );
    this.exitCode = exitCode;
  }
}

function upText({ machine, devices, path }: Ready): string {
  return `${machine} is up with ${devices} VFIO device${devices === 1 ? '' : 's'}: ${path}`;
}
