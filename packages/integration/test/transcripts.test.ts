// What a real kernel answered, step by step, held against the built packages.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { driverPackage } from '@vfio/mdev-samples/machine';
import { formatReplay, loadDeviations, loadScript, modulesNeeded, replayFile, usesIommufd } from '@vfio/testing';
import { describe, expect, it } from 'vitest';

const transcripts = fileURLToPath(new URL('../../../transcripts', import.meta.url));
const scripts = join(transcripts, 'scripts');
/** Modules that are there; the other scripts come with their drivers. */
const here = new Set(['vfio_iommu_type1', ...driverPackage.modules]);

const names = readdirSync(scripts, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.vfs'))
  .sort();
const loaded = await Promise.all(names.map(async (name) => ({ name, script: await loadScript(join(scripts, name)) })));
const replayable = loaded.filter(
  ({ script }) => !usesIommufd(script.header) && modulesNeeded(script.header).every(({ name }) => here.has(name)),
);
const deviations = await loadDeviations(join(transcripts, 'deviations.json'));

describe('Linux 7.2', () => {
  it('finds scripts to replay', () => {
    expect(replayable.length).toBeGreaterThanOrEqual(18);
  });

  it.each(replayable.map(({ name }) => name))('answers %s as the kernel did', async (name) => {
    const result = await replayFile(join(scripts, name), {
      deviations,
      async createMachine(header) {
        const clock = new VirtualClock();
        const machine = await Machine.load(join(transcripts, 'machines', `${header.machine}.yaml`), {
          drivers: [driverPackage],
          modules: modulesNeeded(header),
          checked: true,
          clock,
        });
        return {
          process: machine.process({ comm: 'vfioscript' }),
          clock,
          [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
        };
      },
    });
    expect(result.ok, formatReplay(result)).toBe(true);
    expect(result.same + result.deviating.length).toBe(result.steps);
  });

  it('answers iommufd/iofd-ioas.vfs as the kernel did, which needs none of the drivers that its header names', async () => {
    const result = await replayFile(join(scripts, 'iommufd', 'iofd-ioas.vfs'), {
      deviations,
      async createMachine(header) {
        const clock = new VirtualClock();
        const machine = await Machine.load(join(transcripts, 'machines', 'mdev.yaml'), {
          drivers: [driverPackage],
          modules: modulesNeeded(header).filter(({ name }) => here.has(name) || name === 'iommufd'),
          vfio: { iommufd: true, deviceCdev: true },
          checked: true,
          clock,
        });
        return {
          process: machine.process({ comm: 'vfioscript' }),
          clock,
          [Symbol.asyncDispose]: () => machine[Symbol.asyncDispose](),
        };
      },
    });
    expect(result.ok, formatReplay(result)).toBe(true);
    expect(result.same).toBe(result.steps);
  });
});
