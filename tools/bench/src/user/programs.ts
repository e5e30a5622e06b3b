// Programs in C that measure: compiled on first use, or made by somebody else and named by an environment variable.

import { execFile } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const execute = promisify(execFile);

/** Sources, from `dist`. */
const sources = new URL('../c/', import.meta.url);

/** Programs by the name of their source, and the variable that names one that is there already. */
const programs = {
  'vfio-user-client': 'VFIO_BENCH_CLIENT',
  'uds-floor': 'VFIO_BENCH_FLOOR',
} as const;

/**
 * The path of a program.
 *
 * @param dir - where it is compiled to
 * @throws Error - there is no compiler
 */
export async function program(name: keyof typeof programs, dir: string): Promise<string> {
  const variable = programs[name];
  const made = process.env[variable];
  if (made) return made;
  const path = `${dir}/${name}`;
  const source = fileURLToPath(new URL(`${name}.c`, sources));
  try {
    await execute('cc', ['-O2', '-Wall', '-Wextra', '-o', path, source]);
  } catch (error) {
    throw new Error(`${name}.c can not be compiled with cc; ${variable} may name the program instead`, {
      cause: error,
    });
  }
  return path;
}

/**
 * Runs a program on one processor to its end.
 *
 * @returns what it wrote
 * @throws Error - it failed, with what it said
 */
export async function onProcessor(cpu: number, path: string, words: readonly string[]): Promise<string> {
  const { stdout } = await execute('taskset', ['-c', String(cpu), path, ...words], { maxBuffer: 1 << 24 });
  return stdout;
}
