/*
 * Random programs on functions of recorded machines and of dumps. Whatever they do, they are told errnos and nothing else, a
 * checked host finds nothing wrong, a reset and a new open show what a fresh open shows, and nothing is left at the end.
 */
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import type { PciDev } from '../src/bus/pci-dev.js';
import { dumped, expected, FuzzLab, type FuzzTarget, recorded } from './fuzz/fuzz-lab.js';
import { program, type Step } from './fuzz/program.js';
import { stickyBits } from './fuzz/sticky.js';
import { FuzzUser } from './fuzz/user.js';

const targets: Readonly<Record<string, FuzzTarget>> = {
  'edu on the root bus': { machine: recorded, name: '0000:00:02.0' },
  vga: { machine: recorded, name: '0000:00:04.0' },
  e1000e: { machine: recorded, name: '0000:01:00.0' },
  nvme: { machine: recorded, name: '0000:02:00.0' },
  'igb, physical': { machine: recorded, name: '0000:03:00.0' },
  'igb, virtual': { machine: recorded, name: '0000:03:10.0', physical: '0000:03:00.0' },
  'edu, two functions': { machine: recorded, name: '0000:04:00.0', beside: ['0000:04:00.1'] },
  'edu behind a bridge': { machine: recorded, name: '0000:06:01.0', beside: ['0000:06:02.0'] },
  'edu, two functions by their nodes': {
    machine: recorded,
    name: '0000:04:00.0',
    beside: ['0000:04:00.1'],
    cdev: true,
  },
  'nvme by its node': { machine: recorded, name: '0000:02:00.0', cdev: true },
  ivshmem: { machine: recorded, name: '0000:07:00.0' },
  'SAS controller of a dump': { machine: () => dumped('tree-asus-p6t6'), name: '0000:04:00.0' },
  'display of a dump': {
    machine: () => dumped('tree-asus-p6t6'),
    name: '0000:06:00.0',
    beside: ['0000:06:00.1'],
  },
  'host controller of a dump': { machine: () => dumped('tree-fsl-p2020'), name: '0002:01:00.0' },
  'wireless card of a dump': { machine: () => dumped('tree-fujitsu-p8010'), name: '0000:14:00.0' },
  'SCSI controller of a dump': {
    machine: () => dumped('PCI-X-bridges-and-domains'),
    name: '0001:01:01.0',
    beside: ['0001:01:01.1'],
  },
  'card of a dump behind bridges': {
    machine: () => dumped('PCI-X-bridges-and-domains'),
    name: '0002:42:00.0',
    beside: ['0002:42:01.0', '0002:42:02.0', '0002:42:03.0'],
  },
  'memory controller of a dump': { machine: () => dumped('cap-dev3'), name: '0000:01:00.0' },
};

/** Programs for each function; more find more. */
const RUNS = 12;

/** Runs one program on a machine of its own. */
async function run(target: FuzzTarget, steps: readonly Step[]): Promise<void> {
  const lab = await FuzzLab.create(target);
  const pending: Promise<void>[] = [];
  const fresh = await lab.config();
  const user = await FuzzUser.create(lab);
  try {
    for (const step of steps) {
      const reopens = step.do === 'reopen';
      if (reopens) await Promise.all(pending.splice(0));
      const done = user.run(step).then(() => undefined, expected);
      // What opens something has to know what is open.
      if (step.later && !reopens && step.do !== 'openBeside') pending.push(done);
      else await done;
    }
    await Promise.all(pending);
    if (await lab.canReset()) {
      await lab.reset();
      await lab.close();
      await lab.open();
      expect(differences(lab.pdev, fresh, await lab.config())).toEqual([]);
    }
  } finally {
    await Promise.allSettled(pending);
  }
  expect(lab.host.log.warnings()).toEqual([]);
  expect(lab.host.log.oopses).toEqual([]);
  await lab.host[Symbol.asyncDispose]();
}

/** Where a fresh open and one after a reset differ in what resets do not keep. */
function differences(pdev: PciDev, before: Uint8Array, after: Uint8Array): string[] {
  const keeps = stickyBits(pdev);
  return [...before].flatMap((byte, at) => {
    const changed = (byte ^ (after[at] ?? 0)) & ~(keeps[at] ?? 0);
    return changed === 0 ? [] : [`0x${at.toString(16)}: 0x${byte.toString(16)} 0x${after[at]?.toString(16)}`];
  });
}

describe('random programs', () => {
  it.each(Object.entries(targets))('%s', async (_, target) => {
    await fc.assert(
      fc.asyncProperty(program, (steps) => run(target, steps)),
      { numRuns: RUNS },
    );
  });
});
