// One command from a fresh clone, with nothing but Node and npm: installs what is missing, has turbo do what is not done
// yet, and starts a program if the job is one.
//
//   node tools/dev.mjs test            whatever turbo knows: build, typecheck, lint, test:all, lint:package, ...
//   node tools/dev.mjs start --serve   a program, with the words behind its name

import { spawn } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { constants } from 'node:os';
import { fileURLToPath, pathToFileURL } from 'node:url';

const root = fileURLToPath(new URL('..', import.meta.url));
const { engines, packageManager } = JSON.parse(readFileSync(new URL('../package.json', import.meta.url), 'utf8'));

/** What a job asks of turbo; a job that is not here is a task of the same name. */
const tasks = {
  test: ['build', 'typecheck', 'typecheck:tools', 'lint', 'test:all'],
  'check:packages': ['lint:package'],
};

/** Jobs that are programs, run on what was built before. */
const programs = {
  start: 'tools/start/start.mjs',
  bench: 'tools/bench/dist/main.js',
  'bench:user': 'tools/bench/dist/user.js',
  guest: 'tools/guest/dist/main.js',
  'check:pack': 'tools/pack-check/run.mjs',
  'check:abi': 'tools/abi-check/run.mjs',
};

/** Where a quiet step says that it takes its time, in milliseconds. */
const patience = 1500;

/** `20.19.0` as a number that can be compared. */
function versionNumber(text) {
  const [major = 0, minor = 0, patch = 0] = text.split('.').map(Number);
  return (major * 1000 + minor) * 1000 + patch;
}

function checkNode() {
  const wanted = engines.node.replace('>=', '');
  if (versionNumber(process.versions.node) >= versionNumber(wanted)) return;
  throw new Error(`this needs Node ${wanted} or later, and is Node ${process.versions.node}: https://nodejs.org`);
}

/**
 * Runs a program to its end and passes on the signals that ask for it. What the terminal sends reaches the program by
 * itself, and twice would mean something else.
 *
 * @param {string} command
 * @param {string[]} words
 * @param {import('node:child_process').SpawnOptions} options
 * @returns {Promise<{ status: number, output: string }>}
 */
export function run(command, words, options) {
  return new Promise((resolve, reject) => {
    const child = spawn(command, words, { cwd: root, ...options });
    const output = [];
    for (const stream of [child.stdout, child.stderr]) stream?.on('data', (chunk) => output.push(chunk));
    /** @type {NodeJS.Signals[]} */
    const signals = ['SIGINT', 'SIGTERM', 'SIGHUP'];
    const forward = (signal) => {
      if (signal === 'SIGTERM' || !process.stdin.isTTY) child.kill(signal);
    };
    for (const signal of signals) process.on(signal, forward);
    child.on('error', reject);
    child.on('close', (code, signal) => {
      for (const one of signals) process.off(one, forward);
      const status = code ?? 128 + (signal ? constants.signals[signal] : 0);
      resolve({ status, output: Buffer.concat(output).toString() });
    });
  });
}

/**
 * Runs a line of the shell with pnpm and the tools of the workspace on the path; pnpm comes from the registry, at the
 * version that package.json names.
 *
 * @param {string} line
 * @param {import('node:child_process').SpawnOptions} [options]
 * @returns {Promise<{ status: number, output: string }>}
 */
export function withPnpm(line, options = { stdio: 'inherit' }) {
  const env = { TURBO_TELEMETRY_DISABLED: '1', DO_NOT_TRACK: '1', ...process.env };
  const words = ['exec', '--yes', '--prefer-offline', `--package=${packageManager}`, '-c', line];
  return run('npm', words, { env, ...options });
}

/**
 * Installs what is missing, then runs tasks of turbo.
 *
 * @param {string[]} names - tasks
 * @param {{ quiet?: boolean, words?: string[] }} [options] - quiet: what they print shows only when they fail
 * @returns {Promise<number>} exit status
 */
export async function turbo(names, { quiet = false, words = [] } = {}) {
  checkNode();
  // who is not watching wants to know all that is wrong
  const all = process.env.CI ? ' --continue=dependencies-successful' : '';
  const behind = words.length > 0 ? ` -- ${words.map(quoted).join(' ')}` : '';
  const line = `pnpm install --frozen-lockfile --prefer-offline && turbo run ${names.join(' ')}${all}${behind}`;
  if (!quiet) return (await withPnpm(line)).status;
  const notice = setTimeout(() => console.error('Installing and building what is missing ...'), patience);
  try {
    const { status, output } = await withPnpm(line, { stdio: ['ignore', 'pipe', 'pipe'] });
    if (status !== 0) process.stderr.write(output);
    return status;
  } finally {
    clearTimeout(notice);
  }
}

/**
 * Installs and builds in silence, then runs a program of the workspace with this terminal.
 *
 * @param {string} file - path from the root
 * @param {string[]} words - its arguments
 * @returns {Promise<number>} exit status
 */
export async function program(file, words) {
  const built = await turbo(['build'], { quiet: true });
  if (built !== 0) return built;
  return (await run(process.execPath, [file, ...words], { stdio: 'inherit' })).status;
}

/** A word as the shell takes it. */
function quoted(word) {
  return `'${word.replaceAll("'", "'\\''")}'`;
}

async function main([job = 'build', ...words]) {
  const file = programs[job];
  return file ? await program(file, words) : await turbo(tasks[job] ?? [job], { words });
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  try {
    process.exitCode = await main(process.argv.slice(2));
  } catch (error) {
    console.error(error instanceof Error ? error.message : error);
    process.exitCode = 1;
  }
}
