// The `!options` of a step: what to keep of its answer, and what of it to show.

import { ScriptMistake } from './errors.js';
import { type Scalar, scalarType } from './scalar.js';

/** `NAME:TYPE@OFFSET` */
export interface NamedScalar {
  readonly name: string;
  readonly scalar: Scalar;
  readonly offset: number;
}

/** What a step may ask for besides the step itself. */
export interface StepOptions {
  /** No bytes, names or texts in the transcript. */
  quiet: boolean;
  /** Length and CRC-32 instead of the bytes. */
  crc: boolean;
  /** Hides a positive return value. */
  noret: boolean;
  /** Uses address 8 as the buffer. */
  badptr: boolean;
  /** Keeps the output of `run`. */
  out: boolean;
  /** Name for a returned descriptor. */
  fd?: string;
  /** Variable for the text of a file. */
  text?: string;
  /** Variable for the last part of a link's target. */
  base?: string;
  /** Name for the bytes. */
  blob?: string;
  /** Least size of the structure, in bytes. */
  room: number;
  /** Bytes to hide. */
  masks: { readonly offset: number; readonly length: number }[];
  /** Descriptors in the structure. */
  descriptors: { readonly name: string; readonly offset: number }[];
  /** Numbers to keep in variables. */
  saves: NamedScalar[];
  /** Numbers to show as further fields. */
  shows: NamedScalar[];
}

/**
 * Takes the options out of the words of a step.
 *
 * @param words - the command first
 * @param evaluate - the value of an expression
 * @returns the words that are left, and what the options say
 * @throws ScriptMistake - an option is unknown, or its form is wrong
 */
export function takeOptions(
  words: readonly string[],
  evaluate: (text: string) => bigint,
): { words: string[]; options: StepOptions } {
  const options: StepOptions = {
    quiet: false,
    crc: false,
    noret: false,
    badptr: false,
    out: false,
    room: 0,
    masks: [],
    descriptors: [],
    saves: [],
    shows: [],
  };
  const rest = words.filter((word) => !isOption(word));
  for (const word of words.filter(isOption)) readOption(word.slice(1), options, evaluate);
  return { words: rest, options };
}

function isOption(word: string): boolean {
  return word.startsWith('!') && word.length > 1;
}

function readOption(text: string, options: StepOptions, evaluate: (text: string) => bigint): void {
  const equals = text.indexOf('=');
  const key = equals < 0 ? text : text.slice(0, equals);
  const value = equals < 0 ? undefined : text.slice(equals + 1);
  if (value === undefined) {
    switch (key) {
      case 'quiet':
      case 'crc':
      case 'noret':
      case 'badptr':
      case 'out':
        options[key] = true;
        return;
    }
    throw new ScriptMistake(`unknown option !${text}`);
  }
  switch (key) {
    case 'fd':
    case 'text':
    case 'base':
    case 'blob':
      options[key] = value;
      return;
    case 'room':
      options.room = size(evaluate(value), '!room');
      return;
    case 'mask': {
      const [offset, length] = splitPair(value, ':', '!mask needs OFFSET:LENGTH');
      options.masks.push({ offset: size(evaluate(offset), '!mask'), length: size(evaluate(length), '!mask') });
      return;
    }
    case 'fdat': {
      const [name, offset] = splitPair(value, '@', '!fdat needs NAME@OFFSET');
      options.descriptors.push({ name, offset: size(evaluate(offset), '!fdat') });
      return;
    }
    case 'save':
      options.saves.push(namedScalar(value, evaluate));
      return;
    case 'show':
      options.shows.push(namedScalar(value, evaluate));
      return;
  }
  throw new ScriptMistake(`unknown option !${text}`);
}

function namedScalar(text: string, evaluate: (text: string) => bigint): NamedScalar {
  const parts = /^([^:@]*):([^@]*)@(.*)$/s.exec(text);
  const [, name, type, offset] = parts ?? [];
  if (name === undefined || type === undefined || offset === undefined) {
    throw new ScriptMistake(`expected NAME:TYPE@OFFSET, got '${text}'`);
  }
  const scalar = scalarType(type);
  if (!scalar) throw new ScriptMistake(`bad type in '${text}'`);
  return { name, scalar, offset: size(evaluate(offset), `'${text}'`) };
}

function splitPair(text: string, separator: string, complaint: string): [string, string] {
  const at = text.indexOf(separator);
  if (at < 0) throw new ScriptMistake(complaint);
  return [text.slice(0, at), text.slice(at + 1)];
}

/** Offsets and lengths inside a buffer; whatever is larger than a buffer can be is a slip of the pen. */
function size(value: bigint, what: string): number {
  if (value > 1n << 32n) throw new ScriptMistake(`${what}: ${value} is too large`);
  return Number(value);
}
