// What goes over the control socket of `vfio up`: lines of JSON. The server says first who it is. Then the client makes calls,
// each with a number of its own, and the server answers with events and one result or error of that number.

import { anything, count, object, optional, ShapeError, text } from '../shape.js';

/** Version of the protocol; client and server must have the same. */
export const protocolVersion = 1;

/** Longest line that a server takes, in bytes: an attribute of a page, escaped, fits many times. */
export const longestRequest = 1 << 17;

/** Longest line that a client takes, in bytes. */
export const longestReply = 1 << 26;

/** First line of a server. */
export interface Hello {
  readonly vfio: number;
  /** Name of the machine. */
  readonly machine: string;
  readonly pid: number;
}

/** A client's line. */
export type Request =
  /** Carry out a command. */
  | { readonly id: number; readonly command: string; readonly args?: unknown }
  /** Stop carrying out the command of that number; its result or error comes all the same. */
  | { readonly cancel: number };

/** A server's line after the first. */
export type Reply =
  | { readonly id: number; readonly event: unknown }
  | { readonly id: number; readonly result: unknown }
  | { readonly id: number; readonly error: RemoteFailure };

/** Why a command failed. */
export interface RemoteFailure {
  readonly message: string;
  readonly exitCode: number;
  readonly stack?: string;
}

/** The command that ends the machine. Every other one is a command of the command line. */
export const downCommand = 'down';

/** What `down` ends with. */
export interface DownResult {
  readonly machine: string;
  readonly leaks: readonly { readonly kind: string; readonly what: string }[];
}

const call = object({ id: count, command: text(64), args: optional(anything) });
const cancel = object({ cancel: count });
const hello = object({ vfio: count, machine: text(4096), pid: count });
const failure = object({ message: text(), exitCode: count, stack: optional(text()) });

/**
 * Reads a client's line.
 *
 * @throws ShapeError - it is none
 */
export function parseRequest(line: string): Request {
  const value = parseJson(line);
  return isObject(value) && 'cancel' in value ? cancel(value, 'request') : call(value, 'request');
}

/**
 * Reads the first line of a server.
 *
 * @throws ShapeError - it is none
 */
export function parseHello(line: string): Hello {
  return hello(parseJson(line), 'hello');
}

/**
 * Reads another line of a server.
 *
 * @throws ShapeError - it is none
 */
export function parseReply(line: string): Reply {
  const value = parseJson(line);
  if (!isObject(value)) throw new ShapeError('reply is no object');
  const id = count('id' in value ? value.id : undefined, 'reply.id');
  if ('error' in value) return { id, error: failure(value.error, 'reply.error') };
  if ('event' in value) return { id, event: value.event };
  return { id, result: 'result' in value ? value.result : undefined };
}

function parseJson(line: string): unknown {
  try {
    return JSON.parse(line);
  } catch (cause) {
    throw new ShapeError('this is no JSON', { cause });
  }
}

const isObject: (value: unknown) => value is object = (value) => typeof value === 'object' && value !== null;
