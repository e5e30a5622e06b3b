// Writes the JSON Schema of machine files, which editors check them with, from what the package itself checks them with.
// `npm run schema` builds the package first; a test says when it has to be run again.

import { writeFileSync } from 'node:fs';
import { machineSchema } from '../dist/index.js';

const target = new URL('../schema/machine-v1.schema.json', import.meta.url);
writeFileSync(target, `${JSON.stringify(machineSchema, null, 2)}\n`);
