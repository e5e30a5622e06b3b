/*
 * Dumps that somebody has damaged: lines that are gone, twice or cut off, and bytes that make loops of bridges and of capabilities,
 * BARs in each other's place, and registers that no hardware has. Each is refused with its line, or becomes a machine that comes
 * up, is bound to vfio-pci, and goes down again.
 */
import { readFileSync } from 'node:fs';
import { Vfio } from '@vfio/core';
import { Host, isSystemError, VirtualClock } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { pciInit } from '../../src/bus/bus-type.js';
import { defineVfioPci } from '../../src/driver.js';
import { parseLspci } from '../../src/hardware/lspci.js';
import { recordedMachine } from '../../src/hardware/recorded.js';
import { vtd } from '../bus/machine.js';

/** Damaged dumps of each kind. */
const RUNS = 25;

const fixture = (name: string) => readFileSync(new URL(`../fixtures/lspci/${name}.txt`, import.meta.url), 'utf8');
const dumps: Readonly<Record<string, string>> = {
  'a small board': fixture('tree-fsl-p2020'),
  'a server with many bridges': fixture('PCI-X-bridges-and-domains'),
  'a notebook': fixture('tree-fujitsu-p8010'),
  'single functions': fixture('cap-dev3') + fixture('cap-MSI-mapping'),
};

/** Registers that decide what a machine looks like, and all others. */
const offset = fc.oneof(
  fc.constantFrom(0x00, 0x01, 0x04, 0x06, 0x0a, 0x0b, 0x0e, 0x18, 0x19, 0x1a, 0x19, 0x1a, 0x34, 0x3d),
  fc.integer({ min: 0x10, max: 0x33 }),
  fc.integer({ min: 0x40, max: 0xff }),
  fc.integer({ min: 0x100, max: 0x1ff }),
  fc.nat(0xfff),
);
const byte = fc.oneof(fc.constantFrom(0, 1, 2, 4, 0x0c, 0x10, 0x40, 0x80, 0xff), fc.nat(0xff));
/** Ids that capabilities have, so that they come where there is nothing of the kind. */
const capability = fc.tuple(fc.constantFrom(0, 1, 3, 5, 7, 9, 0x10, 0x11, 0x13), byte, byte, byte);

const damage = fc.oneof(
  {
    weight: 6,
    arbitrary: fc.record({
      do: fc.constant('bytes'),
      fn: fc.nat(63),
      offset,
      bytes: fc.array(byte, { minLength: 1, maxLength: 4 }),
    }),
  },
  {
    weight: 3,
    arbitrary: fc.record({
      do: fc.constant('bytes'),
      fn: fc.nat(63),
      offset: offset.map((at) => at & ~3),
      bytes: capability,
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constantFrom('drop', 'again', 'cut'),
      line: fc.nat(9999),
      count: fc.integer({ min: 1, max: 20 }),
    }),
  },
  {
    weight: 1,
    arbitrary: fc.record({
      do: fc.constant('say'),
      fn: fc.nat(63),
      text: fc.oneof(
        fc.string(),
        fc
          .tuple(
            fc.nat(7),
            fc.nat(0xffff_ffff),
            fc.constantFrom(0, 1, 2, 3, 256, 65536, 999999999),
            fc.constantFrom('', 'K', 'M', 'G', 'T'),
          )
          .map(([bar, at, size, unit]) => `Region ${bar}: Memory at ${at.toString(16)} (32-bit) [size=${size}${unit}]`),
        fc.nat(0xffff_ffff).map((at) => `Expansion ROM at ${at.toString(16)} [size=1G]`),
      ),
    }),
  },
);
type Damage = typeof damage extends fc.Arbitrary<infer T> ? T : never;

const isFunction = (line: string) => /^([0-9a-f]{4}:)?[0-9a-f]{2}:[0-9a-f]{2}\.[0-7] /.test(line);

function damaged(text: string, all: readonly Damage[]): string {
  const lines = text.split('\n');
  for (const one of all) {
    if (one.do === 'bytes') setBytes(lines, functionAt(lines, one.fn), one.offset, one.bytes);
    else if (one.do === 'say') lines.splice(functionAt(lines, one.fn) + 1, 0, `\t${one.text}`);
    else {
      const at = one.line % lines.length;
      if (one.do === 'drop') lines.splice(at, one.count);
      else if (one.do === 'again') lines.splice(at, 0, ...lines.slice(at, at + one.count));
      else lines[at] = (lines[at] ?? '').slice(0, one.count);
    }
  }
  return lines.join('\n');
}

/** The line of a function. */
function functionAt(lines: readonly string[], index: number): number {
  const all = lines.flatMap((line, at) => (isFunction(line) ? [at] : []));
  return all[index % Math.max(all.length, 1)] ?? 0;
}

function setBytes(lines: string[], from: number, offset: number, bytes: readonly number[]): void {
  for (const [index, value] of bytes.entries()) {
    const at = offset + index;
    const head = `${(at & ~15).toString(16).padStart(2, '0')}: `;
    for (let line = from + 1; line < lines.length && !isFunction(lines[line] ?? ''); line++) {
      const text = lines[line] ?? '';
      if (!text.startsWith(head)) continue;
      const place = head.length + 3 * (at & 15);
      lines[line] = text.slice(0, place) + value.toString(16).padStart(2, '0') + text.slice(place + 2);
    }
  }
}

/** The machine of a dump; undefined: it was refused. */
function machineOf(text: string): ReturnType<typeof recordedMachine> | undefined {
  try {
    return recordedMachine(parseLspci(text));
  } catch (error) {
    expect(error).toBeInstanceOf(SyntaxError);
    expect(error).toHaveProperty('message', expect.stringMatching(/^line \d+: /));
    return undefined;
  }
}

/** Brings a machine up, gives everything to vfio-pci that it takes, and ends it. */
async function bringUp(machine: ReturnType<typeof recordedMachine>): Promise<void> {
  const host = new Host({ checked: true, clock: new VirtualClock(), iommu: vtd });
  defineVfioPci(new Vfio(host));
  const bus = await pciInit(host);
  for (const root of machine.roots) await bus.addRoot(root);
  await host.modules.modprobe('vfio_pci');
  for (const { name } of host.init.readdir('/sys/bus/pci/devices')) {
    await host.init.writeFile(`/sys/bus/pci/devices/${name}/driver_override`, 'vfio-pci');
    try {
      await host.init.writeFile('/sys/bus/pci/drivers_probe', name);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }
  expect(host.log.warnings()).toEqual([]);
  await host[Symbol.asyncDispose]();
}

describe('a damaged dump', () => {
  it.each(Object.entries(dumps))('is refused with its line, or is a machine (%s)', async (_, text) => {
    await fc.assert(
      fc.asyncProperty(fc.array(damage, { minLength: 1, maxLength: 12, size: 'max' }), async (all) => {
        const machine = machineOf(damaged(text, all));
        if (machine) await bringUp(machine);
      }),
      { numRuns: RUNS },
    );
  });
});
