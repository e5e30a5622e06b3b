/*
 * The two kinds of failure that the host knows. A `SystemError` is an answer: an errno that a program, or the
 * caller inside the kernel, is meant to see. A `KernelBug` is what Linux would report as an oops, a KASAN splat or
 * a lockdep complaint: the code that caused it has to be changed. Both are recognised by a mark rather than by
 * `instanceof`, so that an ESM and a CommonJS copy of this package agree.
 */
import { canonicalErrno, Errno, type ErrnoCode } from './errno.js';

const systemErrorMark = Symbol.for('vfio.SystemError');
const kernelBugMark = Symbol.for('vfio.KernelBug');

/** What a `SystemError` carries beside its code and reason. */
export interface SystemErrorOptions {
  /** What was called: `open`, `VFIO_DEVICE_RESET`. */
  readonly syscall?: string | undefined;
  /** What it was called on: a path, `group 26`. */
  readonly subject?: string | undefined;
  readonly cause?: unknown;
}

/**
 * A failure with an errno, in the shape of Node's own system errors: `code`, a negative `errno`, `syscall`, and
 * a message like `EBUSY: group has 2 open devices, VFIO_GROUP_UNSET_CONTAINER 'group 26'`.
 */
export class SystemError extends Error {
  override readonly name: string = 'SystemError';
  readonly code: ErrnoCode;
  /** Negative, as in Node: -16 for EBUSY. */
  readonly errno: number;
  /** What was found, in words, without code and syscall. */
  readonly reason: string;
  declare readonly syscall?: string;
  declare readonly subject?: string;

  /**
   * @param code - an alias is replaced: an error made with `'EWOULDBLOCK'` has the code `'EAGAIN'`
   * @param reason - what was found, with the values
   */
  constructor(code: ErrnoCode, reason: string, options: SystemErrorOptions = {}) {
    const { syscall, subject } = options;
    const canonical = canonicalErrno(code);
    super(describe(canonical, reason, syscall, subject), 'cause' in options ? { cause: options.cause } : undefined);
    this.code = canonical;
    this.errno = -Errno[canonical];
    this.reason = reason;
    if (syscall !== undefined) this.syscall = syscall;
    if (subject !== undefined) this.subject = subject;
  }

  /** The mark that `isSystemError` looks for. */
  get [systemErrorMark](): true {
    return true;
  }

  /**
   * Says of an error that comes from below which call it became. What the error knows already stays.
   *
   * @returns the same error
   */
  inSyscall(syscall: string, subject?: string): this {
    if (this.syscall === undefined) {
      const known = this.subject ?? subject;
      const message = describe(this.code, this.reason, syscall, known);
      Object.defineProperty(this, 'message', { value: message, writable: true, configurable: true });
      Object.assign(this, known === undefined ? { syscall } : { syscall, subject: known });
    }
    return this;
  }
}

/**
 * Tells whether something caught is a `SystemError`, from whichever copy of this package.
 *
 * @param code - when given, the error must also carry this code (or the number that the code is an alias of)
 */
export function isSystemError(e: unknown, code?: ErrnoCode): e is SystemError {
  if (!(e instanceof Error) || !(systemErrorMark in e)) return false;
  return code === undefined || ('code' in e && e.code === canonicalErrno(code));
}

/** What a `KernelBug` is about. */
export type BugKind = 'use-after-free' | 'double-free' | 'refcount' | 'lock' | 'atomic-sleep' | 'leak' | 'driver';

/** What a `KernelBug` carries beside its kind and text. */
export interface KernelBugOptions {
  /** Stack of where the thing in question came from, was freed or was taken. */
  readonly origin?: string | undefined;
  readonly cause?: unknown;
}

/** A misuse that a checked kernel would stop at. Never an answer to a user: it has no errno. */
export class KernelBug extends Error {
  override readonly name: string = 'KernelBug';
  readonly kind: BugKind;
  /** Stack of where the thing in question came from, was freed or was taken; only known in checked mode. */
  declare readonly origin?: string;

  constructor(kind: BugKind, text: string, options: KernelBugOptions = {}) {
    super(`${kind}: ${text}`, 'cause' in options ? { cause: options.cause } : undefined);
    this.kind = kind;
    if (options.origin !== undefined) this.origin = options.origin;
  }

  /** The mark that `isKernelBug` looks for. */
  get [kernelBugMark](): true {
    return true;
  }
}

/** Tells whether something caught is a `KernelBug`, from whichever copy of this package, and of the given kind. */
export function isKernelBug(e: unknown, kind?: BugKind): e is KernelBug {
  if (!(e instanceof Error) || !(kernelBugMark in e)) return false;
  return kind === undefined || ('kind' in e && e.kind === kind);
}

function describe(code: ErrnoCode, reason: string, syscall?: string, subject?: string): string {
  const call = [syscall, subject === undefined ? undefined : `'${subject}'`].filter((part) => part !== undefined);
  return [`${code}: ${reason}`, ...(call.length > 0 ? [call.join(' ')] : [])].join(', ');
}
