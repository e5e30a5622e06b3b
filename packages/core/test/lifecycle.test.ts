import { type Device, isKernelBug } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  assignDeviceSet,
  freeDevice,
  getDevice,
  initDevice,
  initGroupDev,
  putDevice,
  registerEmulatedIommuDev,
  registerGroupDev,
  uninitGroupDev,
  unregisterGroupDev,
  VfioDevice,
  VfioError,
} from '../src/index.js';
import { benchForEach, code, type Journal, type TestBench, TestDevice } from './harness.js';

let on: TestBench;
let parent: Device;
benchForEach(async (made) => {
  on = made;
  parent = await on.addParent('dev0');
});

describe('allocDevice', () => {
  it('CORE-001 gives the lowest free index, one reference, no open file and nothing in sysfs', async () => {
    const first = await allocDevice(on.vfio, TestDevice, parent, {});
    const second = await allocDevice(on.vfio, TestDevice, parent, {});
    expect([first.index, second.index, first.openCount, first.device.refCount]).toEqual([0, 1, 0, 1]);
    expect(await on.host.init.readdir('/sys/class/vfio-dev')).toEqual([]);
    await putDevice(first);
    const third = await allocDevice(on.vfio, TestDevice, parent, {});
    expect(third.index).toBe(0);
    await putDevice(second);
    await putDevice(third);
  });

  it('CORE-002 refuses a class that is no VfioDevice: WARN, EINVAL, nothing consumed', async () => {
    class Small {}
    const Wrong = Small as unknown as new (options: object) => VfioDevice;
    await expect(allocDevice(on.vfio, Wrong, parent, {})).rejects.toEqual(code('EINVAL'));
    expect(on.host.log.warnings()).toHaveLength(1);
    expect(on.vfio.indexes.used).toBe(0);
  });

  it('CORE-003 calls init once, with parent and index set', async () => {
    const seen: unknown[] = [];
    class Watcher extends VfioDevice {
      override init(): void {
        seen.push([this.dev, this.index, this.vfio]);
      }
    }
    const device = await allocDevice(on.vfio, Watcher, parent, undefined);
    expect(seen).toEqual([[parent, 0, on.vfio]]);
    await putDevice(device);
  });

  it('CORE-004 returns the errno of init and gives index and inode back, without release', async () => {
    const journal: Journal = [];
    const failing = allocDevice(on.vfio, TestDevice, parent, { journal, fail: { init: 'EIO' } });
    await expect(failing).rejects.toEqual(code('EIO'));
    expect(journal).toEqual(['init']);
    expect([on.vfio.indexes.used, on.vfio.pseudoFs.pinned]).toEqual([0, 0]);
  });

  it('CORE-005 releases a device set that init assigned before it failed', async () => {
    const key = {};
    class Assigns extends VfioDevice {
      override async init(): Promise<void> {
        await assignDeviceSet(this, key);
        throw new VfioError('ENOMEM', 'after the set');
      }
    }
    await expect(allocDevice(on.vfio, Assigns, parent, undefined)).rejects.toEqual(code('ENOMEM'));
    expect(on.vfio.deviceSets.size).toBe(0);
  });

  it('CORE-006 takes init and release as absent', async () => {
    class Bare extends VfioDevice {}
    const device = await allocDevice(on.vfio, Bare, parent, undefined);
    await expect(putDevice(device)).resolves.toBeUndefined();
  });

  it('CORE-011 runs out of indices with ENOSPC', async () => {
    const indexes = 2 ** 20;
    for (let i = 0; i < indexes; i++) on.vfio.indexes.alloc();
    await expect(allocDevice(on.vfio, TestDevice, parent, {})).rejects.toEqual(code('ENOSPC'));
    expect(on.vfio.pseudoFs.pinned).toBe(0);
  });
});

describe('putDevice', () => {
  it('CORE-007 leaves the set, frees the index, releases, gives the inode back and frees, in this order', async () => {
    const states: unknown[] = [];
    class Watcher extends VfioDevice {
      override release(): void {
        states.push({
          set: this.deviceSet,
          sets: this.vfio.deviceSets.size,
          indexes: this.vfio.indexes.used,
          inodes: this.vfio.pseudoFs.pinned,
          state: this.state,
        });
      }
    }
    const device = await allocDevice(on.vfio, Watcher, parent, undefined);
    await assignDeviceSet(device, 'key');
    await putDevice(device);
    expect(states).toEqual([{ set: undefined, sets: 0, indexes: 0, inodes: 1, state: 'allocated' }]);
    expect(on.vfio.pseudoFs.pinned).toBe(0);
    expect(() => device.state).toThrow(expect.objectContaining({ kind: 'use-after-free' }));
  });

  it('CORE-008 and CORE-009 releases once, when the last of several references goes', async () => {
    const journal: Journal = [];
    const device = await allocDevice(on.vfio, TestDevice, parent, { journal });
    await registerGroupDev(device);
    getDevice(device);
    await unregisterGroupDev(device);
    await putDevice(device);
    expect(journal).toEqual(['init']);
    await putDevice(device);
    expect(journal).toEqual(['init', 'release']);
    await expect(putDevice(device)).rejects.toEqual(expect.objectContaining({ kind: 'use-after-free' }));
  });

  it('CORE-010 keeps the index from unregister to release', async () => {
    const first = await allocDevice(on.vfio, TestDevice, parent, {});
    await registerGroupDev(first);
    await unregisterGroupDev(first);
    const second = await allocDevice(on.vfio, TestDevice, parent, {});
    expect([first.index, second.index]).toEqual([0, 1]);
    await putDevice(first);
    await putDevice(second);
  });

  it('CORE-012 reports any touch of a freed device, and where it was freed', async () => {
    const device = await allocDevice(on.vfio, TestDevice, parent, {});
    await putDevice(device);
    const origin = expect.stringContaining('dismantle');
    for (const touch of [() => device.openCount, () => device.init(), () => device.name]) {
      expect(touch).toThrow(expect.objectContaining({ kind: 'use-after-free', origin }));
    }
    expect(() => {
      device.openCount = 1;
    }).toThrow(expect.objectContaining({ kind: 'use-after-free' }));
    await expect(putDevice(device)).rejects.toEqual(expect.objectContaining({ kind: 'use-after-free', origin }));
  });
});

describe('freeDevice', () => {
  class Frees extends VfioDevice {
    readonly times: number;
    failure: unknown;

    constructor(times: number) {
      super();
      this.times = times;
    }

    override release(): void {
      // read before: the first free is the end of this object
      const { times } = this;
      for (let i = 0; i < times; i++) freeDevice(this);
    }
  }

  it('CORE-013 is accepted once inside release', async () => {
    const device = await allocDevice(on.vfio, Frees, parent, 1);
    await expect(putDevice(device)).resolves.toBeUndefined();
    expect(() => device.state).toThrow(expect.objectContaining({ kind: 'use-after-free' }));
  });

  it('CORE-013 is a bug when it is called twice, or outside of release', async () => {
    const outside = await allocDevice(on.vfio, TestDevice, parent, {});
    expect(() => freeDevice(outside)).toThrow(expect.objectContaining({ kind: 'double-free' }));
    await putDevice(outside);
    const twice = await allocDevice(on.vfio, Frees, parent, 2);
    await expect(putDevice(twice)).rejects.toEqual(expect.objectContaining({ kind: 'double-free' }));
  });
});

describe('initDevice', () => {
  it('CORE-014 never frees a structure that somebody else made', async () => {
    const journal: Journal = [];
    const device = new TestDevice({ journal });
    await initDevice(on.vfio, device, await on.addParent('dev1', null));
    await registerEmulatedIommuDev(device);
    await unregisterGroupDev(device);
    await putDevice(device);
    expect(journal).toEqual(['init', 'release']);
    expect(device.state).toBe('released');
    expect(on.vfio.indexes.used).toBe(0);
  });

  it('CORE-015 refuses a device without release', async () => {
    class Bare extends VfioDevice {}
    await expect(initDevice(on.vfio, new Bare(), parent)).rejects.toEqual(code('EINVAL'));
    expect(on.vfio.indexes.used).toBe(0);
  });
});

describe('the older model', () => {
  it('CORE-016 uninitGroupDev releases the set and nothing of the driver', async () => {
    const journal: Journal = [];
    const device = new TestDevice({ journal });
    await initGroupDev(on.vfio, device, parent);
    await assignDeviceSet(device, 'key');
    await uninitGroupDev(device);
    expect(journal).toEqual(['init']);
    expect([on.vfio.deviceSets.size, on.vfio.indexes.used]).toEqual([0, 0]);
  });

  it('CORE-016 is a bug while somebody holds the device', async () => {
    const device = new TestDevice();
    await initGroupDev(on.vfio, device, parent);
    await registerGroupDev(device);
    await expect(uninitGroupDev(device)).rejects.toSatisfy((error) => isKernelBug(error));
    await unregisterGroupDev(device);
    await putDevice(device);
  });
});
