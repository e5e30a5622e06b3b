import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  assignDeviceSet,
  putDevice,
  registerGroupDev,
  unregisterGroupDev,
  VfioDevice,
} from '../src/index.js';
import { bench, benchForEach, closePath, code, openPath, register, type TestBench, TestDevice } from './harness.js';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

async function allocated(count: number, machine = on): Promise<TestDevice[]> {
  const devices: TestDevice[] = [];
  for (let i = 0; i < count; i++) {
    devices.push(await allocDevice(machine.vfio, TestDevice, await machine.addParent(`dev${i}`), {}));
  }
  return devices;
}

describe('assignDeviceSet', () => {
  it('CORE-090 and CORE-096 one set for one key, in the order of assignment; another for another', async () => {
    const [a, b, c] = await allocated(3);
    const slot = {};
    await assignDeviceSet(b!, slot);
    await assignDeviceSet(a!, slot);
    await assignDeviceSet(c!, {});
    expect(a!.deviceSet).toBe(b!.deviceSet);
    expect(a!.deviceSet?.devices).toEqual([b, a]);
    expect(a!.deviceSet?.deviceCount).toBe(2);
    expect(c!.deviceSet).not.toBe(a!.deviceSet);
    for (const device of [a, b, c]) await putDevice(device!);
  });

  it('CORE-091 no key: WARN, EINVAL, in no set', async () => {
    const [a] = await allocated(1);
    await expect(assignDeviceSet(a!, null)).rejects.toEqual(code('EINVAL'));
    await expect(assignDeviceSet(a!, undefined)).rejects.toEqual(code('EINVAL'));
    expect(on.host.log.warnings()).toHaveLength(2);
    expect(a!.deviceSet).toBeUndefined();
    await putDevice(a!);
  });

  it('CORE-092 two first assigns of a key at once end in one set of two', async () => {
    // both find no set before either has made one
    const switchPoint = (label: string) => (label === 'vfio_assign_device_set' ? Promise.resolve() : undefined);
    await using machine = await bench({ host: { scheduler: { switchPoint } } });
    const [a, b] = await allocated(2, machine);
    await Promise.all([assignDeviceSet(a!, 'key'), assignDeviceSet(b!, 'key')]);
    expect(a!.deviceSet).toBe(b!.deviceSet);
    expect([a!.deviceSet?.deviceCount, a!.deviceSet?.devices.length]).toEqual([2, 2]);
    await putDevice(a!);
    expect(machine.vfio.deviceSets.get('key')).toBe(b!.deviceSet);
    await putDevice(b!);
    expect(machine.vfio.deviceSets.size).toBe(0);
  });

  it('CORE-093 the last member takes the key; a later assign gets a new set', async () => {
    const [a, b] = await allocated(2);
    await assignDeviceSet(a!, 'key');
    const first = a!.deviceSet;
    await putDevice(a!);
    expect(on.vfio.deviceSets.has('key')).toBe(false);
    await assignDeviceSet(b!, 'key');
    expect(b!.deviceSet).not.toBe(first);
    await putDevice(b!);
  });

  it('CORE-094 membership outlives unregister and ends at release', async () => {
    const one = await register(on, 'dev0');
    const set = one.device.deviceSet;
    await unregisterGroupDev(one.device);
    expect(set?.devices).toEqual([one.device]);
    await putDevice(one.device);
    expect(set?.devices).toEqual([]);
  });

  it('CORE-095 a second assign: WARN, EINVAL, unchanged', async () => {
    const [a] = await allocated(1);
    await assignDeviceSet(a!, 'key');
    await expect(assignDeviceSet(a!, 'other')).rejects.toEqual(code('EINVAL'));
    expect(a!.deviceSet?.setId).toBe('key');
    expect(on.vfio.deviceSets.has('other')).toBe(false);
    await putDevice(a!);
  });

  it('gives back what it made when a step fails', async () => {
    const [a] = await allocated(1);
    for (const step of ['vfio_assign_device_set:set', 'vfio_assign_device_set:insert']) {
      on.host.faults.failOn(step);
      await expect(assignDeviceSet(a!, 'key')).rejects.toEqual(code('ENOMEM'));
      expect([on.vfio.deviceSets.size, a!.deviceSet]).toEqual([0, undefined]);
    }
    await putDevice(a!);
  });
});

describe('DeviceSet', () => {
  /** Devices of one set whose operations note how they overlap. */
  class Slow extends VfioDevice {
    readonly #running: { now: number; most: number };
    readonly seen: number[] = [];

    constructor(running: { now: number; most: number }) {
      super();
      this.#running = running;
    }

    async #busy(): Promise<void> {
      this.#running.now++;
      this.#running.most = Math.max(this.#running.most, this.#running.now);
      await new Promise((resolve) => setImmediate(resolve));
      this.#running.now--;
    }

    override openDevice(): Promise<void> {
      return this.#busy();
    }

    override closeDevice(): Promise<void> {
      this.seen.push(this.deviceSet?.openCount() ?? -1);
      return this.#busy();
    }
  }

  it('CORE-098 first open and last close of members never overlap; those of two sets may', async () => {
    for (const [key, most] of [
      ['together', 1],
      [undefined, 2],
    ] as const) {
      const running = { now: 0, most: 0 };
      const devices: Slow[] = [];
      for (const name of ['a', 'b']) {
        const parent = await on.addParent(`${name}-${key}`);
        const device = await allocDevice(on.vfio, Slow, parent, running);
        if (key) await assignDeviceSet(device, key);
        await registerGroupDev(device);
        devices.push(device);
      }
      const paths = await Promise.all(devices.map((device) => openPath(on, device)));
      await Promise.all(paths.map((path) => closePath(on, path)));
      expect(running.most).toBe(most);
      for (const device of devices) {
        await unregisterGroupDev(device);
        await putDevice(device);
      }
    }
  });

  it("CORE-097 openCount sums the members, and is 1 during the only opener's close", async () => {
    const parentA = await on.addParent('a');
    const parentB = await on.addParent('b');
    const running = { now: 0, most: 0 };
    const a = await allocDevice(on.vfio, Slow, parentA, running);
    const b = await allocDevice(on.vfio, Slow, parentB, running);
    for (const device of [a, b]) {
      await assignDeviceSet(device, 'key');
      await registerGroupDev(device);
    }
    const pathA = await openPath(on, a);
    const pathB = await openPath(on, b);
    await closePath(on, pathA);
    await closePath(on, pathB);
    expect([a.seen, b.seen]).toEqual([[2], [1]]);
    for (const device of [a, b]) {
      await unregisterGroupDev(device);
      await putDevice(device);
    }
  });

  it('CORE-099 find gives the member by its parent; openCount and find want the lock', async () => {
    await using one = await register(on, 'dev0');
    const stranger = await on.addParent('dev1');
    const set = one.device.deviceSet!;
    {
      using _held = await set.lock.lock();
      expect(set.find(one.parent)).toBe(one.device);
      expect(set.find(stranger)).toBeUndefined();
    }
    expect(() => set.find(one.parent)).toThrow(expect.objectContaining({ kind: 'lock' }));
    expect(() => set.openCount()).toThrow(expect.objectContaining({ kind: 'lock' }));
  });
});
