import { readFileSync } from 'node:fs';
import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { setPowerState } from '../../src/bus/power.js';
import { pciName } from '../../src/bus/regs.js';
import { mapRom } from '../../src/bus/rom.js';
import { enableSriov } from '../../src/bus/sriov.js';
import { recordedMachine } from '../../src/hardware/recorded.js';
import { parseContents, parseRecording } from '../../src/hardware/recording.js';

const file = (name: string) =>
  readFileSync(new URL(`../../../../transcripts/hardware/${name}`, import.meta.url), 'utf8');
const text = file('q35-pci.jsonl');
const lines = text
  .trim()
  .split('\n')
  .map((line): Record<string, string> => JSON.parse(line));

async function lab() {
  const machine = recordedMachine(parseRecording(text), {
    virtual: parseRecording(file('q35-pci-sriov.jsonl')),
    contents: parseContents(file('q35-pci-contents.jsonl')),
    root: { nativeHotplug: false },
  });
  const iommu = {
    aperture: [0n, 2n ** 39n - 1n] as const,
    pageSizes: 0x1000n,
    coherent: true,
    msiIsolated: true,
    reserved: [],
  };
  const host = new Host({ checked: true, clock: new VirtualClock(), iommu });
  const bus = await pciInit(host);
  for (const root of machine.roots) await bus.addRoot(root);
  const pdev = (name: string) => {
    const [number, slot, fn] = [name.slice(5, 7), name.slice(8, 10), name.slice(11)];
    const found = bus.find(0, Number.parseInt(number, 16), (Number.parseInt(slot, 16) << 3) | Number(fn));
    if (!found) throw new Error(`there is no ${name}`);
    return found;
  };
  return { host, bus, machine, pdev };
}

describe('the recorded machine', () => {
  it('has every function at its place, with its ids, its resources and its group', async () => {
    const { host, pdev } = await lab();
    await using _ = host;
    for (const line of lines) {
      const found = pdev(line.address ?? '');
      expect([found.vendor, found.deviceId, found.classCode]).toEqual([
        Number(line.vendor),
        Number(line.device),
        Number(line.class),
      ]);
      const resources = found.resource
        .slice(0, 7)
        .map(({ start, end, flags }) => (flags === 0 ? [0, 0] : [start, end]));
      const recorded = line.resource?.split('\n').slice(0, 7);
      const expected = recorded?.map((range) => range.split(' ').map(Number).slice(0, 2));
      expect({ at: line.address, resources }).toEqual({ at: line.address, resources: expected });
      expect(found.iommuGroup?.id).toBe(Number(line.iommu_group));
      const path = found.sysfs.path();
      expect(path.endsWith(line.path?.replace('../../../', '') ?? '?')).toBe(true);
      const methods = found.resetMethods.join(' ');
      expect({ at: line.address, methods }).toEqual({ at: line.address, methods: line.reset_method ?? '' });
    }
    expect(host.log.entries.filter(({ level }) => level === 'err' || level === 'warn')).toEqual([]);
  });

  it('has registers that do what the real ones did when they were written', async () => {
    const { functions } = recordedMachine(parseRecording(text));
    let compared = 0;
    for (const record of parseRecording(text)) {
      const { writes } = record;
      const fn = functions.get(pciName(record.domain, record.bus, record.devfn));
      if (!writes || !fn) continue;
      // In the order in which they were tried: all of a kind, each put back before the next.
      for (let offset = 0; offset < record.config.length; offset += 4) {
        const dword = (bytes: Uint8Array) => new DataView(bytes.buffer, bytes.byteOffset).getUint32(offset, true);
        const before = fn.readConfig(offset, 4);
        // The bit that resets the function was left out, and so is what the power state hides.
        const ones = flrOf(fn, offset) ? 0x7fff_7fff : 0xffff_ffff;
        fn.writeConfig(offset, 4, ones);
        const seen = fn.readConfig(offset, 4);
        fn.writeConfig(offset, 4, 0);
        const zeros = fn.readConfig(offset, 4);
        fn.writeConfig(offset, 4, before);
        const name = `${pciName(record.domain, record.bus, record.devfn)} ${offset.toString(16)}`;
        expect({ name, seen, zeros }).toEqual({ name, seen: dword(writes.ones), zeros: dword(writes.zeros) });
        compared++;
      }
    }
    expect(compared).toBeGreaterThan(3000);
  });

  it('comes back from a reset with what it came with', async () => {
    const { functions } = recordedMachine(parseRecording(text));
    const fn = functions.get('0000:01:00.0');
    if (!fn) throw new Error('not there');
    const before = fn.config.snapshot();
    for (const [offset, value] of [[0x10, 0x1234_0000] as const, [0x3c, 9] as const, [0xd4, 0xfee0_0000] as const]) {
      fn.writeConfig(offset, 4, value);
    }
    fn.writeConfig(0xfc, 4, 0x5555_aaaa);
    fn.writeConfig(0xdc, 4, 0x1234_5678);
    fn.busReset();
    // Bytes of no capability were kept over resets.
    expect([fn.readConfig(0xfc, 4), fn.readConfig(0xdc, 4)]).toEqual([0x5555_aaaa, 0x1234_0000]);
    fn.writeConfig(0xfc, 4, 0);
    fn.writeConfig(0xdc, 4, 0);
    expect([0x10, 0x18, 0x04, 0x3c].map((at) => fn.readConfig(at, 4))).toEqual([0, 1, 0x0010_0000, 0x100]);
    expect(fn.config.snapshot().subarray(0x40)).toEqual(before.subarray(0x40));
  });

  it('has the devices behind the BARs that programs have met', async () => {
    const { host, pdev } = await lab();
    await using _ = host;
    expect(pdev('0000:00:02.0').hw.readBar(0, 0, 4)).toBe(0x0100_00ed);
    const network = pdev('0000:01:00.0').hw;
    expect([network.readBar(0, 0, 4), network.readBar(0, 8, 4), network.readBar(0, 0x1fffc, 4)]).toEqual([
      0x0014_0241, 0x0008_0283, 0,
    ]);
    network.writeBar(2, 0, 4, 8);
    expect(network.readBar(2, 4, 4)).toBe(0x0008_0283);
    expect([network.readBar(3, 0, 4), network.readBar(3, 12, 4)]).toEqual([0, 1]);
    using rom = mapRom(pdev('0000:01:00.0'));
    expect([rom?.size, rom?.read(0, 4), rom?.read(0x100, 4)]).toEqual([0x4_0000, 0xe9d4_aa55, 0x042b_e8f8]);
    using vga = mapRom(pdev('0000:00:04.0'));
    expect([vga?.size, vga?.read(0, 4)]).toEqual([0x4d * 512, 0xe94d_aa55]);
  });

  it('has tests of writes that are selected and described byte by byte', async () => {
    const { host, pdev } = await lab();
    await using _ = host;
    const { hw } = pdev('0000:00:03.0');
    const header = (bar: number) => [0, 4, 8, 12].map((offset) => hw.readBar(bar, offset, 4));
    expect(header(0)).toEqual([0, 0, 0, 0]);
    hw.writeBar(0, 0, 1, 0);
    expect(header(0)).toEqual([0x100, 0x800, 0xfa, 0]);
    expect([header(1), hw.readBar(1, 16, 1)]).toEqual([header(0), 0x6d]);
    hw.writeBar(1, 0, 1, 0);
    expect(header(1)).toEqual([0x103, 0x83, 0xfa, 0]);
    hw.writeBar(1, 0x83, 1, 0xfa);
    hw.writeBar(1, 0x83, 1, 0xfb);
    hw.writeBar(1, 0x84, 1, 0xfa);
    expect(header(0)[3]).toBe(1);
    hw.writeBar(1, 0, 1, 3);
    expect(header(1)[0]).toBe(0x103);
    hw.busReset();
    hw.writeConfig(4, 2, 3);
    expect(header(1)).toEqual([0, 0, 0, 0]);
  });

  it('makes virtual functions as the recorded ones were', async () => {
    const { host, pdev } = await lab();
    await using _ = host;
    const pf = pdev('0000:03:00.0');
    await setPowerState(pf, 0);
    await enableSriov(pf, 2);
    const recorded = file('q35-pci-sriov.jsonl')
      .trim()
      .split('\n')
      .map((line): Record<string, string> => JSON.parse(line))
      .filter(({ address }) => address?.startsWith('0000:03:1'));
    expect(recorded).toHaveLength(2);
    for (const line of recorded) {
      const vf = pdev(line.address ?? '');
      expect([vf.vendor, vf.deviceId, vf.isVirtfn]).toEqual([0x8086, 0x10ca, true]);
      const first = line.resource?.split('\n')[0]?.split(' ').map(Number).slice(0, 2);
      expect([vf.resource[0]?.start, vf.resource[0]?.end]).toEqual(first);
      // It shares its bus, and no slot was the kernel's to reset.
      expect(vf.resetMethods.join(' ')).toBe(line.reset_method);
      expect(vf.hw.readConfig(0xa0, 1)).toBe(0x10);
      expect(vf.hw.readBar(0, 8, 4)).toBe(0);
      expect(vf.hw.readBar(3, 12, 4)).toBe(1);
    }
  });
});

describe('parseRecording', () => {
  it.each([
    ['{', 'line 1: not JSON'],
    ['\n[]', 'line 2: not an object'],
    ['{"address":"zz"}', 'line 1: no address'],
    ['{"address":"0000:00:00.0","config":"00"}', 'line 1: config space of no size that there is'],
    ['{"address":"0000:00:00.0","config":"xy"}', 'line 1: config is not hexadecimal'],
  ])('says where %s is wrong', (broken, message) => {
    expect(() => parseRecording(broken)).toThrow(new SyntaxError(message));
  });

  it('refuses two functions in one place', () => {
    const [first = ''] = text.split('\n');
    expect(() => recordedMachine(parseRecording(`${first}\n${first}`))).toThrow('0000:00:00.0 is there twice');
  });

  it('says what is wrong with contents', () => {
    expect(() => parseContents('{"address":"0000:00:00.0","bar":7,"bytes":"00"}')).toThrow('line 1: no such BAR');
    expect(() => parseContents('{"address":"0000:00:00.0","bar":0}')).toThrow('line 1: no bytes');
  });
});

/** Whether a dword holds the bit that resets the function. */
function flrOf(fn: { capabilities: { find(id: number): number } }, offset: number): boolean {
  const express = fn.capabilities.find(0x10);
  return express !== 0 && offset === express + 8;
}
