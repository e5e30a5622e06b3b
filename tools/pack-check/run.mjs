// Packs the public packages, and does with each what its README says, in a fresh project: install, run the example as ESM
// and as CommonJS, check its types. Run after a build: npm run check:pack

import { mkdirSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { withPnpm } from '../dev.mjs';
import { publicPackages, root } from './packages.mjs';
import { checkCommands, checkContents, checkTypes, createProject, failure, strangers } from './project.mjs';
import { example, installed } from './readme.mjs';
import { runExample } from './run-example.mjs';

/** The types of Node, in the version that the workspace's own code is checked with. */
function typesOfNode() {
  const file = createRequire(import.meta.url).resolve('@types/node/package.json');
  return `@types/node@${JSON.parse(readFileSync(file, 'utf8')).version}`;
}

/**
 * Packs every package.
 *
 * @returns {Promise<Map<string, string>>} path of the tarball of each
 */
async function pack(packages, directory) {
  mkdirSync(directory);
  const tarballs = new Map(packages.map(({ name, manifest }) => [manifest.name, join(directory, `${name}.tgz`)]));
  const lines = packages.map((one) => `pnpm --dir '${one.directory}' pack --out '${tarballs.get(one.manifest.name)}'`);
  const { status, output } = await withPnpm(lines.join(' && '), { stdio: ['ignore', 'pipe', 'pipe'] });
  if (status !== 0) throw new Error(`the packages can not be packed:\n${output}`);
  return tarballs;
}

/**
 * The checks of one package: each says what is wrong, undefined if nothing is, and null if there is nothing to check.
 * `install` comes first: without it the others have nothing to look at.
 */
function checksOf({ manifest, readme }, directory, tarballs) {
  const found = example(readme);
  const withExample = (check) => () => (found ? check(found) : null);
  return {
    install: () => {
      const names = installed(readme);
      if (!names.includes(manifest.name)) return 'its README does not tell how to install it';
      const problem = createProject(directory, names, tarballs);
      if (problem) return problem;
      const others = strangers(directory);
      return others.length > 0 ? `not from the tarballs, or twice: ${others.join(', ')}` : undefined;
    },
    contents: () => checkContents(directory, manifest.name),
    esm: withExample((one) => runExample(directory, one, 'esm')),
    cjs: withExample((one) => runExample(directory, one, 'cjs')),
    nodenext: withExample(({ code }) => checkTypes(directory, code, 'nodenext')),
    bundler: withExample(({ code }) => checkTypes(directory, code, 'bundler')),
    command: () => (manifest.publishConfig?.bin || manifest.bin ? checkCommands(directory, manifest) : null),
  };
}

const columns = ['install', 'contents', 'esm', 'cjs', 'nodenext', 'bundler', 'command'];
const nameWidth = 20;
const line = (name, cells) => [name.padEnd(nameWidth), ...cells.map((cell) => cell.padEnd(8))].join('  ').trimEnd();

async function main() {
  const directory = mkdtempSync(join(tmpdir(), 'pack-check-'));
  const counts = { passed: 0, failed: 0 };
  const problems = [];
  try {
    const packages = publicPackages();
    const tarballs = await pack(packages, join(directory, 'packed'));
    // where all projects find it, and none of our packages can lean on it
    const types = failure(directory, 'npm', ['install', '--prefer-offline', '--no-audit', '--no-fund', typesOfNode()]);
    if (types) throw new Error(types);
    console.log(line('package', columns));
    for (const one of packages) {
      const checks = checksOf(one, join(directory, 'projects', one.name), tarballs);
      let usable = true;
      const cells = columns.map((column) => {
        const problem = usable ? checks[column]() : null;
        if (problem === null) return '-';
        counts[problem === undefined ? 'passed' : 'failed']++;
        if (problem === undefined) return 'ok';
        problems.push(`${one.manifest.name}: ${column}: ${problem}`);
        usable &&= column !== 'install';
        return 'FAILED';
      });
      console.log(line(one.manifest.name, cells));
    }
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
  for (const problem of problems) console.error(`\n${problem.trimEnd()}`);
  console.log(`\n${counts.passed} passed, ${counts.failed} failed`);
  process.exitCode = counts.failed > 0 ? 1 : 0;
}

try {
  process.chdir(root);
  await main();
} catch (error) {
  console.error(error instanceof Error ? error.message : error);
  console.log('\n0 passed, 1 failed');
  process.exitCode = 1;
}
