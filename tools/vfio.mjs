// `npm run vfio -- ls` from a fresh clone: installs and builds what is missing in silence, then runs the command. Later runs
// only look whether something changed since.

import { existsSync, readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { run, turbo } from './dev.mjs';

const root = fileURLToPath(new URL('..', import.meta.url));
const packages = join(root, 'packages');
const bin = join(packages, 'cli', 'dist', 'bin.js');
/** Made when everything was built. */
const stamp = join(root, 'node_modules', '.vfio-built');

/** When a file, or anything in a folder, was changed last; 0 if it is not there. */
function changed(path) {
  const stat = statSync(path, { throwIfNoEntry: false });
  if (!stat?.isDirectory()) return stat?.mtimeMs ?? 0;
  return Math.max(stat.mtimeMs, ...readdirSync(path).map((name) => changed(join(path, name))));
}

/** Whether all packages that are there were built since they changed. */
function isBuilt() {
  const names = readdirSync(packages).filter((name) => existsSync(join(packages, name, 'src', 'index.ts')));
  const inputs = names.flatMap((name) =>
    ['src', 'package.json', 'tsup.config.ts'].map((one) => join(packages, name, one)),
  );
  const newest = Math.max(...[...inputs, join(root, 'pnpm-lock.yaml'), join(root, 'tsup.base.ts')].map(changed));
  return (
    newest < changed(stamp) && [bin, ...names.map((name) => join(packages, name, 'dist', 'index.js'))].every(existsSync)
  );
}

/** Installs and builds. */
async function build() {
  const started = new Date();
  const status = await turbo(['build'], { quiet: true });
  if (status === 0) writeFileSync(stamp, `${started.toISOString()}\n`);
  return status;
}

/** Runs the command where the person is, who may be in another folder than npm. */
async function command(words) {
  const cwd = process.env.INIT_CWD ?? process.cwd();
  return (await run(process.execPath, [bin, ...words], { stdio: 'inherit', cwd })).status;
}

const status = isBuilt() ? 0 : await build();
process.exitCode = status === 0 ? await command(process.argv.slice(2)) : status;
