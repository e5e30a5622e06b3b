// Compares the layouts that @vfio/core declares with the headers of the system it runs on, by asking a C compiler. Headers
// of an older kernel lack some structs and members: what both sides know is compared. Nothing is compared, and that is said,
// where there is no compiler or no linux/vfio.h. Run after a build: node tools/abi-check/run.mjs

import { spawnSync } from 'node:child_process';
import { existsSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { answers, compare, intersect, program, table } from './compare.mjs';

const built = new URL('../../packages/core/dist/index.js', import.meta.url);
const headers = ['linux/vfio.h', 'linux/vfio_zdev.h', 'linux/iommufd.h'];

function findCompiler() {
  const candidates = [process.env.CC, 'cc', 'gcc', 'clang'];
  return candidates.find((name) => name && spawnSync(name, ['--version'], { stdio: 'ignore' }).status === 0);
}

/** A header with everything that it includes; undefined when the system does not have it. */
function preprocess(compiler, header) {
  const { status, stdout } = spawnSync(compiler, ['-E', '-P', '-x', 'c', '-'], {
    input: `#include <${header}>\n`,
    encoding: 'utf8',
    maxBuffer: 1 << 26,
  });
  return status === 0 ? stdout : undefined;
}

/** Compiles a program, runs it and returns what it prints. */
function runProgram(compiler, source) {
  const directory = mkdtempSync(join(tmpdir(), 'abi-check-'));
  try {
    const [code, binary] = [join(directory, 'abi.c'), join(directory, 'abi')];
    writeFileSync(code, source);
    const compiled = spawnSync(compiler, ['-o', binary, code], { encoding: 'utf8' });
    if (compiled.status !== 0) throw new Error(`${compiler} does not compile the program:\n${compiled.stderr}`);
    const { status, stdout, error } = spawnSync(binary, { encoding: 'utf8' });
    if (status !== 0) throw error ?? new Error(`the compiled program ended with ${status}`);
    return stdout;
  } finally {
    rmSync(directory, { recursive: true, force: true });
  }
}

async function main() {
  const compiler = findCompiler();
  if (!compiler) return skip('no C compiler (CC, cc, gcc or clang)');
  const sources = new Map();
  for (const header of headers) {
    const source = preprocess(compiler, header);
    if (source !== undefined) sources.set(header, source);
  }
  if (!sources.has('linux/vfio.h')) return skip(`${compiler} finds no linux/vfio.h`);
  if (!existsSync(built)) throw new Error('packages/core is not built: run npm run build first');
  const core = await import(built.href);
  const layouts = Object.values(core).filter((value) => value instanceof core.Struct);
  const numbers = {
    ...prefixed('VFIO_', core.Request),
    ...prefixed('IOMMU_', core.IommufdRequest),
  };
  const known = intersect(layouts, [...sources.values()].join('\n'));
  const said = answers(runProgram(compiler, program([...sources.keys()], known, Object.keys(numbers))));
  const rows = compare(known, numbers, said);
  const differing = rows.filter(({ differences }) => differences.length > 0).length;
  const requests = Object.keys(numbers).filter((name) => said.has(`value ${name}`)).length;
  console.log(table(rows));
  console.log(
    `abi-check: ${known.length} of ${layouts.length} structs and ${requests} of ${Object.keys(numbers).length} requests ` +
      `are in ${[...sources.keys()].join(', ')} of this system; ${differing} differ`,
  );
  process.exitCode = differing > 0 ? 1 : 0;
}

function prefixed(prefix, object) {
  return Object.fromEntries(Object.entries(object).map(([key, value]) => [prefix + key, value]));
}

function skip(reason) {
  console.log(`abi-check: nothing compared: ${reason}`);
}

try {
  await main();
} catch (error) {
  console.error(`abi-check: ${error instanceof Error ? error.message : error}`);
  process.exitCode = 1;
}
