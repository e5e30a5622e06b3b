// How every request is made: failures come as VfioError that name the request, whatever the transport threw.

import { isVfioError, VfioError } from '@vfio/core';
import { isSystemError } from '@vfio/host';
import type { Transport } from './transport.js';

/** Turns an error of the transport into one that names the request and its object. */
export function asVfioError(error: unknown, syscall: string, subject: string): unknown {
  if (!isSystemError(error)) return error;
  if (isVfioError(error) && error.syscall === syscall && error.subject === subject) return error;
  const prefix = `${error.code}: `;
  const text = error.message.startsWith(prefix) ? error.message.slice(prefix.length) : error.message;
  const tail = error.syscall === undefined ? '' : `, ${error.syscall}`;
  const at = tail ? text.lastIndexOf(tail) : -1;
  return new VfioError(error.code, at >= 0 ? text.slice(0, at) : text, { syscall, subject, cause: error });
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
  readonly fd: number;
  #open = true;

  constructor(transport: Transport, fd: number, subject: string) {
    this.transport = transport;
    this.fd = fd;
    this.subject = subject;
  }

  /** Whether it was not closed yet. */
  get isOpen(): boolean {
    return this.#open;
  }

  /** Closes the descriptor; a second call does nothing. */
  async close(): Promise<void> {
    if (!this.#open) return;
    this.#open = false;
    await named('close', this.subject, () => this.transport.close(this.fd));
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  /**
   * Makes a request.
   *
   * @param name - the request's name in C, for messages
   * @throws VfioError - with the kernel's errno
   */
  ioctl(name: string, request: number, argument: number | bigint | Uint8Array = 0): Promise<number> {
    return named(name, this.subject, () => this.transport.ioctl(this.fd, request, argument));
  }
}
