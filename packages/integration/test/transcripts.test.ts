// What a real kernel answered, step by step, held against the built packages.

import { readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { VirtualClock } from '@vfio/host';
import { Machine } from '@vfio/machine';
import { driverPackage as samples } from '@vfio/mdev-samples/machine';
import { driverPackage as pci } from '@vfio/pci/machine';
import { formatReplay, loadDeviations, loadScript, modulesNeeded, replayFile, usesIommufd } from '@vfio/testing';
import { describe, expect, it } from 'vitest';

const transcripts = fileURLToPath(new URL('../../../transcripts', import.meta.url));
const scripts = join(transcripts, 'scripts');
const drivers = [samples, pci];
/** Modules that are there; the other scripts come with their drivers. */
const here = new Set(['vfio_iommu_type1', 'iommufd', ...drivers.flatMap(({ modules }) => modules)]);

const names = readdirSync(scripts, { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.vfs'))
  .sort();
const loaded = await Promise.all(names.map(async (name) => ({ name, script: await loadScript(join(scripts, name)) })));
const replayable = loaded.filter(({ script }) => modulesNeeded(script.header).every(({ name }) => here.has(name)));
const deviations = await loadDeviations(join(transcripts, 'deviations.json'));

describe('Linux 7.2', () => {
  it('finds scripts to replay', () => {
    expect(replayable.length).toBeGreaterThanOrEqual(56);
  });

  it.each(replayable.map(({ name }) => name))('answers %s as the kernel did', async (name) => {
    const result = await replayFile(join(scripts, name), {
      deviations,
      async createMachine(header) {
        const clock = new VirtualClock();
        const machine = await Machine.load(join(transcripts, 'machines', `${header.machine}.yaml`), {
          drivers,
          modules: modulesNeeded(header),
          ...(usesIommufd(header) ? { vfio: { iommufd: true, deviceCdev: true } } : {}),
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
});
