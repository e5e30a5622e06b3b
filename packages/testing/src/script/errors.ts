// What can be wrong with a script. The inner parts (words, expressions, items) know only what is wrong;
// the parser and the interpreter, which know where, turn that into a ScriptError.

/** A script that cannot be read, or a line of it that cannot be carried out as written. */
export class ScriptError extends Error {
  override readonly name = 'ScriptError';
  /** File name as given to {@link parseScript}. */
  readonly file: string;
  /** Line of the script, from 1; of the first line if it goes over several. */
  readonly line: number;
  /** The sentence without file and line. */
  readonly reason: string;

  constructor(file: string, line: number, reason: string, options?: { cause?: unknown }) {
    super(`${file}:${line}: ${reason}`, options);
    this.file = file;
    this.line = line;
    this.reason = reason;
  }
}

/** Something wrong in a line, thrown by whoever finds it and located by whoever knows the line. */
export class ScriptMistake extends Error {
  override readonly name = 'ScriptMistake';
}

/**
 * Gives a mistake its place; any other error stays what it is.
 *
 * @param error - what was thrown
 */
export function located(error: unknown, file: string, line: number): unknown {
  return error instanceof ScriptMistake ? new ScriptError(file, line, error.message, { cause: error }) : error;
}
