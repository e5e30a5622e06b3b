#!/usr/bin/env node
// The program `vfio`: gives the command the real world, and leaves with its exit code.

import { Exit } from './errors.js';
import { untilInterrupted } from './interrupt.js';
import { main } from './program.js';
import { ownDirectory } from './version.js';

const { stdin, stdout, stderr, env } = process;
const signal = untilInterrupted(() => process.exit(Exit.INTERRUPTED));

// remarks that nobody hears change nothing
stderr.on('error', () => undefined);
// the reader of a pipe has seen enough
stdout.on('error', (error) => {
  if ('code' in error && error.code === 'EPIPE') process.exit(Exit.OK);
  throw error;
});

const io = { stdin, stdout, stderr, env, signal, searchFrom: [ownDirectory] };
void main(process.argv.slice(2), io).then((code) => process.exit(code));
