// Which driver packages are installed: everything under `@vfio` that exports `./machine`, what the project's own
// package.json lists with the keyword `vfio-driver`, and what a machine file names.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DriverPackage } from '@vfio/core';

/** The keyword by which a package says that it is a driver package. */
const driverKeyword = 'vfio-driver';
const scope = '@vfio';

/** A driver package that is there but can not be used, or one that should be there and is not. */
export class DriverPackageError extends Error {
  override readonly name = 'DriverPackageError';
}

/** A package that was found, and what it exports. */
interface Found {
  readonly name: string;
  readonly driver: DriverPackage;
}

/**
 * Finds and loads the driver packages that can be seen from some directories.
 *
 * @param directories - of the machine file, of the caller, of the program
 * @param named - packages that must be there; their sections are theirs, whoever else answers to them
 * @returns one of each section; of a package that is installed several times the first directory's
 * @throws DriverPackageError - a named package is not installed, one can not be loaded or does not export what it should,
 *   or two answer to the same section
 */
export async function discoverDrivers(
  directories: readonly string[],
  named: readonly string[] = [],
): Promise<DriverPackage[]> {
  const bySection = new Map<string, Found>();
  for (const name of new Set(named)) {
    const driver = await loadFromAny(name, directories);
    if (!driver) throw new DriverPackageError(`driver package '${name}' is not installed: npm install ${name}`);
    addTo(bySection, { name, driver });
  }
  const own = new Set(bySection.keys());
  const seen = new Set(named);
  for (const directory of directories) {
    for (const name of candidates(directory)) {
      if (seen.has(name)) continue;
      const driver = await load(name, directory);
      if (!driver) continue;
      seen.add(name);
      if (!own.has(driver.section)) addTo(bySection, { name, driver });
    }
  }
  return [...bySection.values()].map(({ driver }) => driver);
}

function addTo(bySection: Map<string, Found>, found: Found): void {
  const { section } = found.driver;
  const other = bySection.get(section);
  if (other) {
    const both = `driver packages '${other.name}' and '${found.name}'`;
    throw new DriverPackageError(`${both} both answer to section '${section}': name the one to use under 'drivers'`);
  }
  bySection.set(section, found);
}

async function loadFromAny(name: string, directories: readonly string[]): Promise<DriverPackage | undefined> {
  for (const directory of directories) {
    const driver = await load(name, directory);
    if (driver) return driver;
  }
  for (const directory of directories) {
    if (manifestOf(name, directory)) {
      throw new DriverPackageError(`'${name}' is no driver package: it exports no './machine'`);
    }
  }
  return undefined;
}

/** What is looked at of a package.json. */
interface Manifest {
  readonly exports?: unknown;
  readonly keywords?: unknown;
  readonly dependencies?: unknown;
  readonly devDependencies?: unknown;
}

/** Names of the packages that may be driver packages, as seen from a directory. */
function candidates(directory: string): string[] {
  const names = new Set<string>();
  for (const at of upward(directory)) {
    const inScope = join(at, 'node_modules', scope);
    for (const entry of existsSync(inScope) ? readdirSync(inScope).sort() : []) {
      if (exportsMachine(manifestAt(join(inScope, entry)))) names.add(`${scope}/${entry}`);
    }
    const { dependencies, devDependencies } = manifestAt(at) ?? {};
    for (const name of [...keysOf(dependencies), ...keysOf(devDependencies)]) {
      const keywords = manifestOf(name, at)?.keywords;
      if (Array.isArray(keywords) && keywords.includes(driverKeyword)) names.add(name);
    }
  }
  return [...names];
}

/** The manifest of a package as a program in a directory would find it: in the nearest node_modules above. */
function manifestOf(name: string, directory: string): Manifest | undefined {
  for (const at of upward(directory)) {
    const manifest = manifestAt(join(at, 'node_modules', name));
    if (manifest) return manifest;
  }
  return undefined;
}

function* upward(directory: string): Generator<string> {
  for (let at = directory; ; at = dirname(at)) {
    yield at;
    if (dirname(at) === at) return;
  }
}

/** The package.json in a directory, if there is one that can be read. */
function manifestAt(directory: string): Manifest | undefined {
  try {
    const manifest: unknown = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
    return typeof manifest === 'object' && manifest !== null ? manifest : undefined;
  } catch {
    return undefined; // somebody else's: whoever uses it hears what is wrong with it
  }
}

function exportsMachine(manifest: Manifest | undefined): boolean {
  return keysOf(manifest?.exports).includes('./machine');
}

function keysOf(value: unknown): string[] {
  return typeof value === 'object' && value !== null ? Object.keys(value) : [];
}

/**
 * @returns undefined if no such package can be seen from the directory, or it has no `./machine`
 * @throws DriverPackageError - it can not be loaded, or exports something else
 */
async function load(name: string, directory: string): Promise<DriverPackage | undefined> {
  const specifier = `${name}/machine`;
  const importIt = await resolveFrom(specifier, directory);
  if (!importIt) return undefined;
  const module = await importNow(specifier, importIt);
  if (
    typeof module !== 'object' ||
    module === null ||
    !('driverPackage' in module) ||
    !isDriverPackage(module.driverPackage)
  ) {
    throw new DriverPackageError(`${specifier} does not export a driverPackage: ask its author`);
  }
  return module.driverPackage;
}

async function importNow(specifier: string, importIt: () => unknown): Promise<unknown> {
  try {
    return await importIt();
  } catch (cause) {
    const reason = cause instanceof Error ? cause.message : String(cause);
    throw new DriverPackageError(`${specifier} can not be loaded: ${reason}`, { cause });
  }
}

/** What errors of the module loader say when there is nothing to load. */
const absences: ReadonlySet<unknown> = new Set([
  'ERR_MODULE_NOT_FOUND',
  'MODULE_NOT_FOUND',
  'ERR_PACKAGE_PATH_NOT_EXPORTED',
  'ERR_INVALID_MODULE_SPECIFIER',
]);

/**
 * Resolves in the module format that this code runs in itself: the two copies of a package do not know each other's classes.
 *
 * @returns what loads it; undefined if there is nothing of that name
 */
async function resolveFrom(specifier: string, directory: string): Promise<(() => unknown) | undefined> {
  try {
    if (typeof require === 'function' && typeof module === 'object') {
      const { createRequire } = await import('node:module');
      const require = createRequire(join(directory, 'noop.cjs'));
      const path = require.resolve(specifier);
      return () => require(path);
    }
    const { resolve } = await import('import-meta-resolve');
    const url = resolve(specifier, pathToFileURL(join(directory, 'noop.js')).href);
    return () => import(url);
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (absences.has(code)) return undefined;
    throw error;
  }
}

function isDriverPackage(value: unknown): value is DriverPackage {
  return (
    typeof value === 'object' &&
    value !== null &&
    'section' in value &&
    typeof value.section === 'string' &&
    'schema' in value &&
    typeof value.schema === 'object' &&
    'modules' in value &&
    Array.isArray(value.modules) &&
    'build' in value &&
    typeof value.build === 'function' &&
    'define' in value &&
    typeof value.define === 'function'
  );
}
