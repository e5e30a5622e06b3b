// Scripts, recorded answers and deviations on disk.

import { readdir, readFile } from 'node:fs/promises';
import { basename, dirname, join, resolve } from 'node:path';
import { parseScript, type Script } from '../script/parse.js';
import { parseTranscript, type TranscriptLine } from '../script/transcript.js';
import { type Deviation, parseDeviations } from './deviations.js';

/** There are no recorded answers to a script where they should be. */
export class GoldenNotFoundError extends Error {
  override readonly name = 'GoldenNotFoundError';
  /** The script's file name. */
  readonly script: string;

  constructor(script: string, message: string) {
    super(message);
    this.script = script;
  }
}

/**
 * Reads a script.
 *
 * @throws ScriptError - it cannot be understood
 */
export async function loadScript(path: string): Promise<Script> {
  return parseScript(await readFile(path, 'utf8'), basename(path));
}

/**
 * Reads a transcript.
 *
 * @throws SyntaxError - a line is not a line of a transcript
 */
export async function loadTranscript(path: string): Promise<TranscriptLine[]> {
  return parseTranscript(await readFile(path, 'utf8'), basename(path));
}

/**
 * Reads a list of deviations; a file that does not exist is an empty list.
 *
 * @throws SyntaxError - it is not a list of deviations
 */
export async function loadDeviations(path: string): Promise<Deviation[]> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
  return parseDeviations(text, path);
}

/**
 * Finds the recorded answers to a script: `golden/<any folder>/<name>.jsonl` next to the script or in a folder above it. Names of
 * scripts are unique, so that the folder does not matter.
 *
 * @param scriptPath - `transcripts/scripts/mtty-irq.vfs`
 * @returns the path of the transcript
 * @throws GoldenNotFoundError - there is none, or more than one in the same place
 */
export async function findGolden(scriptPath: string): Promise<string> {
  const script = basename(scriptPath);
  const wanted = `${script.replace(/\.vfs$/, '')}.jsonl`;
  const searched: string[] = [];
  for (const folder of parents(dirname(resolve(scriptPath)))) {
    const golden = join(folder, 'golden');
    const found = await transcriptsIn(golden, wanted);
    const [only, second] = found;
    if (second !== undefined) {
      throw new GoldenNotFoundError(script, `several recorded answers to ${script}: ${found.join(', ')}`);
    }
    if (only !== undefined) return only;
    searched.push(golden);
  }
  const places = searched.map((place) => join(place, '*', wanted)).join(', ');
  throw new GoldenNotFoundError(script, `no recorded answers to ${script}: looked for ${places}`);
}

async function transcriptsIn(golden: string, wanted: string): Promise<string[]> {
  const found: string[] = [];
  for (const folder of await namesIn(golden)) {
    if ((await namesIn(join(golden, folder))).includes(wanted)) found.push(join(golden, folder, wanted));
  }
  return found;
}

async function namesIn(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (error) {
    if (isMissing(error)) return [];
    throw error;
  }
}

function isMissing(error: unknown): boolean {
  return error instanceof Error && 'code' in error && (error.code === 'ENOENT' || error.code === 'ENOTDIR');
}

function* parents(folder: string): Generator<string> {
  for (let at = folder; ; at = dirname(at)) {
    yield at;
    if (dirname(at) === at) return;
  }
}
