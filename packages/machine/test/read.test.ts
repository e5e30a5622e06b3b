import { describe, expect, it } from 'vitest';
import { Machine, type MachineFile, MachineFileError } from '../src/index.js';
import { readMachine } from '../src/read.js';
import { Folder, modelPackage } from './lab.js';

/** What is wrong with a file, its path replaced by `lab.yaml`. */
async function complaintOf(text: string): Promise<string> {
  using folder = new Folder();
  const path = folder.write('lab.yaml', text);
  try {
    const machine = await Machine.load(path, { drivers: [modelPackage()], checked: true });
    await machine.shutdown();
  } catch (error) {
    expect(error).toBeInstanceOf(MachineFileError);
    expect(error).toMatchObject({ file: path });
    return (error as Error).message.replaceAll(path, 'lab.yaml');
  }
  throw new Error('it was accepted');
}

describe('a machine file', () => {
  it('is named after itself unless it says its name', () => {
    using folder = new Folder();
    expect(readMachine(folder.write('lab.yaml', 'version: 1')).data.name).toBe('lab');
    expect(readMachine(folder.write('sub/other.yml', 'version: 1')).data.name).toBe('other');
    expect(readMachine(folder.write('lab.json', '{ "version": 1 }')).data.name).toBe('lab');
    expect(readMachine(folder.write('x.yaml', 'version: 1\nname: lab two')).data.name).toBe('lab two');
  });

  it('knows the folder that relative paths start from; an object has none', () => {
    using folder = new Folder();
    expect(readMachine(folder.write('lab.yaml', 'version: 1')).directory).toBe(folder.path);
    expect(readMachine({ version: 1 })).toMatchObject({ file: 'machine', directory: undefined });
  });

  it('may be JSON, with a schema for editors', () => {
    using folder = new Folder();
    const text = '{ "$schema": "https://example.org/x", "version": 1, "host": { "iommu": "none" } }';
    expect(readMachine(folder.write('lab.json', text)).data.host).toEqual({ iommu: 'none' });
  });

  it.each<[string, string, string]>([
    ['nothing in it', '', 'lab.yaml: is null: it must be a VFIO machine'],
    ['a list', '- 1', 'lab.yaml:1:1: is [1]: it must be a VFIO machine'],
    ['no version', 'name: lab', "lab.yaml:1:1: 'version' is missing: add it"],
    ['another version', 'name: lab\nversion: 2', 'lab.yaml:2:1: version: is 2: it must be 1'],
    [
      'a wrong word',
      'version: 1\nhost:\n  byteOrder: middle',
      'lab.yaml:3:3: host.byteOrder: is "middle": use one of little, big',
    ],
    [
      'a wrong type',
      'version: 1\nvfio: { noiommu: maybe }',
      'lab.yaml:2:9: vfio.noiommu: is "maybe": it must be boolean',
    ],
    [
      'an unknown key',
      'version: 1\nhost:\n  iomu: none\n',
      'lab.yaml:3:3: host.iomu: is not known here: use one of byteOrder, firstDynamicMajor, iommu, devices, or remove it',
    ],
    [
      'a number out of range',
      'version: 1\nhost: { firstDynamicMajor: 300 }',
      'lab.yaml:2:9: host.firstDynamicMajor: is 300: it must be <= 254',
    ],
    [
      'a wrong IOMMU',
      'version: 1\nhost:\n  iommu: some',
      'lab.yaml:3:3: host.iommu: is "some": it must be \'none\', or a map of what it is like',
    ],
    [
      'no number',
      'version: 1\nhost: { iommu: { pageSizes: 4k } }',
      'lab.yaml:2:18: host.iommu.pageSizes: is "4k": it must be a whole number, or from 2^53 on a string such as "0xffffffffffffffff"',
    ],
    [
      'a number that YAML can not carry',
      'version: 1\nhost: { iommu: { pageSizes: 18446744073709547520 } }',
      'lab.yaml:2:18: host.iommu.pageSizes: is 18446744073709548000: it must be a whole number, or from 2^53 on a string such as "0xffffffffffffffff"',
    ],
    [
      'something missing in a list',
      'version: 1\nhost:\n  devices:\n    - path: a/b\n    - iommuGroup: x',
      "lab.yaml:5:7: host.devices[1]: 'path' is missing: add it",
    ],
    [
      'a path that is none',
      'version: 1\nhost:\n  devices:\n    - path: /a',
      'lab.yaml:4:7: host.devices[0].path: is "/a": it must be a path, without a slash at either end',
    ],
    [
      'a module that is none',
      'version: 1\nmodules: [vfio, 7]',
      'lab.yaml:2:17: modules[1]: is 7: it must be a name, or a map with name and parameters',
    ],
    [
      'a parameter that is none',
      'version: 1\nmodules:\n  - name: vfio\n    parameters: { x: [1] }',
      'lab.yaml:4:19: modules[0].parameters.x: is [1]: it must be string or number or boolean',
    ],
  ])('with %s is told of', async (_, text, complaint) => {
    expect(await complaintOf(text)).toBe(complaint);
  });

  it.each<[string, string, string]>([
    [
      'a range that ends before it starts',
      'version: 1\nhost:\n  iommu:\n    reserved:\n      - { start: 0x2000, end: "0x1fff", type: msi }',
      'lab.yaml:5:26: host.iommu.reserved[0].end: is 0x1fff, before the start at 8192: swap them',
    ],
    [
      'an IOMMU without pages',
      'version: 1\nhost: { iommu: { pageSizes: 0 } }',
      'lab.yaml:2:18: host.iommu.pageSizes: is 0: it must have one bit for each page size, from 2 KiB on',
    ],
    [
      'pages that are too small',
      'version: 1\nhost: { iommu: { pageSizes: "0x401" } }',
      'lab.yaml:2:18: host.iommu.pageSizes: is 0x401: it must have one bit for each page size, from 2 KiB on',
    ],
    [
      'the same device twice',
      'version: 1\nhost:\n  devices:\n    - path: a/b\n    - path: a\n    - path: a/b\n',
      "lab.yaml:6:7: host.devices[2].path: 'a/b' stands here twice: remove one",
    ],
    [
      'device nodes without an iommufd',
      'version: 1\nvfio: { deviceCdev: true }',
      'lab.yaml:2:9: vfio.deviceCdev: device nodes need an iommufd: add iommufd: true',
    ],
    [
      'a group without an IOMMU',
      'version: 1\nhost:\n  iommu: none\n  devices:\n    - { path: a, iommuGroup: g }',
      'lab.yaml:5:18: host.devices[0].iommuGroup: there is no IOMMU: remove this, or host.iommu: none',
    ],
  ])('whose parts do not go together is told of: %s', async (_, text, complaint) => {
    expect(await complaintOf(text)).toBe(complaint);
  });

  it.each<[string, string, RegExp]>([
    ['is no YAML', 'version: 1\n  name: x', /^lab\.yaml:\d+:\d+: this is no YAML: /],
    ['has a key twice', 'version: 1\nname: a\nname: b', /^lab\.yaml:3:1: this is no YAML: .*unique/],
    ['is several documents', 'version: 1\n---\nversion: 1', /^lab\.yaml:\d+:\d+: this is no YAML: /],
    ['refers to nothing', 'version: 1\nname: *lab', /^lab\.yaml(:\d+:\d+)?: this is no YAML: .*lab/],
    [
      'unfolds without end',
      `version: 1\na: &a [x, x, x, x, x, x, x, x, x]\n${'bcdefghi'.replace(/./g, (c, i: number) => `${c}: &${c} [${`*${'abcdefgh'[i]}, `.repeat(9)}]\n`)}`,
      /^lab\.yaml: this is no YAML: Excessive alias count/,
    ],
  ])('that %s is told of', async (_, text, complaint) => {
    expect(await complaintOf(text)).toMatch(complaint);
  });

  it('says where in the data and where in the text', async () => {
    using folder = new Folder();
    const path = folder.write('lab.yaml', 'version: 1\nmodules:\n- {}\n');
    const error = await Machine.load(path, { drivers: [] }).catch((reason: unknown) => reason);
    expect(error).toMatchObject({
      name: 'MachineFileError',
      file: path,
      path: 'modules[0]',
      position: { line: 3, column: 3 },
    });
  });

  it('that is not there, or no file, is told of', async () => {
    using folder = new Folder();
    await expect(Machine.load(`${folder.path}/none.yaml`)).rejects.toThrow(
      `${folder.path}/none.yaml: no such file: give the path of a machine file`,
    );
    await expect(Machine.load(folder.path)).rejects.toThrow(/EISDIR.*: give the path of a machine file$/);
  });
});

describe('an object in place of a file', () => {
  it('is checked in the same way, without positions', async () => {
    const wrong = { version: 1, host: { byteOrder: 'middle' } } as unknown as MachineFile;
    const error = await Machine.load(wrong).catch((reason: unknown) => reason);
    expect(error).toBeInstanceOf(MachineFileError);
    expect(error).toMatchObject({ message: 'machine: host.byteOrder: is "middle": use one of little, big' });
    expect((error as MachineFileError).position).toBeUndefined();
  });
});

describe('a section', () => {
  it('is checked with the schema of its package, at its place in the file', async () => {
    expect(await complaintOf('version: 1\nmodel:\n  devices:\n    - name: model0\n    - name: other')).toBe(
      'lab.yaml:5:7: model.devices[1].name: is "other": it must match ^model[0-9]+$',
    );
    expect(await complaintOf('version: 1\nmodel:\n')).toBe('lab.yaml:2:1: model: is null: it must be object');
  });

  it.each([
    ['ccw', "section 'ccw' needs @vfio/ccw: npm install @vfio/ccw"],
    ['ap', "section 'ap' needs @vfio/ap: npm install @vfio/ap"],
    ['fsl-mc', "section 'fsl-mc' needs @vfio/fsl-mc: npm install @vfio/fsl-mc"],
    ['hosts', "there is no section 'hosts': did you mean 'host'?"],
    ['mdoel', "there is no section 'mdoel': did you mean 'model'?"],
    ['module', "there is no section 'module': did you mean 'modules'?"],
    [
      'My Devices',
      "there is no section 'My Devices': use one of version, name, drivers, host, vfio, modules, $schema, model",
    ],
  ])('that no package answers to is told of: %s', async (key, complaint) => {
    expect(await complaintOf(`version: 1\n${key}: {}`)).toBe(`lab.yaml:2:1: ${key}: ${complaint}`);
  });
});

describe('a module', () => {
  it('that nobody brings is told of', async () => {
    expect(await complaintOf('version: 1\nmodules:\n  - vfio\n  - name: vfio-ccw')).toBe(
      "lab.yaml:4:5: modules[1]: there is no module 'vfio_ccw': install the driver package that brings it",
    );
    expect(await complaintOf('version: 1\nmodules: [vfio_iommu_typ1]')).toBe(
      "lab.yaml:2:11: modules[0]: there is no module 'vfio_iommu_typ1': did you mean 'vfio_iommu_type1'?",
    );
  });
});
