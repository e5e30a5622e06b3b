// Programs that a script can run: small ones that exist here in place of those of the recorded machine.

import type { Process } from '@vfio/host';

/** A program on its way. */
export interface ProgramCall {
  /** The process that runs it; it ends with the program. */
  readonly process: Process;
  /** The words after the program's name. */
  readonly args: readonly string[];
  /** Writes a line to its output. */
  print(line: string): void;
}

/** A program: what it returns is its exit status. */
export type Program = (call: ProgramCall) => number | Promise<number>;

/** How a program ended. */
export interface ProgramResult {
  readonly status: number;
  /** What it printed. */
  readonly output: string;
}

/** Exit status of a program that there is not. */
const NOT_FOUND = 127;

/**
 * Runs a program in a child of a process, as fork and exec do: the child has the descriptors that are not closed on exec.
 *
 * @param programs - what there is to run
 * @param words - the program's name first
 */
export async function runProgram(
  process: Process,
  programs: ReadonlyMap<string, Program>,
  words: readonly string[],
): Promise<ProgramResult> {
  const [name = '', ...args] = words;
  const child = process.fork(name);
  let output = '';
  let status = NOT_FOUND;
  const print = (line: string) => {
    output += `${line}\n`;
  };
  try {
    const program = programs.get(name);
    if (program) {
      await child.execClose();
      status = await program({ process: child, args, print });
    }
  } finally {
    await child.exit(status);
  }
  return { status, output };
}
