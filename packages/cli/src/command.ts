// A command that works on a machine, in two halves: `run` is where the machine is, in this process or in that of `vfio up`,
// and `view` is where the person is. What goes between them is plain data.

import type { Machine } from '@vfio/machine';
import type { Command as Commander } from 'commander';
import type { Terminal } from './output/terminal.js';
import type { Shape } from './shape.js';

/** What a command has to work with. */
export interface Context<E> {
  readonly machine: Machine;
  /** Aborted when nobody waits for the command any more. */
  readonly signal: AbortSignal;
  /** Tells the person something on the way. */
  emit(event: E): void;
}

/** What a person sees of a command. */
export interface View<E, R> {
  event(event: E): void;
  /** @returns the exit code */
  result(result: R): number;
}

/** How a command line is to be shown. */
export interface ViewOptions {
  readonly json: boolean;
  /** All options of the command line, by their long names. */
  readonly all: Options;
}

/** Options of a command line, by their long names in camelCase. */
export type Options = Readonly<Record<string, unknown>>;

/**
 * A command.
 *
 * @typeParam A - its arguments, plain data
 * @typeParam E - what it tells on the way, plain data
 * @typeParam R - what it ends with, plain data
 */
export interface CommandSpec<A, E, R> {
  /** Its words on the command line: `['sysfs', 'cat']`. */
  readonly words: readonly [string, ...string[]];
  readonly summary: string;
  /** Command lines with what they do, for `--help`. */
  readonly examples: readonly (readonly [line: string, meaning: string])[];
  /** Adds operands and options. */
  configure?(command: Commander): void;
  /** From the command line to arguments. */
  parse(operands: readonly string[], options: Options): A;
  /** Checks arguments that came from another process. */
  readonly shape: Shape<A>;
  run(context: Context<E>, args: A): Promise<R>;
  view(terminal: Terminal, options: ViewOptions): View<E, R>;
}

/** A command line that was understood. */
export interface Invocation {
  readonly command: Command;
  readonly args: unknown;
  view(terminal: Terminal): View<unknown, unknown>;
}

/** A command whose types only it knows itself. */
export interface Command extends Omit<CommandSpec<unknown, unknown, unknown>, 'parse' | 'shape' | 'view'> {
  /** Its name on the wire. */
  readonly name: string;
  invoke(operands: readonly string[], options: Options): Invocation;
  /** @throws ShapeError - the arguments are not what they should be */
  run(context: Context<unknown>, args: unknown): Promise<unknown>;
}

/** Makes a command of its parts. */
export function defineCommand<A, E, R>(spec: CommandSpec<A, E, R>): Command {
  const { words, summary, examples } = spec;
  const command: Command = {
    name: words.join(' '),
    words,
    summary,
    examples,
    configure: (commander) => spec.configure?.(commander),
    run: (context, args) => spec.run(context, spec.shape(args, 'args')),
    invoke: (operands, options) => ({
      command,
      args: spec.parse(operands, options),
      view: (terminal) => {
        const view = spec.view(terminal, { json: options.json === true, all: options });
        return {
          // both halves are of one version, which the control protocol makes sure of
          event: (event) => view.event(event as E),
          result: (result) => view.result(result as R),
        };
      },
    }),
  };
  return command;
}

/** A view of commands that tell nothing on the way. */
export function resultView<R>(result: (result: R) => number): View<never, R> {
  return { event: () => undefined, result };
}

/** The value of an option that takes a text. */
export function textOption(options: Options, name: string): string | undefined {
  const value = options[name];
  return typeof value === 'string' ? value : undefined;
}

/** An operand that the command line is known to have. */
export function operand(operands: readonly string[], index: number): string {
  const word = operands[index];
  if (word === undefined) throw new TypeError(`operand ${index} is missing`);
  return word;
}
