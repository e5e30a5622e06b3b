// What a run of a script leaves behind: one object for each step, and their text, one line of JSON for each.

/** A value in a transcript. */
export type TranscriptValue =
  | string
  | number
  | bigint
  | boolean
  | readonly TranscriptValue[]
  | { readonly [key: string]: TranscriptValue };

/** What a command found out, in the order in which it stands in the transcript. */
export interface StepResult {
  /** What failed, where a command makes several calls: `open`, `read`, `write`. */
  at?: string;
  /** What the call returned; a word where the number means nothing; -1 for an error. */
  ret?: number | bigint | string;
  errno?: string;
  /** Bytes that came back, in hex; `pp`, `nn` and `..` for bytes without meaning. */
  out?: string;
  fields?: Record<string, number | string>;
  len?: number;
  crc32?: string;
  value?: string;
  values?: readonly string[];
  fault?: string;
  equal?: boolean;
  signaled?: boolean;
  count?: number | bigint;
  revents?: string;
  ok?: boolean;
  orig?: string;
  writes?: readonly string[];
  text?: string;
  names?: readonly string[];
  target?: string;
  lines?: readonly string[];
  type?: string;
  mode?: string;
  uid?: number;
  gid?: number;
  size?: number | bigint;
  major?: number;
  minor?: number;
  status?: number;
  exited?: boolean;
}

/** One step. */
export interface TranscriptStep extends StepResult {
  /** Number of the step in its process, from 1. */
  n: number;
  /** Line of the script. */
  line: number;
  /** Name of the spawned process; absent in the first one. */
  proc?: string;
  op: string;
  /** The line before variables are filled in. */
  src: string;
  /** Values of the loop variables, the outermost first. */
  bind?: Record<string, string>;
}

/** The last line of a run that came to its end. */
export interface TranscriptEnd {
  end: true;
  steps: number;
}

/** A run that could not go on: a step took too long, or its line cannot be carried out. */
export interface TranscriptFatal {
  line: number;
  proc?: string;
  fatal: string;
}

/** One line of a transcript. */
export type TranscriptLine = TranscriptStep | TranscriptEnd | TranscriptFatal;

/** Whether a line of a transcript is a step. */
export function isStep(line: TranscriptLine): line is TranscriptStep {
  return 'n' in line;
}

/**
 * A line of a transcript as JSON, without the line end: the text is the one that the recordings have.
 *
 * @param line - its keys are written in the order in which they were set
 */
export function formatLine(line: TranscriptLine): string {
  return formatObject(Object.entries(line));
}

/**
 * Reads a transcript.
 *
 * @param text - one JSON object for each line; empty lines are skipped
 * @param file - for the error
 * @throws SyntaxError - a line is not a line of a transcript
 */
export function parseTranscript(text: string, file: string): TranscriptLine[] {
  const lines: TranscriptLine[] = [];
  for (const [index, line] of text.split('\n').entries()) {
    if (line.trim() === '') continue;
    lines.push(parseLine(line, `${file}:${index + 1}`));
  }
  return lines;
}

function parseLine(text: string, where: string): TranscriptLine {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new SyntaxError(`${where}: not JSON`, { cause });
  }
  if (!isTranscriptLine(value)) throw new SyntaxError(`${where}: neither a step, nor an end, nor a fatal error`);
  return value;
}

function isTranscriptLine(value: unknown): value is TranscriptLine {
  if (typeof value !== 'object' || value === null) return false;
  if ('end' in value) return value.end === true && 'steps' in value && typeof value.steps === 'number';
  if (!('line' in value) || typeof value.line !== 'number') return false;
  if ('fatal' in value) return typeof value.fatal === 'string';
  return 'n' in value && typeof value.n === 'number' && 'op' in value && typeof value.op === 'string' && 'src' in value;
}

function formatObject(entries: readonly (readonly [string, unknown])[]): string {
  const parts = entries.map(([key, value]) => `${formatString(key)}:${formatValue(value)}`);
  return `{${parts.join(',')}}`;
}

function formatValue(value: unknown): string {
  if (typeof value === 'string') return formatString(value);
  if (Array.isArray(value)) return `[${value.map(formatValue).join(',')}]`;
  if (typeof value === 'object' && value !== null) return formatObject(Object.entries(value));
  return String(value);
}

function formatString(text: string): string {
  // biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what is escaped
  return `"${text.replace(/["\\]|[\0-\x1f]|[^\0-\x7e]/g, escaped)}"`;
}

function escaped(char: string): string {
  if (char === '"' || char === '\\') return `\\${char}`;
  if (char === '\n') return '\\n';
  if (char === '\t') return '\\t';
  return `\\u${char.charCodeAt(0).toString(16).padStart(4, '0')}`;
}
