// How every request is made: failures come as VfioError that name the request, whatever the transport threw, and a
// descriptor that was closed is not used again, whoever has its number by then.

import { isVfioError, VfioError } from '@vfio/core';
import { type ErrnoCode, isErrnoCode } from '@vfio/host';
import type { Transport } from './transport.js';

/** An error with an errno, of whichever transport. */
interface ErrnoError extends Error {
  readonly code: ErrnoCode;
}

function isErrnoError(error: unknown): error is ErrnoError {
  return error instanceof Error && 'code' in error && typeof error.code === 'string' && isErrnoCode(error.code);
}

/** What was found, without the code before it and the call behind it: `EBUSY: reason, open '/dev/vfio/2'`. */
function reasonOf(error: ErrnoError): string {
  if ('reason' in error && typeof error.reason === 'string') return error.reason;
  const prefix = `${error.code}: `;
  const text = error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
  const syscall = 'syscall' in error && typeof error.syscall === 'string' ? error.syscall : undefined;
  const end = syscall === undefined ? -1 : text.lastIndexOf(`, ${syscall}`);
  return end < 0 ? text : text.slice(0, end);
}

/** Turns an error of the transport into one that names the request and its object; others stay what they are. */
export function asVfioError(error: unknown, syscall: string, subject: string): unknown {
  if (!isErrnoError(error)) return error;
  if (isVfioError(error) && error.syscall === syscall && error.subject === subject) return error;
  return new VfioError(error.code, reasonOf(error), { syscall, subject, cause: error });
}

/** Runs a system call and names it in its failure. */
export async function named<T>(syscall: string, subject: string, run: () => T | Promise<T>): Promise<T> {
  try {
    return await run();
  } catch (error) {
    throw asVfioError(error, syscall, subject);
  }
}

/** An open descriptor, closed once; the base of everything that a client opens. */
export abstract class Descriptor implements AsyncDisposable {
  readonly transport: Transport;
  /** What it is, in messages: `group 26`. */
  readonly subject: string;
  /** Its number; once it is closed, somebody else's perhaps. */
  readonly fd: number;
  #closing: Promise<void> | undefined;

  constructor(transport: Transport, fd: number, subject: string) {
    this.transport = transport;
    this.fd = fd;
    this.subject = subject;
  }

  /** Whether nobody has closed it yet. */
  get isOpen(): boolean {
    return this.#closing === undefined;
  }

  /** Closes the descriptor; further calls wait for the first one and do nothing else. */
  close(): Promise<void> {
    this.#closing ??= this.release();
    return this.#closing;
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Makes a request.
   *
   * @param name - the request's name in C, for messages
   * @throws VfioError - with the kernel's errno; EBADF when it was closed
   */
  ioctl(name: string, request: number, argument: number | bigint | Uint8Array = 0): Promise<number> {
    return this.call(name, (fd) => this.transport.ioctl(fd, request, argument));
  }

  /**
   * Makes a system call on the descriptor.
   *
   * @param subject - what it is made on, where that is a part of this
   * @throws VfioError - with the kernel's errno; EBADF when the descriptor was closed
   */
  async call<T>(syscall: string, run: (fd: number) => T | Promise<T>, subject = this.subject): Promise<T> {
    if (!this.isOpen) throw new VfioError('EBADF', 'it was closed', { syscall, subject });
    return await named(syscall, subject, () => run(this.fd));
  }

  /** What `close` does, once. */
  protected release(): Promise<void> {
    return named('close', this.subject, () => this.transport.close(this.fd));
  }
}
