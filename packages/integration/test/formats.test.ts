// The built packages as users load them: as ES modules and as CommonJS, also both in one process.

import { createRequire } from 'node:module';
import * as esmClient from '@vfio/client';
import * as esmCore from '@vfio/core';
import * as esmHost from '@vfio/host';
import * as esmMachine from '@vfio/machine';
import * as esmMdev from '@vfio/mdev';
import * as esmSamples from '@vfio/mdev-samples/machine';
import * as esmTesting from '@vfio/testing';
import { describe, expect, it } from 'vitest';

const require = createRequire(import.meta.url);
const cjs = {
  client: require('@vfio/client') as typeof esmClient,
  core: require('@vfio/core') as typeof esmCore,
  host: require('@vfio/host') as typeof esmHost,
  machine: require('@vfio/machine') as typeof esmMachine,
  mdev: require('@vfio/mdev') as typeof esmMdev,
  samples: require('@vfio/mdev-samples/machine') as typeof esmSamples,
  testing: require('@vfio/testing') as typeof esmTesting,
};
const uuid = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001';
const lab = {
  version: 1,
  modules: ['vfio_iommu_type1'],
  'mdev-samples': { mtty: { devices: [{ uuid, type: 'mtty-1' }] } },
} as const;

/** Sends a byte through a port and reads it back. */
async function loopBack(
  Machine: typeof esmMachine.Machine,
  driver: typeof esmSamples.driverPackage,
): Promise<number | undefined> {
  await using machine = await Machine.load(lab, { drivers: [driver], checked: true });
  await using device = await machine.client().openDevice(uuid);
  const port = await device.region(0);
  await port.write(0, Uint8Array.of(0x41));
  return (await port.read(0, 1))[0];
}

describe('the built packages', () => {
  it('work as ES modules', async () => {
    expect(await loopBack(esmMachine.Machine, esmSamples.driverPackage)).toBe(0x41);
  });

  it('work as CommonJS', async () => {
    expect(await loopBack(cjs.machine.Machine, cjs.samples.driverPackage)).toBe(0x41);
  });

  it('recognise each other’s errors', () => {
    const error = new cjs.core.VfioError('EBUSY', 'in use');
    expect(esmCore.isVfioError(error, 'EBUSY')).toBe(true);
    expect(esmHost.isSystemError(error, 'EBUSY')).toBe(true);
    expect(cjs.core.isVfioError(new esmCore.VfioError('EIO', 'broken'), 'EBUSY')).toBe(false);
  });

  it('have the same names in both formats', () => {
    const pairs: readonly (readonly [object, object])[] = [
      [esmHost, cjs.host],
      [esmCore, cjs.core],
      [esmMdev, cjs.mdev],
      [esmClient, cjs.client],
      [esmMachine, cjs.machine],
      [esmTesting, cjs.testing],
      [esmSamples, cjs.samples],
    ];
    for (const [esm, common] of pairs) expect(Object.keys(common).sort()).toEqual(Object.keys(esm).sort());
  });
});
