import { Readable } from 'node:stream';
import type { DriverPackage } from '@vfio/core';
import { describe, expect, it } from 'vitest';
import { parse } from 'yaml';
import { run, temporaryFolder, writeIn } from './lab.js';

/** A package that knows texts that begin with `cards:`, one name a line. */
const cards: DriverPackage<readonly string[]> = {
  package: '@vfio/cards',
  section: 'cards',
  schema: { type: 'array' },
  modules: ['cards'],
  define: () => {},
  build: async () => {},
  importDump(text) {
    const [first, ...names] = text.trimEnd().split('\n');
    if (first !== 'cards:') return undefined;
    const empty = names.indexOf('');
    if (empty >= 0) throw new SyntaxError(`line ${empty + 2}: a card without a name`);
    return { section: names, modules: ['cards'] };
  },
};

const machine = { version: 1, modules: ['cards'], cards: ['red', 'green'] };

describe('vfio import', () => {
  it('writes a machine file, named after the dump', async () => {
    const dump = writeIn(temporaryFolder(), 'lab.txt', 'cards:\nred\ngreen\n');
    const { code, out, err } = await run(['import', dump], { drivers: [cards] });
    expect({ code, err }).toEqual({ code: 0, err: '' });
    expect(parse(out)).toEqual({ ...machine, name: 'lab' });
  });

  it('reads standard input, and takes another name', async () => {
    const stdin = Readable.from(['cards:\nred\n', 'green\n']);
    const { code, out } = await run(['import', '-', '--name', 'far'], { drivers: [cards], stdin });
    expect(code).toBe(0);
    expect(parse(out)).toEqual({ ...machine, name: 'far' });
  });

  it('names the line that is wrong', async () => {
    const dump = writeIn(temporaryFolder(), 'lab.txt', 'cards:\nred\n\ngreen\n');
    const { code, out, err } = await run(['import', dump], { drivers: [cards] });
    expect({ code, out }).toEqual({ code: 1, out: '' });
    expect(err).toBe(`vfio: ${dump}: line 3: a card without a name\n`);
  });

  it('says what it can not understand, and who might', async () => {
    const dump = writeIn(temporaryFolder(), 'lab.txt', 'nothing\n');
    expect((await run(['import', dump], { drivers: [cards] })).err).toMatch(/none of @vfio\/cards knows what this is/);
    expect((await run(['import', dump], { drivers: [] })).err).toMatch(/npm install @vfio\/pci/);
  });

  it('says that there is no such file', async () => {
    const { code, err } = await run(['import', '/nowhere/dump.txt'], { drivers: [cards] });
    expect(code).toBe(1);
    expect(err).toMatch(/^vfio: \/nowhere\/dump\.txt can not be read: .*no such file.*\n$/);
  });
});
