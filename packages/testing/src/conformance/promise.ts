/* What a case says when a promise of VFIO is not kept: what was promised, and what was found instead. */
import { type ErrnoCode, isSystemError } from '@vfio/host';

/** A driver does not do what VFIO promises of all drivers. */
export class ConformanceError extends Error {
  override readonly name = 'ConformanceError';
}

/** How a request ended: with its result, or with an errno. */
export type Outcome = number | ErrnoCode;

/** What may come of a request. */
export type Expected = Outcome | readonly Outcome[] | 'any error';

/**
 * Insists on a condition.
 *
 * @param promised - what VFIO promises, as a sentence
 * @param found - what was found instead
 */
export function keeps(condition: boolean, promised: string, found: string): asserts condition {
  if (!condition) throw new ConformanceError(`${promised}. Found: ${found}`);
}

/** Runs a call to its result or errno; what is no answer of a kernel goes on as an exception. */
export async function outcomeOf(call: () => number | Promise<number>): Promise<Outcome> {
  try {
    return await call();
  } catch (error) {
    if (isSystemError(error)) return error.code;
    throw error;
  }
}

/**
 * Insists on how a call ends.
 *
 * @returns how it ended
 */
export async function ends(
  call: () => number | Promise<number>,
  expected: Expected,
  promised: string,
): Promise<Outcome> {
  const outcome = await outcomeOf(call);
  const wanted: readonly Outcome[] = typeof expected === 'object' ? expected : [expected as Outcome];
  const kept = expected === 'any error' ? typeof outcome === 'string' : wanted.includes(outcome);
  const list = expected === 'any error' ? 'an error' : wanted.join(' or ');
  keeps(kept, `${promised}: ${list}`, String(outcome));
  return outcome;
}
