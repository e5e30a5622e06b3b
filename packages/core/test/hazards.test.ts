// Hazards that history has shown, as far as no test of a single behaviour has them: set-up, action, outcome.

import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  assignDeviceSet,
  putDevice,
  putRegistration,
  registerGroupDev,
  tryGetRegistration,
  unregisterGroupDev,
  VfioDevice,
} from '../src/index.js';
import { benchForEach, closePath, code, openPath, register, type TestBench, TestDevice } from './harness.js';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

describe('first open and last close', () => {
  it('H02 alternate strictly, however opens and closes are interleaved', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    let held = path.device;
    for (let round = 0; round < 10; round++) {
      const next = await on.getDeviceFd(path.group, 'dev0');
      await on.process.close(held);
      held = next;
      if (round % 3 !== 2) continue;
      await on.process.close(held);
      held = await on.getDeviceFd(path.group, 'dev0');
    }
    await on.process.close(held);
    const calls = one.device.journal.slice(1);
    expect(calls.length).toBe(8);
    expect(calls).toEqual(calls.map((_, at) => (at % 2 === 0 ? 'openDevice' : 'closeDevice')));
    for (const fd of [path.group, path.container]) await on.process.close(fd);
  });
});

describe('allocation that fails', () => {
  it('H04 and H05: a budget that init took is whole again, and nothing is touched after the free', async () => {
    let budget = 3;
    class Budgeted extends VfioDevice {
      override init(): void {
        budget--;
        try {
          on.host.faults.check('budgeted:private');
        } catch (error) {
          budget++;
          throw error;
        }
      }
      override release(): void {
        budget++;
      }
    }
    const parent = await on.addParent('dev0');
    const probe = async () => {
      const device = await allocDevice(on.vfio, Budgeted, parent, undefined);
      try {
        await registerGroupDev(device);
      } catch (error) {
        await putDevice(device);
        throw error;
      }
      return device;
    };
    const recording = on.host.faults.record();
    const good = await probe();
    recording.stop();
    await unregisterGroupDev(good);
    await putDevice(good);
    expect(budget).toBe(3);
    expect(recording.steps.length).toBeGreaterThan(5);
    let failures = 0;
    for (const index of recording.steps.keys()) {
      const arm = on.host.faults.failAt(index);
      try {
        // a device does without its directory in debugfs
        const device = await probe();
        await unregisterGroupDev(device);
        await putDevice(device);
      } catch (error) {
        // and no bug: nothing that was freed has been touched
        expect(error).toEqual(code('ENOMEM'));
        failures++;
      }
      expect([arm.fired, budget, on.vfio.indexes.used, on.vfio.groups.length]).toEqual([true, 3, 0, 0]);
    }
    expect(failures).toBeGreaterThanOrEqual(recording.steps.length - 2);
  });

  it('H07 leaves no set behind, and the same key gets a fresh one later', async () => {
    const key = {};
    const parent = await on.addParent('dev0');
    class Assigns extends TestDevice {
      override async init(): Promise<void> {
        await assignDeviceSet(this, key);
        super.init();
        sets.push(this.deviceSet);
      }
    }
    const sets: unknown[] = [];
    const probe = async (step?: string) => {
      if (step) on.host.faults.failOn(step);
      const device = await allocDevice(on.vfio, Assigns, parent, {});
      try {
        await registerGroupDev(device);
      } finally {
        if (device.state === 'registered') await unregisterGroupDev(device);
        await putDevice(device);
      }
    };
    for (const step of ['__vfio_register_dev:name', 'vfio_group_alloc:memory', 'device_add:private']) {
      await expect(probe(step)).rejects.toEqual(code('ENOMEM'));
      expect(on.vfio.deviceSets.size).toBe(0);
    }
    await probe();
    expect([sets.length, new Set(sets).size, on.vfio.deviceSets.size]).toEqual([4, 4, 0]);
  });

  it('H08 after init assigned a set gives back its count and the index, without release', async () => {
    const key = {};
    const parent = await on.addParent('dev0');
    class Assigns extends TestDevice {
      override async init(): Promise<void> {
        await assignDeviceSet(this, key);
        super.init();
      }
    }
    const member = await allocDevice(on.vfio, Assigns, parent, {});
    const set = member.deviceSet;
    const state = () => [on.vfio.deviceSets.get(key), set?.deviceCount, set?.devices, on.vfio.indexes.used];
    const before = [set, 1, [member], 1];
    expect(state()).toEqual(before);
    const journal: string[] = [];
    const failing = allocDevice(on.vfio, Assigns, parent, { journal, fail: { init: 'ENOMEM' } });
    await expect(failing).rejects.toEqual(code('ENOMEM'));
    expect(state()).toEqual(before);
    expect(journal).toEqual(['init']);
    const next = await allocDevice(on.vfio, Assigns, parent, {});
    expect([next.index, next.deviceSet]).toEqual([1, set]);
    for (const device of [member, next]) await putDevice(device);
  });
});

describe('registration', () => {
  it('H12 a reference is had before the last one goes, and makes unregister wait, or never', async () => {
    for (const early of [true, false]) {
      const one = await register(on, `dev${early}`);
      const got = early && tryGetRegistration(one.device);
      let done = false;
      const gone = unregisterGroupDev(one.device).then(() => {
        done = true;
      });
      for (let turn = 0; turn < 20; turn++) await Promise.resolve();
      await on.clock.advance(1);
      expect(done).toBe(!got);
      if (got) putRegistration(one.device);
      await gone;
      expect(tryGetRegistration(one.device)).toBe(false);
      await putDevice(one.device);
    }
  });

  it('H23 a group that ends makes way for one of the same number', async () => {
    const group = on.host.iommu.allocGroup('shared');
    const first = await register(on, 'left', { group });
    const name = first.device.group?.name;
    const parent = await on.addParent('right', group);
    const second = await allocDevice(on.vfio, TestDevice, parent, {});
    // the end of the one and the begin of the other at once
    await Promise.all([unregisterGroupDev(first.device), registerGroupDev(second)]);
    expect(second.group?.name).toBe(name);
    expect(on.process.readdir('/dev/vfio').filter((entry) => entry.name === name)).toHaveLength(1);
    await closePath(on, await openPath(on, second));
    await unregisterGroupDev(second);
    await putDevice(second);
    await putDevice(first.device);
    expect(on.process.readdir('/dev/vfio').filter((entry) => entry.name === name)).toHaveLength(0);
    group.put();
  });

  it('H32 without memory for a set of its own: ENOMEM, and the device can be registered later', async () => {
    const parent = await on.addParent('dev0');
    const device = await allocDevice(on.vfio, TestDevice, parent, {});
    const arm = on.host.faults.failOn('vfio_assign_device_set:set');
    await expect(registerGroupDev(device)).rejects.toEqual(code('ENOMEM'));
    expect([arm.fired, device.deviceSet, on.vfio.groups.length]).toEqual([true, undefined, 0]);
    await registerGroupDev(device);
    await unregisterGroupDev(device);
    await putDevice(device);
  });
});
