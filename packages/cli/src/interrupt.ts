// ^C, and the signals by which a system ends a program: the first asks for an orderly end, a later one for the end.

import { InterruptedError } from './errors.js';

/**
 * ^C reaches a whole group of processes, and a parent that passes it on makes it two. Only one that comes later than this,
 * in milliseconds, is meant as a second.
 */
const sameSignalMs = 500;

/** What this needs of a process. */
export interface SignalSource {
  on(signal: 'SIGINT' | 'SIGTERM' | 'SIGHUP', listener: () => void): unknown;
}

/**
 * Listens for signals from now on.
 *
 * @param giveUp - called when a second one comes: nobody wants to wait for an orderly end
 * @returns aborted with an {@link InterruptedError} by the first one
 */
export function untilInterrupted(giveUp: () => void, source: SignalSource = process): AbortSignal {
  const abort = new AbortController();
  let first = Number.POSITIVE_INFINITY;
  const hear = () => {
    if (performance.now() - first > sameSignalMs) giveUp();
    if (abort.signal.aborted) return;
    first = performance.now();
    abort.abort(new InterruptedError());
  };
  for (const name of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) source.on(name, hear);
  return abort.signal;
}
