// A project of somebody who uses the packages: installed with npm from tarballs, outside of the workspace.

import { spawnSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { withoutTopLevelAwait } from './readme.mjs';

const require = createRequire(import.meta.url);
const tsc = require.resolve('typescript/bin/tsc');

/**
 * Runs a program in a directory.
 *
 * @param {string} directory
 * @param {string} command
 * @param {string[]} words
 * @returns {string | undefined} what it said if it failed
 */
export function failure(directory, command, words) {
  const { status, signal, stdout, stderr, error } = spawnSync(command, words, { cwd: directory, encoding: 'utf8' });
  if (error) return error.message;
  return status === 0 ? undefined : `${command} ${words.join(' ')} ended with ${signal ?? status}\n${stdout}${stderr}`;
}

function writeJson(directory, name, value) {
  writeFileSync(join(directory, name), JSON.stringify(value, undefined, 2));
}

/**
 * Makes a project and installs packages in it. What they need of each other comes from tarballs too, everything else from
 * the registry.
 *
 * @param {string} directory
 * @param {string[]} names - packages to install
 * @param {Map<string, string>} tarballs - path of each packed package
 */
export function createProject(directory, names, tarballs) {
  mkdirSync(directory, { recursive: true });
  const spec = (name) => (tarballs.has(name) ? `file:${tarballs.get(name)}` : 'latest');
  const others = [...tarballs.keys()].filter((name) => !names.includes(name));
  writeJson(directory, 'package.json', {
    name: 'project',
    private: true,
    dependencies: Object.fromEntries(names.map((name) => [name, spec(name)])),
    overrides: Object.fromEntries(others.map((name) => [name, spec(name)])),
  });
  return failure(directory, 'npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', '--loglevel=error']);
}

/** Packages of ours that npm took from somewhere else than the tarballs, or installed twice. */
export function strangers(directory) {
  const lock = JSON.parse(readFileSync(join(directory, 'package-lock.json'), 'utf8'));
  return Object.entries(lock.packages)
    .filter(([path, { resolved }]) => {
      const name = path.split('node_modules/').at(-1);
      if (!name?.startsWith('@vfio/')) return false;
      return !resolved?.startsWith('file:') || path !== `node_modules/${name}`;
    })
    .map(([path]) => path);
}

const strict = {
  strict: true,
  exactOptionalPropertyTypes: true,
  noUncheckedIndexedAccess: true,
  noEmit: true,
  target: 'ES2022',
  lib: ['ES2023', 'ESNext.Disposable'],
  types: ['node'],
};

/** How a project may resolve modules, and the files of the example that it sees. */
const resolutions = {
  nodenext: { module: 'NodeNext', files: ['example.mts', 'example.cts'] },
  bundler: { module: 'ESNext', files: ['example.ts'] },
};

/**
 * Checks the types of an example the way projects of two kinds do. The declarations of the packages are checked along.
 *
 * @param {string} directory
 * @param {string} code
 * @param {'nodenext' | 'bundler'} resolution
 */
export function checkTypes(directory, code, resolution) {
  const { module, files } = resolutions[resolution];
  for (const file of files) {
    writeFileSync(join(directory, file), file.endsWith('.cts') ? withoutTopLevelAwait(code) : code);
  }
  const config = `tsconfig.${resolution}.json`;
  writeJson(directory, config, { compilerOptions: { ...strict, module, moduleResolution: resolution }, files });
  return failure(directory, process.execPath, [tsc, '-p', config]);
}

/** Runs every command that the installed package brings. */
export function checkCommands(directory, manifest) {
  const commands = Object.keys(manifest.publishConfig?.bin ?? manifest.bin ?? {});
  return commands
    .map((name) => failure(directory, join(directory, 'node_modules', '.bin', name), ['--help']))
    .find((problem) => problem);
}

/** What should not be in a published package. */
export function checkContents(directory, name) {
  const home = join(directory, 'node_modules', name);
  const manifest = readFileSync(join(home, 'package.json'), 'utf8');
  const problems = [];
  for (const word of ['workspace:', 'catalog:', '@vfio/source']) {
    if (manifest.includes(word)) problems.push(`package.json has '${word}'`);
  }
  const files = readdirSync(home);
  for (const wanted of ['README.md', 'LICENSE', 'dist', 'src']) {
    if (!files.includes(wanted)) problems.push(`has no ${wanted}`);
  }
  for (const unwanted of ['test', 'tsconfig.json', '.turbo']) {
    if (files.includes(unwanted)) problems.push(`has ${unwanted}`);
  }
  return problems.length > 0 ? problems.join('\n') : undefined;
}
