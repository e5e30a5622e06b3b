// What a run of the command has of the world: so that a test can give it another one.

import type { TerminalOptions } from './output/terminal.js';

/** The world of a run. */
export interface Io extends TerminalOptions {
  /** Aborted when the person presses ^C, or the system asks to end. */
  readonly signal: AbortSignal;
  /** Directories in which driver packages are looked for, beside those of file and working directory. */
  readonly searchFrom: readonly string[];
}
