// What vfio-pci takes: config space and registers at the file object, and the life of a machine with many functions.

import { PciRegionIndex, regionStart } from '@vfio/core';
import { userBuffer } from '@vfio/host';
import { createPciLab, openFunction } from './pci-lab.js';
import type { Bench, Subject } from './subjects.js';
import type { Target } from './target.js';

/** Config space: what no user changes, and the command register, which is both the user's and the hardware's. */
const vendorId = 0x00;
const command = 0x04;
const memoryAndMaster = 0x06;
/** A pair of registers of edu: one that says always the same, and one that gives back what it was given, inverted. */
const identification = 0x00;
const liveness = 0x04;

const configRate = { perSecond: 2e6 } as const;
const barRate = { perSecond: 5e6 } as const;
const functions = 200;
const comesUpWithin = { withinNs: 1e9 } as const;

/** Registers of an edu card, and its config space. */
export async function pciRegisters(checked: boolean): Promise<Bench> {
  const lab = await createPciLab(checked, 1);
  const process = lab.host.spawn({ comm: 'bench' });
  const [name = ''] = lab.names;
  const fd = await openFunction(lab, process, name);
  const file = process.files.get(fd);
  const read = (title: string, index: number, at: number, size: number, target: Target): Subject => {
    const buffer = userBuffer(new Uint8Array(size), process);
    const position = Number(regionStart(index)) + at;
    const work = (count: number) => {
      for (let i = 0; i < count; i++) atOnce(file.read?.(buffer, position));
    };
    return { name: `vfio-pci: read ${title}`, floor: 'empty call', target, work };
  };
  const write = (title: string, index: number, at: number, bytes: Uint8Array, target: Target): Subject => {
    const buffer = userBuffer(bytes, process);
    const position = Number(regionStart(index)) + at;
    const work = async (count: number) => {
      for (let i = 0; i < count; i++) {
        const done = file.write?.(buffer, position);
        if (typeof done !== 'number') await done;
      }
    };
    return { name: `vfio-pci: write ${title}`, floor: 'empty call', target, work };
  };
  const { CONFIG, BAR0 } = PciRegionIndex;
  const enabled = Uint8Array.of(memoryAndMaster, 0);
  await process.pwrite(fd, enabled, regionStart(CONFIG) + BigInt(command));
  return {
    subjects: [
      read('vendor id, 2 B', CONFIG, vendorId, 2, configRate),
      read('command register, 2 B', CONFIG, command, 2, configRate),
      write('command register, 2 B', CONFIG, command, enabled, configRate),
      read('register, 4 B', BAR0, identification, 4, barRate),
      write('register, 4 B', BAR0, liveness, Uint8Array.of(1, 2, 3, 4), barRate),
    ],
    [Symbol.asyncDispose]: () => lab.host[Symbol.asyncDispose](),
  };
}

/** The data path of registers answers at once, or the figure is about something else. */
function atOnce(result: number | Promise<number> | undefined): void {
  if (typeof result !== 'number') throw new Error('a register answered later');
}

/** A machine that comes up with all of its functions bound, and ends without a rest. */
export async function pciMachine(checked: boolean): Promise<Bench> {
  const work = async (count: number) => {
    for (let i = 0; i < count; i++) {
      const { host, names } = await createPciLab(checked, functions);
      if (names.length !== functions) throw new Error(`only ${names.length} functions are bound`);
      const leaks = await host.shutdown();
      if (leaks.length > 0) throw new Error(`${leaks.length} things are left`);
    }
  };
  return {
    subjects: [
      {
        name: `vfio-pci: machine of ${functions} functions, up and down`,
        floor: 'empty async call',
        target: comesUpWithin,
        work,
      },
    ],
    [Symbol.asyncDispose]: async () => {},
  };
}
