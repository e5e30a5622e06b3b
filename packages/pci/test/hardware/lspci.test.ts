import { readFileSync } from 'node:fs';
import { Host, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { pciName } from '../../src/bus/regs.js';
import { isLspci, parseLspci } from '../../src/hardware/lspci.js';
import type { FunctionRecord } from '../../src/hardware/record.js';
import { recordedMachine } from '../../src/hardware/recorded.js';
import { parseRecording } from '../../src/hardware/recording.js';

const fixture = (name: string) => readFileSync(new URL(`../fixtures/lspci/${name}.txt`, import.meta.url), 'utf8');
const recording = parseRecording(
  readFileSync(new URL('../../../../transcripts/hardware/q35-pci.jsonl', import.meta.url), 'utf8'),
);
const nameOf = ({ domain, bus, devfn }: FunctionRecord) => pciName(domain, bus, devfn);
const hex = (value: number, digits: number) => value.toString(16).padStart(digits, '0');

/** A function as lspci prints it. */
function print(record: FunctionRecord, size = record.config.length): string {
  const lines = [`${nameOf(record)} Something: of a vendor`];
  for (let at = 0; at < size; at += 16) {
    const bytes = [...record.config.subarray(at, at + 16)].map((byte) => hex(byte, 2));
    lines.push(`${hex(at, at < 0x100 ? 2 : 3)}: ${bytes.join(' ')}`);
  }
  return `${lines.join('\n')}\n`;
}

/** Config space with a header and nothing else. */
function header(set: Readonly<Record<number, number>>, size = 256): Uint8Array {
  const config = new Uint8Array(size);
  const view = new DataView(config.buffer);
  view.setUint32(0, 0x5678_1234, true);
  for (const [offset, value] of Object.entries(set)) view.setUint32(Number(offset), value, true);
  return config;
}

function dump(set: Readonly<Record<number, number>>, text = '', size = 256): string {
  const record = { domain: 0, bus: 0, devfn: 0x10, config: header(set, size), bars: [], romSize: 0, vfBars: [] };
  const [first, ...rest] = print(record).split('\n');
  return [first, ...(text === '' ? [] : text.split('\n')), ...rest].join('\n');
}

async function machineOf(text: string) {
  const machine = recordedMachine(parseLspci(text));
  const host = new Host({ checked: true, clock: new VirtualClock() });
  const bus = await pciInit(host);
  for (const root of machine.roots) await bus.addRoot(root);
  return { host, bus, machine };
}

describe('whole machines', () => {
  it.each([
    ['tree-asus-p6t6', 2],
    // What is behind its CardBus bridge is on a bus that nothing else leads to.
    ['tree-fujitsu-p8010', 2],
    ['tree-fsl-p2020', 3],
    ['PCI-X-bridges-and-domains', 5],
  ])('finds everything that lspci has printed (%s)', async (name, roots) => {
    const text = fixture(name);
    const printed = [...text.matchAll(/^((?:[0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]) /gm)].map(([, at = '']) =>
      at.length > 7 ? at : `0000:${at}`,
    );
    expect(parseLspci(text).map(nameOf)).toEqual(printed);
    const { host, bus, machine } = await machineOf(text);
    await using _ = host;
    expect(machine.roots).toHaveLength(roots);
    for (const at of printed) {
      const [domain = 0, number = 0, slot = 0, fn = 0] = at.split(/[:.]/).map((part) => Number.parseInt(part, 16));
      const found = bus.find(domain, number, (slot << 3) | fn);
      expect({ at, found: found?.name }).toEqual({ at, found: at });
    }
    const lost = host.log.entries.filter(({ level }) => level === 'err');
    expect(lost).toEqual([]);
  });
});

describe('what comes with a dump', () => {
  it('is no part of it: marks of editors, and what lspci complains about', () => {
    const text = dump({ 16: 0xfe84_0000 });
    const [first = '', ...rest] = text.split('\n');
    const complaint = 'pcilib: sysfs_read_vpd: read failed: Input/output error';
    const noisy = ['lspci: Unable to load libkmod resources: error -2', first, complaint, ...rest].join('\n');
    for (const other of [`\uFEFF${text}`, text.replaceAll('\n', '\r\n'), noisy]) {
      expect(isLspci(other)).toBe(true);
      expect(parseLspci(other).map(({ config }) => config)).toEqual(parseLspci(text).map(({ config }) => config));
    }
    expect(isLspci(complaint)).toBe(false);
    expect(() => parseLspci(`${complaint}\n${first}\n00: zz\n`)).toThrow(/^line 3: /);
  });
});

describe('sizes of BARs', () => {
  it('are what the text says, by number or by address', () => {
    const registers = { 16: 0xfe84_0000, 20: 0xfe86_0004, 28: 0xe001, 48: 0xfe80_0001 };
    const numbered = parseLspci(
      dump(
        registers,
        [
          '\tRegion 0: Memory at fe840000 (32-bit, non-prefetchable) [size=128K]',
          '\tRegion 1: Memory at fe860000 (64-bit, non-prefetchable) [disabled] [size=16K]',
          '\tRegion 3: I/O ports at e000 [size=32]',
          '\tExpansion ROM at fe800000 [virtual] [disabled] [size=256K]',
          '\tCapabilities: [160] Single Root I/O Virtualization (SR-IOV)',
          '\t\tRegion 0: Memory at 00000000fe840000 (64-bit, prefetchable) [size=4M]',
        ].join('\n'),
      ),
    )[0];
    expect(numbered?.bars).toEqual([
      { index: 0, size: 0x2_0000, space: 'memory', wide: false, prefetch: false },
      { index: 1, size: 0x4000, space: 'memory', wide: true, prefetch: false },
      { index: 3, size: 32, space: 'io', wide: false, prefetch: false },
    ]);
    expect(numbered?.romSize).toBe(0x4_0000);
    const plain = parseLspci(
      dump(
        registers,
        [
          '\tFlags: fast devsel, IRQ 10',
          '\tMemory at fe840000 (32-bit, non-prefetchable) [size=128K]',
          '\tMemory at fe860000 (64-bit, non-prefetchable) [size=16K]',
          '\tI/O ports at e000 [size=32]',
          '\tExpansion ROM at fe800000 [disabled] [size=256K]',
        ].join('\n'),
      ),
    )[0];
    expect([plain?.bars, plain?.romSize]).toEqual([numbered?.bars, numbered?.romSize]);
  });

  it('are as large as the address allows when nothing is said, and as what is in them needs', () => {
    const [first] = parseLspci(dump({ 16: 0xfe84_2000, 20: 0xe011, 24: 0x8000_0000 }));
    expect(first?.bars.map(({ size }) => size)).toEqual([0x2000, 16, 0x10_0000]);
    // An MSI-X table of 2048 entries from 0x4000 on, in a BAR of which nothing else is known.
    const [table] = parseLspci(dump({ 4: 0x0010_0000, 52: 0x40, 64: 0x07ff_0011, 68: 0x4003, 72: 0xc003 }));
    expect(table?.bars).toEqual([{ index: 3, size: 0x1_0000, space: 'memory', wide: false, prefetch: false }]);
  });

  it('are what a resizable BAR was given, or what somebody knows better', () => {
    const set = { 16: 0x8000_000c, 256: 0x0001_0015, 260: 0xfff0, 264: 0x0000_0820 };
    const [resizable] = parseLspci(dump(set, '', 4096));
    expect(resizable?.bars[0]?.size).toBe(2 ** 28);
    const sizes = { '0000:00:02.0': { bars: { 0: 2 ** 14 }, rom: 0x800 } };
    const [better] = parseLspci(dump(set, '', 4096), { sizes });
    expect([better?.bars[0]?.size, better?.romSize]).toEqual([2 ** 14, 0x800]);
    expect(() => parseLspci(dump(set, '', 4096), { sizes: { '0000:00:02.0': { bars: { 0: 48 } } } })).toThrow(
      'line 1: BAR 0 of 48 bytes',
    );
  });

  it('keeps nothing of capabilities whose bytes are not there', () => {
    const [record] = recording.filter(({ config }) => config.length === 4096);
    if (!record) throw new Error('none is that large');
    const [short] = parseLspci(print(record, 64));
    expect([short?.config.length, (short?.config[6] ?? 0) & 0x10]).toEqual([256, 0]);
    const [half] = parseLspci(print(record, 256));
    expect(half?.config).toEqual(record.config.subarray(0, 256));
  });
});

describe('what is not a dump', () => {
  const good = dump({});
  it.each([
    ['', 'line 1: there is no function'],
    ['hello', 'line 1: this is not what lspci prints: hello'],
    ['00: 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00 00', 'line 1: bytes of no function'],
    ['00:02.0 VGA: a card\n', 'line 1: 0000:00:02.0 has no bytes: use lspci -xxx or -xxxx'],
    [`${good}${good}`, 'line 18: 0000:00:02.0 is there twice'],
    [good.replace('20: 00', '20: 0'), 'line 4: these are no bytes'],
    [good.replace('30: 00 ', '30: '), 'line 5: 15 bytes where 16 should be'],
    [good.replace(/^40: .*\n/m, ''), 'line 6: offset 50 follows 40'],
    [good.replace(/^f0: .*\n/m, ''), 'line 1: 0000:00:02.0 ends after 240 bytes'],
    ['0000:00:22.0 VGA: a card\n', 'line 1: 0000:00:22.0 is no address of a function'],
    [dump({}, '\tRegion 0: Memory at fe840000 (32-bit) [size=48K]'), 'line 2: a size of 49152 bytes'],
  ])('is refused with its line (%#)', (text, message) => {
    expect(() => parseLspci(text)).toThrow(new SyntaxError(message));
  });

  it('is told apart from dumps', () => {
    expect([isLspci(good), isLspci(fixture('tree-fsl-p2020')), isLspci('-[0000:00]-+-00.0\n')]).toEqual([
      true,
      true,
      true,
    ]);
    expect([isLspci(''), isLspci('{"address":1}'), isLspci('version: 1\n')]).toEqual([false, false, false]);
  });

  it('never breaks anything else, however it is broken', () => {
    const whole = fixture('cap-dev3') + fixture('cap-MSI-mapping');
    const cut = fc.record({ from: fc.nat(whole.length), length: fc.nat(200), put: fc.string() });
    fc.assert(
      fc.property(fc.array(cut, { minLength: 1, maxLength: 4 }), (cuts) => {
        let text = whole;
        for (const { from, length, put } of cuts) text = text.slice(0, from) + put + text.slice(from + length);
        try {
          recordedMachine(parseLspci(text));
        } catch (error) {
          expect(error).toBeInstanceOf(SyntaxError);
        }
      }),
      { numRuns: 200 },
    );
  });
});

describe('a dump of a machine', () => {
  it('has the topology of the machine', () => {
    const text = recording.map((record) => print(record)).join('\n');
    const { roots, functions } = recordedMachine(parseLspci(`-[0000:00]-+-00.0\n           +-02.0\n${text}`));
    expect(roots).toHaveLength(1);
    expect([...functions.keys()]).toEqual(recording.map(nameOf));
    expect(roots[0]?.segment.devfns()).toEqual(recording.filter(({ bus }) => bus === 0).map(({ devfn }) => devfn));
  });
});

describe('a dump that is not whole', () => {
  const bridge = (secondary: number) =>
    header({ 8: 0x0604_0000, 12: 0x0001_0000, 24: (secondary << 16) | (secondary << 8) });
  const printed = (bus: number, devfn: number, config: Uint8Array) =>
    print({ domain: 0, bus, devfn, config, bars: [], romSize: 0, vfBars: [] });

  it('gives a bridge without numbers none that a bus has which nothing leads to', async () => {
    const { host, bus } = await machineOf(
      printed(0, 8, bridge(0)) + printed(1, 0, header({})) + printed(3, 0, header({})),
    );
    await using _ = host;
    expect([bus.find(0, 0, 8)?.subordinate, bus.find(0, 1, 0)?.name]).toEqual([undefined, '0000:01:00.0']);
    expect(host.log.entries.map(({ text }) => text)).toContain('No bus number available for bridge');
  });

  it('nor one behind a bridge that reaches further', async () => {
    const upper = bridge(1);
    upper[0x1a] = 4;
    const text = printed(0, 8, upper) + printed(1, 0, bridge(0)) + printed(2, 0, header({}));
    const { host, bus } = await machineOf(text);
    await using _ = host;
    expect([bus.find(0, 1, 0)?.subordinate, bus.find(0, 2, 0)?.name]).toEqual([undefined, '0000:02:00.0']);
  });

  it('has one bridge for each bus', () => {
    const text = printed(0, 8, bridge(1)) + printed(0, 0x10, bridge(1));
    expect(() => recordedMachine(parseLspci(text))).toThrow(
      new SyntaxError('line 18: two bridges lead to bus 0000:01'),
    );
  });

  it('may have an MSI-X table in a BAR that is not there', () => {
    // Header of no kind that there is.
    const text = dump({ 4: 0x0010_0000, 12: 0x0003_0000, 52: 0x40, 64: 0x0003_0011 });
    const { functions } = recordedMachine(parseLspci(text));
    expect(functions.get('0000:00:02.0')?.msix).toBeUndefined();
  });

  it('may be of a function that slept: it is awake in the machine, and after each reset', () => {
    const text = dump({ 4: 0x0010_0000, 52: 0x40, 64: 0x0003_0001, 68: 0x0000_0003 });
    const fn = recordedMachine(parseLspci(text)).functions.get('0000:00:02.0');
    const state = () => (fn?.readConfig(0x44, 2) ?? 0) & 3;
    expect(state()).toBe(0);
    fn?.writeConfig(0x44, 2, 3);
    expect(state()).toBe(3);
    fn?.reset('bus');
    expect(state()).toBe(0);
  });
});
