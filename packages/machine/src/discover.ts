// Which driver packages are installed: everything under `@vfio` that exports `./machine`, what the project's own
// package.json lists with the keyword `vfio-driver`, and what a machine file names.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { pathToFileURL } from 'node:url';
import type { DriverPackage } from '@vfio/core';

/** The keyword by which a package says that it is a driver package. */
const driverKeyword = 'vfio-driver';
const scope = '@vfio';

/** A driver package that is there but can not be used. */
export class DriverPackageError extends Error {
  override readonly name = 'DriverPackageError';
}

interface Manifest {
  readonly name?: string;
  readonly keywords?: readonly string[];
  readonly dependencies?: Readonly<Record<string, string>>;
  readonly devDependencies?: Readonly<Record<string, string>>;
}

/**
 * Finds and loads the driver packages that can be seen from some directories.
 *
 * @param directories - of the machine file, of the caller, of the program
 * @param named - packages that must be there
 * @returns one of each section; the first directory wins
 * @throws DriverPackageError - a named package is not installed, or one does not export what it should
 */
export async function discoverDrivers(
  directories: readonly string[],
  named: readonly string[] = [],
): Promise<DriverPackage[]> {
  const found = new Map<string, DriverPackage>();
  const seen = new Set<string>();
  for (const directory of directories) {
    for (const name of candidates(directory)) {
      if (seen.has(name)) continue;
      seen.add(name);
      const driver = await load(name, directory);
      if (driver && !found.has(driver.section)) found.set(driver.section, driver);
    }
  }
  for (const name of named) {
    if (seen.has(name)) continue;
    const driver = await loadFromAny(name, directories);
    if (!driver) throw new DriverPackageError(`driver package '${name}' is not installed: npm install ${name}`);
    found.set(driver.section, driver);
  }
  return [...found.values()];
}

async function loadFromAny(name: string, directories: readonly string[]): Promise<DriverPackage | undefined> {
  for (const directory of directories) {
    const driver = await load(name, directory);
    if (driver) return driver;
  }
  return undefined;
}

/** Names of the packages that may be driver packages, as seen from a directory. */
function candidates(directory: string): string[] {
  const names = new Set<string>();
  for (let at = directory; ; at = dirname(at)) {
    const inScope = join(at, 'node_modules', scope);
    if (existsSync(inScope)) {
      for (const entry of readdirSync(inScope)) {
        if (exportsMachine(join(inScope, entry, 'package.json'))) names.add(`${scope}/${entry}`);
      }
    }
    const { dependencies, devDependencies } = manifestAt(join(at, 'package.json'));
    for (const name of Object.keys({ ...dependencies, ...devDependencies })) {
      const manifest = manifestAt(join(at, 'node_modules', name, 'package.json'));
      if (manifest.keywords?.includes(driverKeyword)) names.add(name);
    }
    if (dirname(at) === at) return [...names];
  }
}

function manifestAt(path: string): Manifest {
  if (!existsSync(path)) return {};
  try {
    const manifest: unknown = JSON.parse(readFileSync(path, 'utf8'));
    return typeof manifest === 'object' && manifest !== null ? manifest : {};
  } catch {
    return {};
  }
}

function exportsMachine(path: string): boolean {
  const manifest = manifestAt(path);
  return (
    'exports' in manifest &&
    typeof manifest.exports === 'object' &&
    manifest.exports !== null &&
    './machine' in manifest.exports
  );
}

async function load(name: string, directory: string): Promise<DriverPackage | undefined> {
  const module = await importFrom(`${name}/machine`, directory);
  if (module === undefined) return undefined;
  if (
    typeof module !== 'object' ||
    module === null ||
    !('driverPackage' in module) ||
    !isDriverPackage(module.driverPackage)
  ) {
    throw new DriverPackageError(`${name}/machine does not export a driverPackage: ask its author`);
  }
  return module.driverPackage;
}

/** In the module format that this code runs in itself: the two copies of a package do not know each other's classes. */
async function importFrom(specifier: string, directory: string): Promise<unknown> {
  try {
    if (typeof require === 'function' && typeof module === 'object') {
      const { createRequire } = await import('node:module');
      const from: unknown = createRequire(join(directory, 'noop.cjs'))(specifier);
      return from;
    }
    const { resolve } = await import('import-meta-resolve');
    const loaded: unknown = await import(resolve(specifier, pathToFileURL(join(directory, 'noop.js')).href));
    return loaded;
  } catch (error) {
    const code = error instanceof Error && 'code' in error ? error.code : undefined;
    if (code === 'ERR_MODULE_NOT_FOUND' || code === 'MODULE_NOT_FOUND' || code === 'ERR_PACKAGE_PATH_NOT_EXPORTED')
      return undefined;
    throw error;
  }
}

function isDriverPackage(value: unknown): value is DriverPackage {
  return (
    typeof value === 'object' &&
    value !== null &&
    'section' in value &&
    typeof value.section === 'string' &&
    'modules' in value &&
    Array.isArray(value.modules) &&
    'build' in value &&
    typeof value.build === 'function' &&
    'define' in value &&
    typeof value.define === 'function'
  );
}
