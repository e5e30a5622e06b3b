// What a command of the language is, and what it may use.

import type { Clock, Process } from '@vfio/host';
import type { ScriptMemory } from './memory.js';
import type { Names } from './names.js';
import type { StepOptions } from './options.js';
import type { Program } from './programs.js';
import type { StepResult } from './transcript.js';

/** The script process that a command runs in. */
export interface CommandScope {
  readonly process: Process;
  readonly names: Names;
  readonly memory: ScriptMemory;
  readonly clock: Clock;
  readonly programs: ReadonlyMap<string, Program>;
  /** The path that a word means in this machine. */
  path(word: string): string;
  /**
   * Kills a spawned process.
   *
   * @returns false if it has been waited for already, so that nothing is left of it
   * @throws ScriptMistake - there never was one of that name
   */
  kill(name: string): boolean;
}

/** One command on its way. */
export interface CommandCall {
  /** Command first, options taken out. */
  readonly words: readonly string[];
  readonly options: StepOptions;
  /** The step's part of the transcript; what a command sets appears in that order. */
  readonly result: StepResult;
  readonly scope: CommandScope;
}

/** A command that makes a step. */
export interface Command {
  /** How it is written, for the message when words are missing. */
  readonly usage: string;
  /** Least number of words, the command included. */
  readonly words: number;
  run(call: CommandCall): void | Promise<void>;
}

/** The words after the command; those that are not there are empty, which only optional ones are. */
export function wordAt(call: CommandCall, index: number): string {
  return call.words[index] ?? '';
}
