/**
 * Other programs, run to their end. What they say is kept for the message of a failure; nothing of it reaches the
 * terminal otherwise.
 */

import { type SpawnOptions, spawn } from 'node:child_process';

/** How a program ended. */
export interface Finished {
  readonly status: number;
  readonly stdout: string;
  readonly stderr: string;
}

/**
 * Something that this machine, or the archive that it installs from, does not have: a reason to skip, not a failure.
 */
export class Unavailable extends Error {
  override readonly name = 'Unavailable';
}

/** A program that does not exist, or that ended with something else than 0. */
export class ProgramFailed extends Error {
  override readonly name = 'ProgramFailed';
}

/**
 * Runs a program to its end.
 *
 * @param command - a name on the path, or a path
 * @param args - its arguments
 * @param options - of `spawn`; standard input is closed
 * @throws ProgramFailed - it can not be started
 */
export function run(command: string, args: readonly string[], options: SpawnOptions = {}): Promise<Finished> {
  return new Promise((resolve, reject) => {
    const child = spawn(command, args, { ...options, stdio: ['ignore', 'pipe', 'pipe'] });
    const stdout: Buffer[] = [];
    const stderr: Buffer[] = [];
    child.stdout?.on('data', (chunk: Buffer) => stdout.push(chunk));
    child.stderr?.on('data', (chunk: Buffer) => stderr.push(chunk));
    child.on('error', (error) => reject(new ProgramFailed(`${command}: ${error.message}`, { cause: error })));
    child.on('close', (code, signal) => {
      const said = Buffer.concat(stderr).toString();
      resolve({
        status: code ?? -1,
        stdout: Buffer.concat(stdout).toString(),
        stderr: signal ? `${said}(ended by ${signal})` : said,
      });
    });
  });
}

/**
 * Runs a program that has to succeed.
 *
 * @param command - as for `run`
 * @param args - as for `run`
 * @param options - as for `run`
 * @returns what it wrote to standard output
 * @throws ProgramFailed - it can not be started, or says that it failed
 */
export async function must(command: string, args: readonly string[], options: SpawnOptions = {}): Promise<string> {
  const { status, stdout, stderr } = await run(command, args, options);
  if (status === 0) return stdout;
  const last = stderr.trim().split('\n').slice(-5).join('\n');
  throw new ProgramFailed(`${[command, ...args].join(' ')} ended with ${status}: ${last}`);
}

/**
 * Whether a program is on the path.
 *
 * @param command - its name
 */
export async function has(command: string): Promise<boolean> {
  const { status } = await run('sh', ['-c', 'command -v "$0"', command]);
  return status === 0;
}
