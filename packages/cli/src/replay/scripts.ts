// Which scripts are meant: files, and all that are in a folder; and what lies beside them.

import { existsSync, readdirSync, statSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import { CommandError } from '../errors.js';

/** A script to be replayed. */
export interface ScriptPath {
  readonly path: string;
  /** It was named itself, not only its folder. */
  readonly explicit: boolean;
}

const ending = '.vfs';

/**
 * The scripts that paths lead to, those of a folder in alphabetical order.
 *
 * @throws CommandError - there is nothing, or a folder without scripts
 */
export function findScripts(paths: readonly string[]): ScriptPath[] {
  const found: ScriptPath[] = [];
  for (const path of paths) {
    const kind = statSync(path, { throwIfNoEntry: false });
    if (!kind) throw new CommandError(`no script '${path}': give a .vfs file or a folder of them`);
    if (!kind.isDirectory()) found.push({ path, explicit: true });
    else {
      const inside = readdirSync(path, { recursive: true, encoding: 'utf8' })
        .filter((name) => name.endsWith(ending))
        .sort();
      if (inside.length === 0) throw new CommandError(`no scripts in '${path}': they end in ${ending}`);
      found.push(...inside.map((name) => ({ path: join(path, name), explicit: false })));
    }
  }
  const seen = new Set<string>();
  return found.filter(({ path }) => {
    const whole = resolve(path);
    return !seen.has(whole) && seen.add(whole);
  });
}

/** A file beside a script or in a folder above it; the nearest one. */
export function findUpward(script: string, name: string): string | undefined {
  for (let folder = dirname(resolve(script)); ; folder = dirname(folder)) {
    const path = join(folder, name);
    if (existsSync(path)) return path;
    if (dirname(folder) === folder) return undefined;
  }
}
