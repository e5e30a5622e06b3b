// What goes wrong, as the person at the keyboard should hear of it: one line for a mistake, and more only for a bug of ours.

import { isSystemError } from '@vfio/host';
import { DriverPackageError, MachineFileError } from '@vfio/machine';
import { GoldenNotFoundError, ScriptError } from '@vfio/testing';

/** Exit codes of the command. */
export const Exit = { OK: 0, FAILED: 1, USAGE: 2, INTERRUPTED: 130 } as const;

/** Something could not be done. The message is one line that says why, and what to do about it. */
export class CommandError extends Error {
  override readonly name: string = 'CommandError';
  readonly exitCode: number = Exit.FAILED;
}

/** The command was used in a way that it has no meaning for. */
export class UsageError extends CommandError {
  override readonly name = 'UsageError';
  override readonly exitCode = Exit.USAGE;
}

/** The person pressed ^C. */
export class InterruptedError extends CommandError {
  override readonly name = 'InterruptedError';
  override readonly exitCode = Exit.INTERRUPTED;

  constructor() {
    super('interrupted');
  }
}

/** What of an error crosses the control socket, and what is printed of it. */
export interface Failure {
  readonly message: string;
  readonly exitCode: number;
  /** Where it came from; shown when asked for. */
  readonly stack?: string;
}

/** Says of anything that was thrown what a person should hear. */
export function failureOf(error: unknown): Failure {
  if (!(error instanceof Error)) return { message: String(error), exitCode: Exit.FAILED };
  const stack = error.stack === undefined ? {} : { stack: withCauses(error) };
  if (error instanceof CommandError) return { message: error.message, exitCode: error.exitCode, ...stack };
  if (isExpected(error)) return { message: error.message, exitCode: Exit.FAILED, ...stack };
  const message = `${error.name}: ${error.message} (this is a bug: VFIO_DEBUG=1 shows where)`;
  return { message, exitCode: Exit.FAILED, ...stack };
}

/** The lines for standard error. */
export function explain(failure: Failure, debug: boolean): string {
  const line = `vfio: ${failure.message}`;
  return debug && failure.stack !== undefined ? `${line}\n${failure.stack}` : line;
}

function isExpected(error: Error): boolean {
  return (
    isSystemError(error) ||
    error instanceof MachineFileError ||
    error instanceof DriverPackageError ||
    error instanceof ScriptError ||
    error instanceof GoldenNotFoundError ||
    error instanceof SyntaxError ||
    isNodeSystemError(error)
  );
}

/** A failed system call of the real machine: ENOENT, EACCES. */
function isNodeSystemError(error: Error): boolean {
  return 'code' in error && 'syscall' in error && typeof error.code === 'string' && /^E[A-Z0-9]+$/.test(error.code);
}

function withCauses(error: Error): string {
  const { cause } = error;
  const own = error.stack ?? error.message;
  return cause instanceof Error ? `${own}\ncaused by ${withCauses(cause)}` : own;
}
