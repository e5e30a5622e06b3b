/* The example of the README does what it says. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath, pathToFileURL } from 'node:url';
import { expect, it, vi } from 'vitest';

const packages = fileURLToPath(new URL('../../', import.meta.url));

it('prints what the example of the README says', async () => {
  const readme = await readFile(join(packages, 'mdev-samples/README.md'), 'utf8');
  const [, example = ''] = /```ts\n(.*?)```/s.exec(readme) ?? [];
  const directory = await mkdtemp(join(tmpdir(), 'readme-'));
  const lines: unknown[] = [];
  const log = vi.spyOn(console, 'log').mockImplementation((line: unknown) => void lines.push(line));
  try {
    const path = join(directory, 'example.ts');
    await writeFile(path, example.replace(/'@vfio\/([\w-]+)(?:\/(\w+))?'/g, sourceOf));
    await import(/* @vite-ignore */ pathToFileURL(path).href);
  } finally {
    log.mockRestore();
    await rm(directory, { recursive: true });
  }
  expect(lines).toEqual(['60 bytes to migrate', 'H', 'e', 'l', 'l', 'o']);
});

/** The source of a package's entry. */
function sourceOf(_: string, name: string, entry = 'index'): string {
  return `'${packages}${name}/src/${entry}.ts'`;
}
