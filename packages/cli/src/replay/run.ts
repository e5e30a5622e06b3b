// Replays scripts against what a real kernel answered, one after the other.

import { existsSync } from 'node:fs';
import {
  findGolden,
  loadDeviations,
  loadScript,
  loadTranscript,
  type ReplayResult,
  replayScript,
  type ScriptHeader,
} from '@vfio/testing';
import { CommandError, failureOf } from '../errors.js';
import { ScriptMachines, type ScriptMachinesOptions } from './machines.js';
import { findScripts, findUpward, type ScriptPath } from './scripts.js';

/** What became of a script. */
export type ScriptOutcome = { readonly path: string; readonly explicit: boolean } & (
  | { readonly kind: 'replayed'; readonly result: ReplayResult }
  /** No installed package offers what it needs. */
  | { readonly kind: 'waiting'; readonly modules: readonly string[] }
  /** It could not even begin. */
  | { readonly kind: 'failed'; readonly reason: string }
);

/** How to replay. */
export interface ReplayRunOptions extends ScriptMachinesOptions {
  /** List of deviations; the nearest deviations.json upward from each script by default. */
  readonly deviations?: string;
  readonly signal?: AbortSignal;
  /** Called before each script is replayed. */
  onStart?(path: string, index: number, count: number): void;
}

/**
 * Replays scripts.
 *
 * @param paths - scripts, and folders of them
 * @throws CommandError - a path leads to no script
 */
export async function* runReplay(
  paths: readonly string[],
  options: ReplayRunOptions,
): AsyncGenerator<ScriptOutcome, void, undefined> {
  const scripts = findScripts(paths);
  const machines = new ScriptMachines(options);
  for (const [index, script] of scripts.entries()) {
    options.signal?.throwIfAborted();
    options.onStart?.(script.path, index, scripts.length);
    yield await outcomeOf(script, machines, options);
  }
}

async function outcomeOf(
  { path, explicit }: ScriptPath,
  machines: ScriptMachines,
  options: ReplayRunOptions,
): Promise<ScriptOutcome> {
  try {
    const script = await loadScript(path);
    const modules = await machines.missingModules(script.header);
    if (modules.length > 0) return { path, explicit, kind: 'waiting', modules };
    const golden = await loadTranscript(await findGolden(path));
    const deviations = await deviationsFor(path, options.deviations);
    const createMachine = (header: ScriptHeader) => machines.create(path, header);
    return {
      path,
      explicit,
      kind: 'replayed',
      result: await replayScript(script, golden, { createMachine, deviations }),
    };
  } catch (error) {
    return { path, explicit, kind: 'failed', reason: failureOf(error).message };
  }
}

async function deviationsFor(path: string, given: string | undefined) {
  if (given !== undefined && !existsSync(given)) throw new CommandError(`no such file: ${given}`);
  const file = given ?? findUpward(path, 'deviations.json');
  return file === undefined ? [] : loadDeviations(file);
}
