/* The section `pci` of machine files. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { ExerciseStep } from '@vfio/core';
import { O, VirtualClock } from '@vfio/host';
import { Machine, type MachineFile } from '@vfio/machine';
import { afterAll, describe, expect, it } from 'vitest';
import type { FunctionSection, PciSection } from '../src/machine/section.js';
import { bytesOfSize, sizeText } from '../src/machine/sizes.js';
import { driverPackage } from '../src/machine.js';

const fixtures = fileURLToPath(new URL('fixtures/lspci/', import.meta.url));
const recordings = fileURLToPath(new URL('../../../transcripts/hardware/', import.meta.url));
const folder = mkdtempSync(join(tmpdir(), 'pci-machine-'));
afterAll(() => rmSync(folder, { recursive: true }));

function load(pci: PciSection, more: Omit<MachineFile, 'version' | 'pci'> = {}): Promise<Machine> {
  return Machine.load(
    { version: 1, modules: ['vfio-pci'], ...more, pci },
    { drivers: [driverPackage], checked: true, clock: new VirtualClock() },
  );
}

function file(name: string, text: string): string {
  const path = join(folder, name);
  writeFileSync(path, text);
  return path;
}

/** What is in a file of a function, byte by byte. */
async function bytesOf({ host: { init } }: Machine, path: string): Promise<Uint8Array> {
  const fd = await init.open(`/sys/bus/pci/devices/${path}`, O.RDONLY);
  const bytes = new Uint8Array(8192);
  const count = await init.pread(fd, bytes, 0);
  await init.close(fd);
  return bytes.subarray(0, count);
}

const igb: PciSection['recording'] = {
  functions: `${recordings}q35-pci.jsonl`,
  virtual: `${recordings}q35-pci-sriov.jsonl`,
  contents: `${recordings}q35-pci-contents.jsonl`,
};
const IGB = '0000:03:00.0';

const lab: PciSection = {
  functions: {
    '0000:00:03.0': { model: 'edu' },
    '0000:00:1c.0': { model: 'root-port', secondary: 1 },
    '0000:01:00.0': { model: 'ioat' },
  },
  bind: { 'vfio-pci': 'all' },
};

async function exercised(machine: Machine, address: string): Promise<Record<string, string | undefined>> {
  const steps: ExerciseStep[] = [];
  for await (const step of machine.exercise(address)) steps.push(step);
  expect(steps.filter(({ ok }) => !ok)).toEqual([]);
  return Object.fromEntries(steps.map(({ name, detail }) => [name, detail]));
}

describe('functions that are emulated', () => {
  it('show what an edu can, through both doors', async () => {
    await using machine = await load(lab, { vfio: { iommufd: true, deviceCdev: true } });
    const steps = await exercised(machine, '0000:00:03.0');
    expect(steps).toMatchObject({
      config: '1 capabilities (msi), 0 extended',
      'edu factorial': '10! is 3628800',
      'edu dma': '2048 bytes to the device and back, at 0x100000',
      'edu msi': 'raised, signalled and acknowledged',
      'iommufd edu intx': 'raised, signalled and acknowledged',
      close: '0 users left',
    });
  });

  it('show what an I/OAT engine can, through both doors', async () => {
    await using machine = await load(lab, { vfio: { iommufd: true, deviceCdev: true } });
    const steps = await exercised(machine, '0000:01:00.0');
    expect(steps).toMatchObject({
      'ioat engine': 'version 3.3, 1 channel, 1048576 bytes a descriptor',
      'ioat copy': '4096 bytes at 0x100000, completion written, MSI-X signalled',
      'iommufd ioat copy': '4096 bytes at 0x100000, completion written, MSI-X signalled',
    });
    expect(steps['ioat error']).toMatch(/^a source that is not mapped halts it, error 0x1/);
  });

  it('are behind the bridges that lead to their buses', async () => {
    await using machine = await load({
      functions: {
        '0000:00:01.0': { model: 'root-port', secondary: 1, slot: false },
        '0000:01:00.0': { model: 'upstream-port', secondary: 2 },
        '0000:02:00.0': { model: 'downstream-port', secondary: 3, acs: false },
        '0000:02:01.0': { model: 'downstream-port', secondary: 4 },
        '0000:03:00.0': { model: 'pci-bridge', secondary: 5 },
        '0000:05:02.0': { model: 'edu' },
        '0000:05:02.1': { model: 'edu', dmaBits: 32 },
        '0000:04:00.0': { model: 'ioat', transferBits: 12 },
      },
    });
    const { init } = machine.host;
    const place = (name: string) => init.readlink(`/sys/bus/pci/devices/${name}`).replace(/^.*pci0000:00/, '');
    expect(place('0000:05:02.1')).toBe('/0000:00:01.0/0000:01:00.0/0000:02:00.0/0000:03:00.0/0000:05:02.1');
    expect(place('0000:04:00.0')).toBe('/0000:00:01.0/0000:01:00.0/0000:02:01.0/0000:04:00.0');
    const config = await bytesOf(machine, '0000:01:00.0/config');
    expect([...config.subarray(0x18, 0x1b)]).toEqual([1, 2, 5]);
    const groups = new Map((await machine.devices()).map(({ address, iommuGroup }) => [address, iommuGroup]));
    expect(groups.get('0000:05:02.0')).toBe(groups.get('0000:05:02.1'));
    expect(groups.get('0000:04:00.0')).not.toBe(groups.get('0000:05:02.0'));
  });
});

describe('a dump', () => {
  it('becomes its machine, and the same again out of what import writes', async () => {
    const name = 'tree-asus-p6t6.txt';
    const text = await readFile(`${fixtures}${name}`, 'utf8');
    const imported = driverPackage.importDump?.(text);
    expect(imported).toMatchObject({
      modules: ['vfio-pci'],
      section: { bind: { 'vfio-pci': 'all' } },
    });
    await using dumped = await load({ lspci: `${fixtures}${name}`, bind: { 'vfio-pci': 'all' } });
    // as it comes out of a file
    await using again = await load(JSON.parse(JSON.stringify(imported?.section)) as PciSection);
    const told = [...text.matchAll(/^(\w\w:\w\w\.\w) (.*)$/gm)].map(([, address]) => `0000:${address}`);
    const seen = await dumped.devices();
    expect(seen.map(({ address }) => address).sort()).toEqual(told.sort());
    expect(await again.devices()).toEqual(seen);
    for (const address of told) {
      for (const attribute of ['config', 'resource', 'class', 'vendor']) {
        const read = (machine: Machine) => bytesOf(machine, `${address}/${attribute}`);
        expect(await read(again), `${address} ${attribute}`).toEqual(await read(dumped));
      }
    }
  });

  it('is changed by what the file knows better', async () => {
    const address = '0000:06:00.0';
    const bars = { 0: '32M', 1: '256M' };
    await using machine = await load({
      lspci: `${fixtures}tree-asus-p6t6.txt`,
      functions: {
        [address]: { rom: '128K', bars, writable: { '0x40': '0xffffffff' } },
        '0000:3f:1f.0': { model: 'edu' },
      },
      acpi: false,
    });
    const { init } = machine.host;
    expect(await init.readFile(`/sys/bus/pci/devices/${address}/vendor`)).toBe('0x10de\n');
    const lines = (await init.readFile(`/sys/bus/pci/devices/${address}/resource`)).split('\n');
    const size = (line = '') =>
      line
        .split(' ')
        .map(Number)
        .slice(0, 2)
        .reduce((start, end) => end - start + 1);
    expect([size(lines[0]), size(lines[1]), size(lines[6])]).toEqual([32 << 20, 256 << 20, 128 << 10]);
    const fd = await init.open(`/sys/bus/pci/devices/${address}/config`, O.RDWR);
    await init.pwrite(fd, Uint8Array.of(0xa5, 0x5a, 0xa5, 0x5a), 0x40);
    await init.close(fd);
    expect([...(await bytesOf(machine, `${address}/config`)).subarray(0x40, 0x44)]).toEqual([0xa5, 0x5a, 0xa5, 0x5a]);
    expect(await init.readFile('/sys/bus/pci/devices/0000:3f:1f.0/device')).toBe('0x11e8\n');
    expect(init.readdir(`/sys/bus/pci/devices/${address}`).map(({ name }) => name)).not.toContain('firmware_node');
  });

  it('has an OpRegion where its display of Intel says', async () => {
    await using machine = await load({ lspci: `${fixtures}tree-fujitsu-p8010.txt`, bind: { 'vfio-pci': 'all' } });
    await exercised(machine, '0000:00:02.0');
    await using device = await machine.client().openDevice('0000:00:02.0');
    const header = Buffer.from(await device.readRegion(9, 0, 0x20));
    expect([header.toString('latin1', 0, 16), header.readUInt32LE(16)]).toEqual(['IntelGraphicsMem', 8]);
  });

  it('is no dump when nothing in it looks like one', () => {
    expect(driverPackage.importDump?.('version: 1\n')).toBeUndefined();
    expect(() => driverPackage.importDump?.('00:00.0 Host bridge: x\n00: zz\n')).toThrow(/^line 2: /);
  });
});

describe('virtual functions', () => {
  it('are there as many as the file says, made by whoever has the physical one', async () => {
    const section = { recording: igb, functions: { [IGB]: { numVfs: 3 } } };
    const vfs = (machine: Machine) =>
      machine.devices().then((all) => all.map(({ address }) => address).filter((name) => /^0000:03:1/.test(name)));
    await using stub = await load(section);
    expect(await vfs(stub)).toEqual(['0000:03:10.0', '0000:03:10.2', '0000:03:10.4']);
    expect(stub.host.init.readlink(`/sys/bus/pci/devices/${IGB}/driver`)).toMatch(/\/pci-pf-stub$/);
    const bind = { 'vfio-pci': ['0000:03:10.0', IGB] };
    const enabled = [{ name: 'vfio-pci', parameters: { enable_sriov: true } }];
    await using own = await load({ ...section, bind }, { modules: enabled });
    expect(await vfs(own)).toHaveLength(3);
    expect(own.host.init.readlink(`/sys/bus/pci/devices/0000:03:10.0/driver`)).toMatch(/\/vfio-pci$/);
  });

  it('are those that were enabled when the dump was made, and are imported with it', async () => {
    await using first = await load({ recording: igb, functions: { [IGB]: { numVfs: 2 } } });
    const lines: string[] = [];
    for (const { address } of await first.devices()) {
      const config = await bytesOf(first, `${address}/config`);
      lines.push(`${address} Some class: Some device`);
      for (let at = 0; at < config.length; at += 16) {
        const hex = (value: number) => value.toString(16).padStart(2, '0');
        lines.push(`${hex(at)}: ${Array.from(config.subarray(at, at + 16), hex).join(' ')}`);
      }
      lines.push('');
    }
    const imported = driverPackage.importDump?.(lines.join('\n'));
    expect(imported?.section.functions?.[IGB]).toMatchObject({ numVfs: 2, description: 'Some class: Some device' });
    await using again = await load({ lspci: file('igb.txt', lines.join('\n')) });
    expect((await again.devices()).map(({ address }) => address)).toEqual(
      (await first.devices()).map(({ address }) => address),
    );
  });
});

describe('a section that makes no sense', () => {
  const fn = (section: FunctionSection, address = '0000:00:03.0'): PciSection => ({
    functions: { [address]: section },
  });

  it.each<[string, PciSection, string]>([
    [
      'a file that is not there',
      { lspci: 'no.txt' },
      "machine: pci.lspci: 'no.txt' can not be read: there is no file no.txt",
    ],
    [
      'a broken dump',
      { lspci: file('broken.txt', '00:00.0 Host bridge: x\n00: 01 02\n') },
      `machine: pci.lspci: ${folder}/broken.txt: line 2: 2 bytes where 16 should be`,
    ],
    [
      'two descriptions of the whole',
      { lspci: `${fixtures}cap-dev3.txt`, recording: igb },
      'machine: pci.recording: there is a dump as well: use one of lspci and recording',
    ],
    [
      'a function of nothing',
      fn({ rom: '64K' }),
      "functions.0000:00:03.0: it is in no dump: say what it is, by 'model' or 'config'",
    ],
    ['an unknown model', fn({ model: 'egu' }), 'model: is "egu": use one of edu, ioat, root-port'],
    [
      'an option of another model',
      fn({ model: 'edu', acs: true }),
      "acs: it is not for 'edu' but for root-port, downstream-port: remove it",
    ],
    ['an option of a model without one', fn({ secondary: 3 }), 'secondary: it is for the model root-port'],
    ['registers of a model', fn({ model: 'edu', rom: '4K' }), "rom: 'edu' is emulated and has its own: remove it"],
    [
      'a bus before its bridge',
      fn({ model: 'root-port', secondary: 3 }, '0000:05:00.0'),
      'secondary: a bus behind bus 5 has a higher number: use 6 or more',
    ],
    [
      'two ways to a bus',
      {
        functions: {
          '0000:00:01.0': { model: 'root-port', secondary: 1 },
          '0000:00:02.0': { model: 'root-port', secondary: 1 },
        },
      },
      'functions: two bridges lead to bus 0000:01: give each its own',
    ],
    [
      'a size',
      { lspci: `${fixtures}cap-dev3.txt`, functions: { '0000:01:00.0': { bars: { 0: '3K' } } } },
      'bars.0: 3K bytes are no power of two',
    ],
    [
      'lines of config space',
      fn({ config: '00: 86 80' }),
      "config: line 1 is '00: 86 80': it must be an offset and 16 bytes, once each",
    ],
    [
      'config space without ids',
      fn({ config: `10:${' 00'.repeat(16)}` }),
      "config: it has no line '00:', where the ids are",
    ],
    [
      'a register that is not there',
      { lspci: `${fixtures}tree-asus-p6t6.txt`, functions: { '0000:06:00.0': { writable: { '0x42': 1 } } } },
      'writable.0x42: no register of 32 bits is there: use 0x0, 0x4, ...',
    ],
    [
      'a slot without function 0',
      fn({ model: 'edu' }, '0000:00:03.1'),
      'functions.0000:00:03.1: nobody finds it: put something at 0000:00:03.0',
    ],
    ['an address', fn({ model: 'edu' }, '00:03.0'), 'functions.00:03.0: is not known here'],
    [
      'virtual functions of nobody',
      { lspci: `${fixtures}tree-asus-p6t6.txt`, functions: { '0000:06:00.0': { numVfs: 1 } } },
      'numVfs: it has no virtual functions: remove this',
    ],
    [
      'more virtual functions than there are',
      { recording: igb, functions: { [IGB]: { numVfs: 99 } } },
      'numVfs: 99 can not be enabled: ERANGE',
    ],
    ['a driver', { ...lab, bind: { 'vfio-pcy': 'all' } }, "bind.vfio-pcy: bus pci has no driver 'vfio-pcy', only "],
    [
      'a function that is bound nowhere',
      { ...lab, bind: { 'vfio-pci': ['0000:09:00.0'] } },
      'bind.vfio-pci[0]: there is no function 0000:09:00.0: use one of those that vfio ls shows',
    ],
    [
      'a function that is bound twice',
      { ...lab, bind: { 'vfio-pci': ['0000:00:03.0'], 'pci-stub': ['0000:00:03.0'] } },
      'bind.pci-stub[0]: 0000:00:03.0 is for vfio-pci already: remove one of both',
    ],
    [
      'a bridge',
      { ...lab, bind: { 'vfio-pci': ['0000:00:1c.0'] } },
      'bind.vfio-pci[0]: vfio-pci does not take 0000:00:1c.0: EINVAL',
    ],
  ])('%s', async (_name, section, message) => {
    const error: unknown = await load(section).catch((reason: unknown) => reason);
    expect(String(error)).toContain(message);
    expect(error).toMatchObject({ name: 'MachineFileError' });
  });
});

describe('sizes', () => {
  it.each([
    [16, 16],
    [4096, '4K'],
    [256 << 20, '256M'],
    [2 ** 36, '64G'],
    [2 ** 41, '2T'],
  ])('%s is written %s', (bytes, text) => {
    expect(sizeText(bytes)).toBe(text);
    expect(bytesOfSize(text)).toBe(bytes);
  });

  it.each(['3K', 48])('%s is none of a BAR', (size) => {
    expect(bytesOfSize(size)).toBeUndefined();
  });
});
