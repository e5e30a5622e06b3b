// Reads a machine file and keeps where everything in it stands, so that errors can name a line.

import { readFileSync } from 'node:fs';
import { basename, dirname, resolve } from 'node:path';
import { type Document, isMap, isScalar, isSeq, LineCounter, parseDocument } from 'yaml';
import { MachineFileError, type Position } from './file-error.js';
import { firstContradiction } from './meaning.js';
import { type MachineFile, machineSchema } from './schema.js';
import { type Complaint, firstComplaint, pathText } from './validate.js';

/** A machine file that was read, and checked as far as no driver is needed. */
export interface MachineSource {
  /** Path as it was given, or `machine` for an object. */
  readonly file: string;
  /** What relative paths in it start from. */
  readonly directory: string | undefined;
  readonly data: MachineFile;
  /** An error at a place in the file. */
  error(complaint: Complaint, cause?: unknown): MachineFileError;
}

/**
 * Reads a machine file, or takes an object in its place.
 *
 * @throws MachineFileError - it can not be read, is no YAML, or is no machine
 */
export function readMachine(source: string | MachineFile): MachineSource {
  return typeof source === 'string' ? readFile(source) : check('machine', undefined, source, () => undefined);
}

function readFile(file: string): MachineSource {
  const lines = new LineCounter();
  const document = parseDocument(textOf(file), { lineCounter: lines, prettyErrors: false });
  const [error] = document.errors;
  if (error) {
    const { line, col } = lines.linePos(error.pos[0]);
    throw new MachineFileError(file, '', `this is no YAML: ${error.message}`, { line, column: col });
  }
  const data = dataOf(document, file);
  const nameless = isMap(document.contents) && !document.has('name');
  const named = nameless ? { ...(data as object), name: basename(file).replace(/\.(ya?ml|json)$/i, '') } : data;
  return check(file, dirname(resolve(file)), named, (path) => positionOf(document, lines, path));
}

/** @throws MachineFileError - references that lead nowhere, or to too much */
function dataOf(document: Document, file: string): unknown {
  try {
    const data: unknown = document.toJS();
    return data;
  } catch (cause) {
    throw new MachineFileError(file, '', `this is no YAML: ${messageOf(cause)}`, undefined, { cause });
  }
}

function textOf(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    const absent = cause instanceof Error && 'code' in cause && cause.code === 'ENOENT';
    const reason = absent ? 'no such file' : messageOf(cause);
    throw new MachineFileError(file, '', `${reason}: give the path of a machine file`, undefined, { cause });
  }
}

function messageOf(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

function check(
  file: string,
  directory: string | undefined,
  data: unknown,
  position: (path: Complaint['path']) => Position | undefined,
): MachineSource {
  const error = ({ path, problem }: Complaint, cause?: unknown) => {
    const options = cause === undefined ? {} : { cause };
    return new MachineFileError(file, pathText(path), problem, position(path), options);
  };
  const complaint = firstComplaint(machineSchema, data);
  if (complaint) throw error(complaint);
  const machine = data as MachineFile;
  const contradiction = firstContradiction(machine);
  if (contradiction) throw error(contradiction);
  return { file, directory, data: machine, error };
}

/** Where the thing at a path stands: its key if it has one, else itself, else what it is missing from. */
function positionOf(document: Document, lines: LineCounter, path: Complaint['path']): Position | undefined {
  for (let length = path.length; length >= 0; length--) {
    const at = offsetOf(document, path.slice(0, length));
    if (at === undefined) continue;
    const { line, col } = lines.linePos(at);
    return { line, column: col };
  }
  return undefined;
}

function offsetOf(document: Document, path: Complaint['path']): number | undefined {
  let node: unknown = document.contents;
  let at = rangeStart(node);
  for (const key of path) {
    if (isMap(node)) {
      const pair = node.items.find((item) => isScalar(item.key) && String(item.key.value) === String(key));
      if (!pair) return undefined;
      at = rangeStart(pair.key);
      node = pair.value;
    } else if (isSeq(node) && typeof key === 'number') {
      node = node.items[key];
      at = rangeStart(node);
    } else return undefined;
  }
  return at;
}

function rangeStart(node: unknown): number | undefined {
  if (typeof node !== 'object' || node === null || !('range' in node) || !Array.isArray(node.range)) return undefined;
  const start: unknown = node.range[0];
  return typeof start === 'number' ? start : undefined;
}
