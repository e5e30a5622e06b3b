import { describe, expect, it } from 'vitest';
import {
  checkAll,
  checkFiles,
  checkHardware,
  checkImports,
  checkManifest,
  checkMetadata,
  checkReadme,
  checkRooms,
} from '../rules.mjs';

const file = (path, imports = [], text = '') => ({ path, imports, text });
const pkg = (name, files, manifest = {}) => ({ name, manifest: { exports: { '.': {} }, ...manifest }, files });
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

describe('checkMetadata', () => {
  const manifest = {
    name: '@vfio/core',
    description: 'the core',
    license: 'MIT',
    type: 'module',
    sideEffects: false,
    keywords: ['vfio'],
    exports: { '.': { '@vfio/source': './src/index.ts', import: './dist/index.js' } },
    publishConfig: { access: 'public', exports: { '.': { import: './dist/index.js' } } },
  };

  it('accepts a complete manifest', () => {
    expect(checkMetadata(pkg('core', [], manifest))).toEqual([]);
  });

  it('refuses sources in what is published, and a subpath that is not', () => {
    const leaking = { ...manifest, publishConfig: { access: 'public', exports: manifest.exports } };
    const { exports } = manifest;
    const missing = { ...manifest, exports: { ...exports, './bus': { import: './dist/bus.js' } } };
    expect(checkMetadata(pkg('core', [], leaking))).toEqual([expect.stringContaining('publishConfig.exports')]);
    expect(checkMetadata(pkg('core', [], missing))).toEqual([expect.stringContaining('publishConfig.exports')]);
  });

  it('keeps the keyword of drivers to drivers', () => {
    const wrong = { ...manifest, keywords: ['vfio', 'vfio-driver'] };
    expect(checkMetadata(pkg('core', [], wrong))).toEqual([expect.stringContaining('vfio-driver')]);
    const driver = { ...manifest, name: '@vfio/ap' };
    expect(checkMetadata(pkg('ap', [], driver))).toEqual([expect.stringContaining('vfio-driver')]);
  });
});

describe('checkReadme', () => {
  const headings = ['Install', 'Example', 'What is covered', 'Errors', 'Differences from the kernel', 'License'];
  const readme = (list) => file('README.md', [], list.map((heading) => `## ${heading}\n\ntext\n`).join('\n'));

  it('accepts the headings in their order, with others between them', () => {
    expect(checkReadme(pkg('core', [readme([...headings.slice(0, 3), 'More', ...headings.slice(3)])]))).toEqual([]);
  });

  it('refuses a README that lacks one, has them in another order, or is not there', () => {
    expect(checkReadme(pkg('core', [readme(headings.slice(1))]))).toHaveLength(1);
    expect(checkReadme(pkg('core', [readme([...headings].reverse())]))).toHaveLength(1);
    expect(checkReadme(pkg('core', []))).toEqual(['packages/core: has no README.md']);
  });
});

describe('checkHardware', () => {
  it('refuses hardware that knows its driver, or VFIO', () => {
    const files = [file('src/hardware/uart.ts', ['../driver.js', '@vfio/core', '../hw.js'])];
    expect(checkHardware(pkg('platform', files))).toHaveLength(2);
  });
});

describe('checkRooms', () => {
  const rooms = ['src/index.ts', 'src/machine.ts', 'test/conformance.test.ts'];

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
