// docs/hazards.md has a row for each hazard, and the number stands in every test file that its row names.

import { readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const root = new URL('../../../', import.meta.url);
const table = readFileSync(new URL('docs/hazards.md', root), 'utf8');

const rows = [...table.matchAll(/^\| (H\d\d) \|.*\| ([^|]+) \|$/gm)].map(([, id = '', shownBy = '']) => ({
  id,
  shownBy,
  files: [...shownBy.matchAll(/`([a-z0-9-]+\/test\/[a-z0-9/-]+)`/g)].map(([, file = '']) => `packages/${file}.test.ts`),
}));

it('has rows H01 to H46', () => {
  expect(rows.map(({ id }) => id)).toEqual(Array.from({ length: 46 }, (_, i) => `H${String(i + 1).padStart(2, '0')}`));
});

it.each(rows)('$id is shown by $shownBy', ({ id, shownBy, files }) => {
  if (files.length === 0) expect(shownBy).toMatch(/^with `@vfio\/[a-z-]+`$/);
  for (const file of files)
    expect(readFileSync(new URL(file, root), 'utf8'), file).toMatch(new RegExp(`['\`].*\\b${id}\\b`));
});
