// The examples of the READMEs, on the built packages.

import { mkdtempSync, rmSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { afterAll, describe, expect, it } from 'vitest';
import manifest from '../package.json' with { type: 'json' };
import { publicPackages } from '../packages.mjs';
import { example, installed } from '../readme.mjs';
import { runExample } from '../run-example.mjs';

const packages = publicPackages();
// below node_modules, so that an example finds this tool's dependencies and no one finds the example
const directory = mkdtempSync(fileURLToPath(new URL('../node_modules/.example-', import.meta.url)));
afterAll(() => rmSync(directory, { recursive: true }));

it('knows every public package, so that their examples can import them', () => {
  expect(Object.keys(manifest.devDependencies)).toEqual(
    expect.arrayContaining(packages.map((one) => one.manifest.name)),
  );
});

describe.each(packages)('$manifest.name', ({ manifest: { name }, readme }) => {
  it('tells how to install it', () => {
    expect(installed(readme)).toContain(name);
  });

  const found = example(readme);
  if (!found) return;
  it.each(/** @type {const} */ (['esm', 'cjs']))('has an example that works as %s', (format) => {
    expect(runExample(directory, found, format)).toBeUndefined();
  });

  it('imports in its example what it tells to install', () => {
    const imported = [...found.code.matchAll(/from '(@vfio\/[^/']+)/g)].map(([, specifier]) => specifier);
    for (const specifier of imported) expect(installed(readme)).toContain(specifier);
  });
});
