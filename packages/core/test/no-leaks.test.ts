import { isSystemError } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  putDevice,
  Request,
  registerEmulatedIommuDev,
  registerGroupDev,
  unregisterGroupDev,
} from '../src/index.js';
import { bench, type TestBench, TestDevice } from './harness.js';

/** One thing that a program, or a driver, may do; numbers choose among what is open. */
type Action = readonly [
  name: 'register' | 'unregister' | 'openContainer' | 'openGroup' | 'set' | 'unset' | 'iommu' | 'device' | 'close',
  which: number,
];

const action: fc.Arbitrary<Action> = fc.tuple(
  fc.constantFrom('register', 'unregister', 'openContainer', 'openGroup', 'set', 'unset', 'iommu', 'device', 'close'),
  fc.nat(7),
);

/** Does things in any order, refusals included. Returns the errnos that were met. */
async function play(on: TestBench, actions: readonly Action[], faultAt: number | undefined): Promise<void> {
  const devices: TestDevice[] = [];
  const waiting: Promise<void>[] = [];
  const files = { container: [] as number[], group: [] as number[], device: [] as number[] };
  const pick = <T>(from: readonly T[], which: number): T | undefined => from[which % Math.max(from.length, 1)];
  const arm = faultAt === undefined ? undefined : on.host.faults.failAt(faultAt);
  const steps: Record<Action[0], (which: number) => Promise<unknown>> = {
    async register(which) {
      const emulated = which % 2 === 1;
      const parent = await on.addParent(`dev${devices.length}-${which}`, emulated ? null : undefined);
      const device = await allocDevice(on.vfio, TestDevice, parent, {});
      try {
        await (emulated ? registerEmulatedIommuDev(device) : registerGroupDev(device));
      } catch (error) {
        await putDevice(device);
        throw error;
      }
      devices.push(device);
    },
    async unregister(which) {
      const device = pick(devices, which);
      if (!device) return;
      devices.splice(devices.indexOf(device), 1);
      // blocks while it is open: goes on in the background, as rmmod does
      waiting.push(unregisterGroupDev(device).then(() => putDevice(device)));
    },
    async openContainer() {
      files.container.push(await on.openContainer());
    },
    async openGroup(which) {
      const device = pick(devices, which);
      if (device) files.group.push(await on.openGroup(device));
    },
    async set(which) {
      const [group, container] = [pick(files.group, which), pick(files.container, which >> 1)];
      if (group !== undefined && container !== undefined) await on.setContainer(group, container);
    },
    async unset(which) {
      const group = pick(files.group, which);
      if (group !== undefined) await on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER);
    },
    async iommu(which) {
      const container = pick(files.container, which);
      if (container !== undefined) await on.process.ioctl(container, Request.SET_IOMMU, 3);
    },
    async device(which) {
      const [group, device] = [pick(files.group, which), pick(devices, which >> 1)];
      if (group !== undefined && device) files.device.push(await on.getDeviceFd(group, device.dev.name));
    },
    async close(which) {
      const kind = pick(['container', 'group', 'device'] as const, which) ?? 'device';
      const fd = files[kind].shift();
      if (fd !== undefined) await on.process.close(fd);
    },
  };
  for (const [name, which] of actions) {
    try {
      await steps[name](which);
    } catch (error) {
      if (!isSystemError(error)) throw error;
    }
  }
  arm?.disarm();
  await on.process.exit(0);
  await Promise.all(waiting);
  for (const device of devices) {
    expect([device.openCount, device.group?.container]).toEqual([0, undefined]);
    await unregisterGroupDev(device);
    await putDevice(device);
  }
}

describe('a machine that was used in any way', () => {
  it('CORE-213 ends without a leak, without a warning, and with nothing in VFIO', async () => {
    await fc.assert(
      fc.asyncProperty(
        fc.array(action, { maxLength: 40 }),
        fc.option(fc.nat(120), { nil: undefined }),
        async (actions, faultAt) => {
          const on = await bench();
          await play(on, actions, faultAt);
          expect(on.host.log.warnings()).toEqual([]);
          expect([on.vfio.groups, on.vfio.deviceSets.size, on.vfio.indexes.used, on.vfio.groupMinors.used]).toEqual([
            [],
            0,
            0,
            0,
          ]);
          await on[Symbol.asyncDispose]();
        },
      ),
      { numRuns: 150 },
    );
  }, 60_000);
});
