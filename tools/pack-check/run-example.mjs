// Runs an example in a directory, as its user would.

import { spawnSync } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { transpile } from './readme.mjs';

/** Longest time that an example may take, in milliseconds. */
const timeout = 60_000;

/**
 * Writes an example to a directory and runs it there.
 *
 * @param {string} directory - where it finds its packages
 * @param {{ code: string, prints: string | undefined }} example
 * @param {'esm' | 'cjs'} format
 * @returns {string | undefined} what is wrong; undefined if it went well
 */
export function runExample(directory, { code, prints }, format) {
  const file = join(directory, format === 'esm' ? 'example.mjs' : 'example.cjs');
  writeFileSync(file, transpile(code, format));
  const { status, signal, stdout, stderr, error } = spawnSync(process.execPath, [file], {
    cwd: directory,
    encoding: 'utf8',
    timeout,
  });
  if (error) return error.message;
  if (status !== 0) return `ended with ${signal ?? status}:\n${stderr}${stdout}`;
  if (stderr !== '') return `wrote to stderr:\n${stderr}`;
  if (prints !== undefined && stdout !== prints) return `printed\n${stdout}instead of\n${prints}`;
  return undefined;
}
