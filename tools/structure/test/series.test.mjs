// docs/series.md cites tests: each citation is the beginning of a title in the file that it names.

import { existsSync, readFileSync } from 'node:fs';
import { expect, it } from 'vitest';

const root = new URL('../../../', import.meta.url);
const table = readFileSync(new URL('docs/series.md', root), 'utf8');

/** `core/test/registration`: CORE-021, CORE-085 and CORE-086, CORE-076 to CORE-083 */
function citations() {
  return [...table.matchAll(/`([a-z-]+\/test\/[a-z/-]+)`(: ([^;|]+))?/g)].map(([, file, , words]) => ({
    file: `packages/${file}.test.ts`,
    ids: [...(words ?? '').matchAll(/([A-Z]+)-(\d{3})(?: to \1-(\d{3}))?/g)].flatMap(([, name, first, last = first]) =>
      Array.from(
        { length: Number(last) - Number(first) + 1 },
        (_, i) => `${name}-${String(Number(first) + i).padStart(3, '0')}`,
      ),
    ),
  }));
}

it.each(citations())('$file has what the table of the series cites: $ids', ({ file, ids }) => {
  expect(existsSync(new URL(file, root))).toBe(true);
  const text = readFileSync(new URL(file, root), 'utf8');
  expect(ids.filter((id) => !text.includes(id))).toEqual([]);
});
