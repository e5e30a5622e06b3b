import { join } from 'node:path';
import { describe, expect, it, vi } from 'vitest';
import { DriverPackageError, discoverDrivers, Machine } from '../src/index.js';
import { Folder } from './lab.js';

/** What a driver package exports, in JavaScript: its build only says in the log that it was called. */
const source = (section: string) => `
export const driverPackage = {
  package: '@vfio/${section}',
  section: '${section}',
  schema: { type: 'object' },
  modules: [],
  define() {},
  async build({ host }, section) {
    host.log.info('${section} builds ' + JSON.stringify(section));
  },
};
`;

interface PackageOptions {
  /** Section that it answers to; the last part of the name otherwise. */
  readonly section?: string;
  readonly keywords?: readonly string[];
  readonly exports?: object;
  /** What is in machine.js. */
  readonly machine?: string;
}

/** A folder with a project in it. */
class Project extends Folder {
  /** Installs a package. */
  install(name: string, options: PackageOptions = {}): void {
    const { section = name.split('/').at(-1) ?? name, keywords = [], machine = source(section) } = options;
    const { exports = { './machine': './machine.js' } } = options;
    const manifest = { name, version: '1.0.0', type: 'module', keywords, exports };
    this.write(join('node_modules', name, 'package.json'), JSON.stringify(manifest));
    this.write(join('node_modules', name, 'machine.js'), machine);
  }

  manifest(content: object, below = ''): void {
    this.write(join(below, 'package.json'), JSON.stringify({ name: 'project', ...content }));
  }

  /** Sections of the packages that are found from it, without those that belong to this repository. */
  async sections(named: readonly string[] = []): Promise<string[]> {
    return (await discoverDrivers([this.path], named)).map(({ section }) => section);
  }
}

describe('driver packages', () => {
  it('are those below @vfio that export ./machine', async () => {
    using project = new Project();
    project.install('@vfio/x');
    project.install('@vfio/tools', { exports: { '.': './machine.js' } });
    project.install('@vfio/old', { exports: './machine.js' as never });
    project.install('@other/y');
    project.write('node_modules/@vfio/.cache', '');
    project.write('node_modules/@vfio/broken/package.json', '{');
    expect(await project.sections()).toEqual(['x']);
  });

  it('are those that the project lists and that say so', async () => {
    using project = new Project();
    project.install('vfio-toy', { section: 'toy', keywords: ['vfio', 'vfio-driver'] });
    project.install('@acme/card', { section: 'acme-card', keywords: ['vfio-driver'] });
    project.install('left-pad', { keywords: [] });
    project.install('not-listed', { keywords: ['vfio-driver'] });
    project.manifest({
      dependencies: { 'vfio-toy': '1', 'left-pad': '1', absent: '1' },
      devDependencies: { '@acme/card': '1' },
    });
    expect((await project.sections()).sort()).toEqual(['acme-card', 'toy']);
  });

  it('are seen from the folders below, and hoisted ones from a workspace', async () => {
    using project = new Project();
    project.install('@vfio/x');
    project.install('vfio-toy', { section: 'toy', keywords: ['vfio-driver'] });
    project.manifest({ dependencies: { 'vfio-toy': '1' } }, 'packages/lab');
    expect(
      (await discoverDrivers([join(project.path, 'packages/lab/machines')])).map(({ section }) => section),
    ).toEqual(['toy', 'x']);
  });

  it('are those that a file names', async () => {
    using project = new Project();
    project.install('somewhere', { section: 'some' });
    expect(await project.sections()).toEqual([]);
    expect(await project.sections(['somewhere'])).toEqual(['some']);
    expect(await project.sections(['somewhere', 'somewhere'])).toEqual(['some']);
  });

  it('that a file names and nobody installed are told of, and what to do', async () => {
    using project = new Project();
    await expect(project.sections(['vfio-toy'])).rejects.toThrow(
      new DriverPackageError("driver package 'vfio-toy' is not installed: npm install vfio-toy"),
    );
    project.install('vfio-toy', { exports: { '.': './machine.js' } });
    await expect(project.sections(['vfio-toy'])).rejects.toThrow(
      new DriverPackageError("'vfio-toy' is no driver package: it exports no './machine'"),
    );
  });

  it('come from the first folder that has them', async () => {
    using first = new Project();
    using second = new Project();
    first.install('@vfio/x', { machine: source('x').replace('builds', 'first builds') });
    second.install('@vfio/x', { machine: source('x').replace('builds', 'second builds') });
    second.install('@vfio/y');
    const drivers = await discoverDrivers([first.path, second.path]);
    expect(drivers.map(({ section }) => section)).toEqual(['x', 'y']);
    const log = { info: vi.fn() };
    await drivers[0]?.build({ host: { log } } as never, {}, undefined);
    expect(log.info).toHaveBeenCalledWith('x first builds {}');
  });

  it('that answer to the same section are told of, unless a file names one', async () => {
    using project = new Project();
    project.install('@vfio/x');
    project.install('my-x', {
      section: 'x',
      keywords: ['vfio-driver'],
      machine: source('x').replace('builds', 'mine'),
    });
    project.manifest({ dependencies: { 'my-x': '1' } });
    await expect(project.sections()).rejects.toThrow(
      new DriverPackageError(
        "driver packages '@vfio/x' and 'my-x' both answer to section 'x': name the one to use under 'drivers'",
      ),
    );
    const drivers = await discoverDrivers([project.path], ['my-x']);
    expect(drivers.map(({ section }) => section)).toEqual(['x']);
    expect(String(drivers[0]?.build)).toContain('x mine');
  });

  it.each([
    ['exports nothing of that name', 'export const driver = {};'],
    ['lacks a section', source('x').replace("section: 'x',", '')],
    ['lacks a schema', source('x').replace("schema: { type: 'object' },", '')],
    ['can not be built', source('x').replace('async build(', 'async built(')],
    ['exports a string', "export const driverPackage = 'x';"],
  ])('that are none are told of: one that %s', async (_, machine) => {
    using project = new Project();
    project.install('@vfio/x', { machine });
    await expect(project.sections()).rejects.toThrow(
      new DriverPackageError('@vfio/x/machine does not export a driverPackage: ask its author'),
    );
  });

  it('that can not be loaded are told of, and why', async () => {
    using project = new Project();
    project.install('@vfio/x', { machine: "import '@vfio/absent';" });
    await expect(project.sections()).rejects.toThrow(/^@vfio\/x\/machine can not be loaded: .*@vfio\/absent/);
    using other = new Project();
    other.install('@vfio/y', { machine: "throw new Error('no luck');" });
    const error = await other.sections().catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      message: '@vfio/y/machine can not be loaded: no luck',
      cause: expect.objectContaining({ message: 'no luck' }),
    });
  });
});

describe('a machine file', () => {
  it('is built by the packages that are installed beside it', async () => {
    using project = new Project();
    project.install('@vfio/x');
    project.install('@acme/card', { section: 'card', keywords: ['vfio-driver'] });
    project.manifest({ dependencies: { '@acme/card': '1' } });
    const file = project.write('machines/lab.yaml', 'version: 1\nx: { a: 1 }\ncard: { b: 2 }\n');
    await using machine = await Machine.load(file, { checked: true });
    const sections = machine.drivers.map(({ section }) => section);
    expect(sections).toEqual(expect.arrayContaining(['x', 'card']));
    const log = machine.host.log.entries.map(({ text }) => text).filter((text) => text.includes('builds'));
    expect(log).toEqual(['x builds {"a":1}', 'card builds {"b":2}']);
  });

  it('names packages that it needs beside those', async () => {
    using project = new Project();
    project.install('somewhere', { section: 'some' });
    const text = 'version: 1\nsome: {}\n';
    const without = project.write('without.yaml', text);
    await expect(Machine.load(without, { checked: true })).rejects.toThrow(
      `${without}:2:1: some: section 'some' needs @vfio/some: npm install @vfio/some`,
    );
    const file = project.write('lab.yaml', `${text}drivers: [somewhere]\n`);
    await using machine = await Machine.load(file, { checked: true });
    expect(machine.host.log.entries.map(({ text }) => text)).toContain('some builds {}');
  });

  it('needs the packages of its sections: @vfio/ccw', async () => {
    using project = new Project();
    const file = project.write('lab.yaml', 'version: 1\nccw: {}\n');
    await expect(Machine.load(file, { checked: true })).rejects.toThrow(
      `${file}:2:1: ccw: section 'ccw' needs @vfio/ccw: npm install @vfio/ccw`,
    );
  });

  it('may be an object, with packages from where the caller says', async () => {
    using project = new Project();
    project.install('@vfio/x');
    const options = { checked: true, searchFrom: [project.path] };
    await using machine = await Machine.load({ version: 1, x: { c: 3 } }, options);
    expect(machine.host.log.entries.map(({ text }) => text)).toContain('x builds {"c":3}');
  });
});
