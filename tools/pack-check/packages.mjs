// The packages of the workspace that are published.

import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** The workspace. */
export const root = fileURLToPath(new URL('../..', import.meta.url));

/** Every public package: its directory's name, its manifest and its README (empty if it has none). */
export function publicPackages() {
  const packages = join(root, 'packages');
  return readdirSync(packages)
    .filter((name) => existsSync(join(packages, name, 'package.json')))
    .map((name) => {
      const directory = join(packages, name);
      const readme = join(directory, 'README.md');
      return {
        name,
        directory,
        manifest: JSON.parse(readFileSync(join(directory, 'package.json'), 'utf8')),
        readme: existsSync(readme) ? readFileSync(readme, 'utf8') : '',
      };
    })
    .filter(({ manifest }) => !manifest.private);
}
