import { describe, expect, it } from 'vitest';
import { checkAll, checkFiles, checkHardware, checkImports, checkManifest, checkRooms } from '../rules.mjs';

const file = (path, imports = [], text = '') => ({ path, imports, text });
const pkg = (name, files, manifest = { exports: { '.': {} } }) => ({ name, manifest, files });
const world = (...list) => new Map(list.map((one) => [one.name, one]));

describe('checkImports', () => {
  const host = pkg('host', [file('src/index.ts')]);

  it('lets an import point down', () => {
    expect(checkImports(pkg('core', [file('src/a.ts', ['@vfio/host'])]), world(host))).toEqual([]);
  });

  it('refuses one that points up', () => {
    const core = pkg('core', [file('src/a.ts', ['@vfio/mdev'])]);
    expect(checkImports(core, world(core))).toEqual([expect.stringContaining('core may import host only')]);
  });

  it("refuses another package's inside", () => {
    const core = pkg('core', [file('src/a.ts', ['@vfio/host/dist/index.js', '../../host/src/index.js'])]);
    expect(checkImports(core, world(host, core))).toHaveLength(2);
  });

  it('refuses a package that is in no layer', () => {
    expect(checkImports(pkg('attic', []), world())).toEqual([expect.stringContaining('layers.mjs')]);
  });
});

describe('checkManifest', () => {
  it('refuses a dependency that points up', () => {
    const manifest = { dependencies: { '@vfio/cli': 'workspace:^', '@vfio/host': 'workspace:^' } };
    expect(checkManifest(pkg('core', [], manifest))).toEqual([expect.stringContaining('depends on @vfio/cli')]);
  });
});

describe('checkHardware', () => {
  it('refuses hardware that knows its driver, or VFIO', () => {
    const files = [file('src/hardware/uart.ts', ['../driver.js', '@vfio/core', '../hw.js'])];
    expect(checkHardware(pkg('platform', files))).toHaveLength(2);
  });
});

describe('checkRooms', () => {
  const rooms = ['src/index.ts', 'src/machine.ts', 'test/conformance.test.ts', 'README.md'];

  it('accepts a driver in src, or several in folders', () => {
    const one = [...rooms, 'src/driver.ts', 'src/device.ts'].map((path) => file(path));
    const two = [...rooms, 'src/a/driver.ts', 'src/a/device.ts', 'src/b/driver.ts', 'src/b/device.ts'].map((path) =>
      file(path),
    );
    expect(checkRooms(pkg('ap', one))).toEqual([]);
    expect(checkRooms(pkg('mdev-samples', two))).toEqual([]);
  });

  it('names what is missing', () => {
    const files = [...rooms.slice(1), 'src/a/driver.ts'].map((path) => file(path));
    expect(checkRooms(pkg('ap', files))).toEqual([
      'packages/ap: has no src/index.ts',
      'packages/ap: has no src/a/device.ts',
    ]);
  });
});

describe('checkFiles', () => {
  it('refuses export * in an index and files that are too long', () => {
    const files = [file('src/index.ts', [], "export * from './a.js';"), file('src/a.ts', [], '\n'.repeat(600))];
    expect(checkFiles(pkg('host', files))).toHaveLength(2);
  });
});

it('finds nothing wrong with nothing', () => {
  expect(checkAll(new Map())).toEqual([]);
});
