// From the text of a script to its logical lines, and from a line to its words. Where a word begins and ends is known
// before the script runs; what a variable in it stands for only when the line is reached, so a word is a template.

import { ScriptError, ScriptMistake } from './errors.js';

/** A line as the interpreter sees it: continued lines joined by a blank, without blanks at its ends. */
export interface LogicalLine {
  /** Number of its first physical line, from 1. */
  readonly line: number;
  readonly text: string;
}

/** The place of a variable in a word. */
export interface VariableReference {
  readonly variable: string;
}

/** A word: literal parts and variables, in order. An empty word, `""`, has no parts. */
export type Word = readonly (string | VariableReference)[];

/**
 * Joins continued lines and drops empty ones and comments.
 *
 * @param text - the whole script
 * @param file - for the error
 * @throws ScriptError - the last line ends in a backslash
 */
export function logicalLines(text: string, file: string): LogicalLine[] {
  const lines: LogicalLine[] = [];
  let pending: { line: number; text: string } | undefined;
  const physical = text.split('\n');
  for (const [index, raw] of physical.entries()) {
    const line = trim(raw.replace(/\r+$/, ''));
    if (pending) {
      pending.text = `${pending.text} ${line}`;
    } else {
      if (line === '' || line.startsWith('#')) continue;
      pending = { line: index + 1, text: line };
    }
    if (pending.text.endsWith('\\')) {
      pending.text = trimEnd(pending.text.slice(0, -1));
      continue;
    }
    lines.push(pending);
    pending = undefined;
  }
  if (pending) throw new ScriptError(file, pending.line, 'the last line ends in a backslash, but nothing follows');
  return lines;
}

/**
 * Splits a line into words. Blanks separate words; `"..."` keeps them, and knows `\n`, `\t`, `\"` and `\\`;
 * `$NAME` and `${NAME}` stand for variables, `$$` for a dollar sign; a word that begins with `#` ends the line.
 *
 * @throws ScriptMistake - a quote or a brace is not closed, or a `$` has no name
 */
export function splitWords(text: string): Word[] {
  const words: Word[] = [];
  let at = 0;
  for (;;) {
    while (isBlank(text[at])) at++;
    if (at >= text.length || text[at] === '#') return words;
    const word = readWord(text, at);
    words.push(word.parts);
    at = word.end;
  }
}

/**
 * Puts the values of the variables into a word.
 *
 * @param lookup - a variable's value, or undefined if there is no such variable
 * @throws ScriptMistake - a variable is unknown
 */
export function expandWord(word: Word, lookup: (name: string) => string | undefined): string {
  let result = '';
  for (const part of word) {
    if (typeof part === 'string') {
      result += part;
      continue;
    }
    const value = lookup(part.variable);
    if (value === undefined) throw new ScriptMistake(`unknown variable ${part.variable}`);
    result += value;
  }
  return result;
}

/** The text of a word without variables; undefined for one that has some. */
export function literalWord(word: Word | undefined): string | undefined {
  if (word?.some((part) => typeof part !== 'string')) return undefined;
  return word?.join('');
}

function readWord(text: string, start: number): { parts: Word; end: number } {
  const parts: (string | VariableReference)[] = [];
  let literal = '';
  let quoted = false;
  let at = start;
  while (at < text.length && (quoted || !isBlank(text[at]))) {
    const char = text[at] ?? '';
    if (char === '"') {
      quoted = !quoted;
      at++;
    } else if (char === '\\' && quoted && at + 1 < text.length) {
      literal += unescaped(text[at + 1] ?? '');
      at += 2;
    } else if (char === '$' && text[at + 1] === '$') {
      literal += '$';
      at += 2;
    } else if (char === '$') {
      if (literal !== '') parts.push(literal);
      literal = '';
      const reference = readReference(text, at + 1);
      parts.push({ variable: reference.variable });
      at = reference.end;
    } else {
      literal += char;
      at++;
    }
  }
  if (quoted) throw new ScriptMistake('unbalanced quote');
  if (literal !== '') parts.push(literal);
  return { parts, end: at };
}

function readReference(text: string, start: number): VariableReference & { end: number } {
  const braced = text[start] === '{';
  const from = braced ? start + 1 : start;
  const variable = /^\w*/.exec(text.slice(from))?.[0] ?? '';
  const end = from + variable.length;
  if (braced && text[end] !== '}') throw new ScriptMistake(`missing } in \${${variable}`);
  if (variable === '') throw new ScriptMistake('a $ without the name of a variable');
  return { variable, end: braced ? end + 1 : end };
}

function unescaped(char: string): string {
  if (char === 'n') return '\n';
  return char === 't' ? '\t' : char;
}

function isBlank(char: string | undefined): boolean {
  return char === ' ' || char === '\t';
}

function trim(text: string): string {
  return trimEnd(text.replace(/^[ \t]+/, ''));
}

function trimEnd(text: string): string {
  return text.replace(/[ \t]+$/, '');
}
