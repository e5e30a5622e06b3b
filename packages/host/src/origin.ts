/*
 * Where something came from, cheap to note and expensive only to read: V8 formats a stack when it is asked for it.
 */

/** A noted place in the program. */
export interface Origin {
  /** The frames, innermost first, one per line. */
  readonly stack: string;
  /** The innermost frame alone: a function and a position. */
  readonly place: string;
}

class StackOrigin implements Origin {
  readonly #holder: { stack?: string } = {};

  constructor(outside: OriginBoundary, frames: number) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = frames;
    Error.captureStackTrace(this.#holder, outside);
    Error.stackTraceLimit = limit;
  }

  get stack(): string {
    const lines = (this.#holder.stack ?? '').split('\n').slice(1);
    return lines.map((line) => line.trim()).join('\n');
  }

  get place(): string {
    return this.stack.split('\n', 1)[0]?.replace(/^at /, '') || 'an unknown place';
  }
}

/** A function or constructor whose frame, and all that it called, is left out of a noted stack. */
export type OriginBoundary = ((...args: never[]) => unknown) | (abstract new (...args: never[]) => unknown);

/**
 * Notes where the caller of `outside` is.
 *
 * @param frames - how many frames at most: walking the stack is what it costs
 */
export function noteOrigin(outside: OriginBoundary, frames = 10): Origin {
  return new StackOrigin(outside, frames);
}
