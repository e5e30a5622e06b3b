// What a run of the command has of the world: so that a test can give it another one.

import type { DriverPackage } from '@vfio/core';
import { discoverDrivers } from '@vfio/machine';
import type { TerminalOptions } from './output/terminal.js';

/** The world of a run. */
export interface Io extends TerminalOptions {
  /** Standard input, for commands that are asked to read it. */
  readonly stdin: NodeJS.ReadableStream;
  /** Aborted when the person presses ^C, or the system asks to end. */
  readonly signal: AbortSignal;
  /** Directories in which driver packages are looked for, beside those of file and working directory. */
  readonly searchFrom: readonly string[];
  /** Driver packages to use instead of looking for installed ones. */
  readonly drivers?: readonly DriverPackage[];
}

/** The driver packages for machines that no file asks for by name. */
export async function driversOf({ drivers, searchFrom }: Io): Promise<readonly DriverPackage[]> {
  return drivers ?? (await discoverDrivers([process.cwd(), ...searchFrom]));
}
