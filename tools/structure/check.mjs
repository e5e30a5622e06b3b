// Holds the packages against the layers and rooms of the design; prints what does not fit, one line each.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join, relative } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import ts from 'typescript';
import { checkAll } from './rules.mjs';

const root = fileURLToPath(new URL('../..', import.meta.url));

function* walk(directory) {
  for (const entry of readdirSync(directory, { withFileTypes: true })) {
    if (['node_modules', 'dist', '.turbo', '.pack', 'fixtures'].includes(entry.name)) continue;
    const path = join(directory, entry.name);
    if (entry.isDirectory()) yield* walk(path);
    else yield path;
  }
}

/** Reads every published package: its manifest, and its files with their imports. */
export function readPackages(packagesRoot) {
  const packages = new Map();
  for (const name of readdirSync(packagesRoot)) {
    const directory = join(packagesRoot, name);
    if (!existsSync(join(directory, 'package.json'))) continue;
    const manifest = JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8'));
    if (manifest.private) continue;
    const files = [...walk(directory)].map((path) => {
      const code = path.endsWith('.ts');
      const text = code || path.endsWith('.md') ? readFileSync(path, 'utf8') : '';
      const imports = code ? ts.preProcessFile(text, true, true).importedFiles.map(({ fileName }) => fileName) : [];
      return { path: relative(directory, path), text, imports };
    });
    packages.set(name, { name, manifest, files });
  }
  return packages;
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const packages = readPackages(join(root, 'packages'));
  const problems = checkAll(packages);
  for (const problem of problems) console.error(problem);
  console.log(`structure: ${packages.size} packages, ${problems.length} problems`);
  process.exitCode = problems.length > 0 ? 1 : 0;
}
