// Hazards of drivers: model drivers that have the shape in which each was found, and what the core makes of them.

import { Bus, Completion, Device, Driver, DriverData, SystemError, type Tracked, Undo } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  freeDevice,
  getDevice,
  initDevice,
  putDevice,
  registerEmulatedIommuDev,
  unregisterGroupDev,
  VfioDevice,
} from '../src/index.js';
import { benchForEach, closePath, code, openPath, pending, register, type TestBench, TestDevice } from './harness.js';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

/** A bus with one driver; ended with the scope. */
async function addDriver(name: string, ops: Pick<ConstructorParameters<typeof Driver>[0], 'probe' | 'remove'>) {
  const bus = new Bus({ name, match: () => false });
  const driver = new Driver({ name, bus, managesDma: true, ...ops });
  await on.host.devices.busRegister(bus);
  await on.host.devices.driverRegister(driver);
  return {
    bus,
    driver,
    async [Symbol.asyncDispose]() {
      await on.host.devices.driverUnregister(driver);
      await on.host.devices.busUnregister(bus);
    },
  };
}

describe('release', () => {
  /** A pool, and cards that have a share of it in a field of their own. */
  interface Pool {
    free: number;
  }
  class Card extends VfioDevice {
    readonly pool: Pool;
    readonly share: number;

    constructor({ pool, share }: { pool: Pool; share: number }) {
      super();
      this.pool = pool;
      this.share = share;
    }

    override init(): void {
      this.pool.free -= this.share;
    }
  }

  it('H06 reads what is private to the driver, whether the core frees the device or its last act does', async () => {
    class FreedByCore extends Card {
      override release(): void {
        this.pool.free += this.share;
      }
    }
    class FreesItself extends FreedByCore {
      override release(): void {
        super.release();
        freeDevice(this);
      }
    }
    const pool = { free: 24 };
    const parent = await on.addParent('dev0');
    for (const Type of [FreedByCore, FreesItself]) {
      const device = await allocDevice(on.vfio, Type, parent, { pool, share: 2 });
      expect(pool.free).toBe(22);
      await putDevice(device);
      expect(pool.free).toBe(24);
      expect(() => device.share).toThrow(expect.objectContaining({ kind: 'use-after-free' }));
    }
  });

  it('H06 that goes on after freeDevice is reported, with where the device was freed', async () => {
    class FreesFirst extends Card {
      override release(): void {
        freeDevice(this);
        this.pool.free += this.share;
      }
    }
    const pool = { free: 24 };
    const device = await allocDevice(on.vfio, FreesFirst, await on.addParent('dev0'), { pool, share: 2 });
    const origin = expect.stringContaining('FreesFirst.release');
    await expect(putDevice(device)).rejects.toMatchObject({ kind: 'use-after-free', origin });
    expect(pool.free).toBe(22);
    // the bug is the driver's own: the core has everything back
    expect([on.vfio.indexes.used, on.vfio.pseudoFs.pinned]).toEqual([0, 0]);
  });
});

describe('a probe that goes on after the registration', () => {
  it('H10 and then fails: unregister, which waits for who came meanwhile, then put, and nothing is left', async () => {
    const journal: string[] = [];
    const data = new DriverData<TestDevice>();
    const scan = new Completion(on.host, 'scan');
    class Root extends TestDevice {
      override request(): void {
        journal.push('request');
      }
      override release(): void {
        super.release();
        journal.push(`${this.state} in ${on.vfio.groups.length} groups`);
      }
    }
    await using lab = await addDriver('container', {
      async probe(dev) {
        await using undo = new Undo();
        const device = await allocDevice(on.vfio, Root, dev, { journal });
        undo.add(() => putDevice(device));
        data.set(dev, device);
        await registerEmulatedIommuDev(device);
        undo.add(() => unregisterGroupDev(device));
        await scan.wait();
        throw new SystemError('ENXIO', 'no object answers');
      },
    });
    const dev = new Device({ name: 'dprc.2', bus: lab.bus });
    await on.host.devices.register(dev);
    const probed = on.host.devices.attachDriver(dev, lab.driver);
    expect(await pending(probed)).toBe(true);
    const path = await openPath(on, data.get(dev));
    scan.complete();
    expect(await pending(probed)).toBe(true);
    await expect(on.getDeviceFd(path.group, 'dprc.2')).rejects.toEqual(code('ENODEV'));
    expect(journal).toEqual(['init', 'openDevice', 'request']);
    await closePath(on, path);
    await expect(probed).rejects.toEqual(code('ENXIO'));
    expect(journal.slice(3)).toEqual(['closeDevice', 'release', 'unregistered in 0 groups']);
    expect([dev.driver, data.peek(dev), dev.iommuGroup, on.vfio.indexes.used]).toEqual([
      undefined,
      undefined,
      undefined,
      0,
    ]);
    expect(on.process.readdir('/dev/vfio').map(({ name }) => name)).toEqual(['vfio']);
    await on.host.devices.unregister(dev);
  });
});

describe('a structure that belongs to the parent', () => {
  /** What a subchannel keeps for the device on it; its release says only that the core is done with it. */
  class Private extends VfioDevice {
    readonly released = new Completion(on.host, 'released');
    channelPrograms = 1;

    override release(): void {
      this.channelPrograms = 0;
      this.released.complete();
    }
  }

  it('H14 outlives remove, which waits for whoever holds the device; the parent frees it after that', async () => {
    const data = new DriverData<Private>();
    let removed = false;
    await using lab = await addDriver('css', {
      async probe(dev) {
        const device = data.get(dev.parent!);
        await initDevice(on.vfio, device, dev);
        await registerEmulatedIommuDev(device);
      },
      async remove(dev) {
        const device = data.get(dev.parent!);
        await unregisterGroupDev(device);
        await putDevice(device);
        await device.released.wait();
        removed = true;
      },
    });
    const subchannel = new Device({ name: '0.0.0013' });
    await on.host.devices.register(subchannel);
    const device = new Private();
    data.set(subchannel, device);
    const dev = new Device({ name: 'mdev', parent: subchannel, bus: lab.bus });
    await on.host.devices.register(dev);
    await on.host.devices.attachDriver(dev, lab.driver);
    getDevice(device);
    const removing = on.host.devices.unregister(dev);
    expect([await pending(removing), removed, device.state, device.channelPrograms]).toEqual([
      true,
      false,
      'unregistered',
      1,
    ]);
    await putDevice(device);
    await removing;
    // neither the core nor the driver has freed it
    expect([removed, data.get(subchannel), device.state, device.channelPrograms]).toEqual([
      true,
      device,
      'released',
      0,
    ]);
    expect(on.vfio.indexes.used).toBe(0);
    data.clear(subchannel);
    await on.host.devices.unregister(subchannel);
  });
});

describe('the module of a driver', () => {
  it('H17 is held once for each open device, and stays until the last close', async () => {
    const module = on.driver.module!;
    {
      await using one = await register(on, 'dev0');
      await using two = await register(on, 'dev1');
      const paths = [await openPath(on, one.device), await openPath(on, two.device)];
      const again = await on.getDeviceFd(paths[0]!.group, 'dev0');
      const refused = async (references: number) => {
        expect(module.refcount).toBe(references);
        await expect(on.host.modules.rmmod('test_driver')).rejects.toEqual(code('EAGAIN'));
      };
      await refused(2);
      await on.process.close(again);
      await refused(2);
      await closePath(on, paths[1]!);
      await refused(1);
      await closePath(on, paths[0]!);
    }
    expect(module.refcount).toBe(0);
    await on.host.modules.rmmod('test_driver');
    expect(on.host.modules.get('test_driver')).toBeUndefined();
    await on.host.modules.modprobe('test_driver');
  });
});

describe('a name that belongs to the bus', () => {
  /** A platform device whose bus made its name, and frees that with the device. */
  function platformDevice(bus: Bus): { dev: Device; name: Tracked } {
    const name = on.host.tracker.track('memory', () => 'name of a device');
    return { dev: new Device({ name: 'a0000000.dma', bus, release: () => name.release() }), name };
  }

  /** A driver's device that uses the name as long as it lives. */
  class Borrows extends VfioDevice {
    readonly label: Tracked;

    constructor(label: Tracked) {
      super();
      this.label = label;
    }
  }

  class Frees extends Borrows {
    override release(): void {
      this.label.release();
    }
  }

  const names = () => on.host.tracker.count('memory');

  it('H45 is there when the device of the driver is released, and is freed once, by the bus', async () => {
    await using lab = await addDriver('platform', {});
    const before = names();
    const { dev, name } = platformDevice(lab.bus);
    await on.host.devices.register(dev);
    const device = await allocDevice(on.vfio, Borrows, dev, name);
    await registerEmulatedIommuDev(device);
    await unregisterGroupDev(device);
    await putDevice(device);
    expect(names()).toBe(before + 1);
    await on.host.devices.unregister(dev);
    expect(names()).toBe(before);
  });

  it('H45 that a driver frees is found out when the bus does', async () => {
    await using lab = await addDriver('platform', {});
    const { dev, name } = platformDevice(lab.bus);
    await on.host.devices.register(dev);
    await putDevice(await allocDevice(on.vfio, Frees, dev, name));
    await expect(on.host.devices.unregister(dev)).rejects.toMatchObject({
      kind: 'double-free',
      message: expect.stringMatching(/name of a device was released before, at .*hazards-drivers\.test/),
    });
  });
});
