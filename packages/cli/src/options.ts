// Options that several command lines have, and how examples look in their help.

import type { Command as Commander } from 'commander';
import { type Command, type Options, textOption } from './command.js';
import type { TargetOptions } from './target.js';

/** Lets a command choose any machine. */
export function addTarget(command: Commander): Commander {
  return addNamed(
    command.option('-m, --machine <file>', 'a machine of its own, from this file, just for this command'),
  );
}

/** Lets a command choose a machine that is up. */
export function addNamed(command: Commander): Commander {
  return command
    .option('-n, --name <name>', 'the machine that is up under this name')
    .option('-c, --control <path>', 'the machine that is up at this control socket');
}

/** The machine that was chosen. */
export function targetOf(options: Options): TargetOptions {
  const machine = textOption(options, 'machine');
  const name = textOption(options, 'name');
  const control = textOption(options, 'control');
  return {
    ...(machine === undefined ? {} : { machine }),
    ...(name === undefined ? {} : { name }),
    ...(control === undefined ? {} : { control }),
  };
}

/** Command lines with what they do. */
export function examplesText(examples: Command['examples']): string {
  const width = Math.max(...examples.map(([line]) => line.length));
  return `\nExamples:\n${examples.map(([line, meaning]) => `  ${line.padEnd(width)}  ${meaning}`).join('\n')}`;
}

/** A summary as a sentence. */
export function sentence(text: string): string {
  return `${text.charAt(0).toUpperCase()}${text.slice(1)}.`;
}
