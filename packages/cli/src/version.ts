// The version of this package: the package's own file, which is beside the built files and beside the sources.

import { readFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

/** Directory of these files. */
export const ownDirectory = typeof __dirname === 'string' ? __dirname : dirname(fileURLToPath(import.meta.url));

/** Version of the command. */
export function readVersion(): string {
  const manifest: unknown = JSON.parse(readFileSync(join(ownDirectory, '..', 'package.json'), 'utf8'));
  return typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown';
}
