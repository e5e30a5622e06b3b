import { Bus, Device, DeviceClass, Driver, isSystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  MdevDriver,
  type MdevDriverOptions,
  MdevType,
  mdevRegisterDriver,
  mdevRegisterParent,
  mdevUnregisterDriver,
  mdevUnregisterParent,
} from '../src/index.js';
import { createLab, type Lab, OTHER_UUID, settled, UUID } from './lab.js';

function failing(code: string) {
  return expect.objectContaining({ code });
}

/** The steps of an operation that can fail. */
async function stepsOf(lab: Lab, operation: () => Promise<void>): Promise<number> {
  using recording = lab.host.faults.record();
  await operation();
  return recording.steps.length;
}

describe('mdevRegisterDriver', () => {
  it('MDEV-001 refuses a driver without a device API', async () => {
    await using lab = await createLab();
    const options: Partial<MdevDriverOptions> = { name: 'mute', bus: lab.bus };
    const driver = new MdevDriver(options as MdevDriverOptions);
    await expect(mdevRegisterDriver(driver)).rejects.toThrow(failing('EINVAL'));
    expect(lab.names('/sys/bus/mdev/drivers')).toEqual([]);
  });

  it('refuses a second driver of the name', async () => {
    await using lab = await createLab();
    const [first, second] = [1, 2].map(() => new MdevDriver({ name: 'twin', bus: lab.bus, deviceApi: 'vfio-pci' }));
    await mdevRegisterDriver(first!);
    await expect(mdevRegisterDriver(second!)).rejects.toThrow(failing('EBUSY'));
    await mdevUnregisterDriver(first!);
  });

  it('MDEV-033 binds no device that is there already', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    await lab.root.writeFile('/sys/bus/mdev/drivers/card_mdev/unbind', UUID);
    const later = new MdevDriver({ name: 'later', bus: lab.bus, deviceApi: 'vfio-pci' });
    await mdevRegisterDriver(later);
    await lab.root.writeFile('/sys/bus/mdev/drivers_probe', UUID).catch(() => {});
    expect(later.devices).toEqual([]);
    expect(lab.device(UUID).driver).toBeUndefined();
    await mdevUnregisterDriver(later);
  });

  it('MDEV-064 unregistering unbinds the devices and leaves them', async () => {
    await using lab = await createLab();
    const journal: string[] = [];
    await using card = await lab.addParent({ driver: { remove: ({ name }) => void journal.push(name) } });
    await card.create(UUID);
    await card.create(OTHER_UUID);
    await mdevUnregisterDriver(card.driver);
    expect(journal.sort()).toEqual([UUID, OTHER_UUID]);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([UUID, OTHER_UUID]);
    expect(lab.names('/sys/bus/mdev/drivers')).toEqual([]);
    await mdevRegisterDriver(card.driver);
    expect(card.driver.devices).toEqual([]);
  });
});

describe('mdevRegisterParent', () => {
  it('MDEV-002 makes a directory for each type, in order', async () => {
    await using lab = await createLab();
    const types = ['b', 'a', 'c'].map((name) => new MdevType(name));
    await using card = await lab.addParent({ types });
    const listed = lab.root.readdir(`${card.dev.sysfs.path()}/mdev_supported_types`).map(({ name }) => name);
    expect(listed).toEqual(['card-b', 'card-a', 'card-c']);
  });

  it('MDEV-003 names the types after the driver, else the bus, else the class', async () => {
    await using lab = await createLab();
    const { host } = lab;
    const bus = new Bus({ name: 'shelf' });
    const shelfClass = new DeviceClass(host, 'boxes');
    await host.devices.busRegister(bus);
    const prefix = async (dev: Device): Promise<string> => {
      await using parent = await lab.addParent({ name: `p${dev.name}`, dev, types: [new MdevType('x')] });
      return lab.names(`${parent.dev.sysfs.path()}/mdev_supported_types`).join();
    };
    const ofClass = new Device({ name: 'a', class: shelfClass });
    const ofBus = new Device({ name: 'b', bus });
    await host.devices.register(ofClass);
    await host.devices.register(ofBus);
    expect(await prefix(ofClass)).toBe('boxes-x');
    expect(await prefix(ofBus)).toBe('shelf-x');
    const driver = new Driver({ name: 'i915', bus });
    await host.devices.driverRegister(driver);
    expect(await prefix(ofBus)).toBe('i915-x');

    await host.devices.driverUnregister(driver);
    await host.devices.unregister(ofBus);
    await host.devices.unregister(ofClass);
    await host.devices.busUnregister(bus);
    await shelfClass.destroy();
  });

  it('MDEV-004 announces the parent', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const event = lab.uevents().at(-1);
    expect(event).toMatchObject({ action: 'change', devpath: card.dev.sysfs.devpath(), subsystem: 'card' });
    expect(event?.env.MDEV_STATE).toBe('registered');
    expect(lab.host.log.entries.some(({ text, dev }) => text === 'MDEV: Registered' && dev === 'card card')).toBe(true);
  });

  it('MDEV-005 links it in the class mdev_bus while it is registered', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    expect(lab.root.readlink('/sys/class/mdev_bus/card')).toBe('../../devices/virtual/card/card');
    await card.unregister();
    expect(lab.names('/sys/class/mdev_bus')).toEqual([]);
  });

  it('MDEV-006 goes on without the link', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const dev = new Device({ name: 'shared' });
    await lab.host.devices.register(dev);
    using fault = lab.host.faults.failOn('sysfs_create_link:shared');
    const parent = await mdevRegisterParent(dev, card.driver, [new MdevType('t')]);
    expect(fault.fired).toBe(true);
    expect(lab.names('/sys/class/mdev_bus')).toEqual(['card']);
    expect(lab.host.log.entries.some(({ text }) => text === 'Failed to create compatibility class link')).toBe(true);
    expect(lab.names('/sys/devices/shared/mdev_supported_types')).toEqual(['-t']);
    await mdevUnregisterParent(parent);
    await lab.host.devices.unregister(dev);
  });

  it('leaves the link of another parent of the same name alone', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const twin = new Device({ name: 'card' });
    await lab.host.devices.register(twin);
    const parent = await mdevRegisterParent(twin, card.driver, []);
    await mdevUnregisterParent(parent);
    expect(lab.root.readlink('/sys/class/mdev_bus/card')).toBe('../../devices/virtual/card/card');
    await lab.host.devices.unregister(twin);
  });

  it('MDEV-007 takes back the types before the one that fails, whatever fails of it', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const dev = new Device({ name: 'second' });
    await lab.host.devices.register(dev);
    const before = { refs: dev.refCount, names: lab.names('/sys/devices/second') };
    const attempt = async () => {
      const types = ['1', '2', '3'].map((name) => new MdevType(name));
      await mdevUnregisterParent(await mdevRegisterParent(dev, card.driver, types));
    };
    const steps = await stepsOf(lab, attempt);
    expect(steps).toBeGreaterThan(3 * 5);
    let refused = 0;
    for (let index = 0; index < steps; index++) {
      using fault = lab.host.faults.failAt(index);
      const error = await attempt().catch((thrown: unknown) => thrown);
      expect(fault.fired).toBe(true);
      expect(error === undefined || isSystemError(error, 'ENOMEM'), fault.step).toBe(true);
      if (error !== undefined) refused++;
      expect({ refs: dev.refCount, names: lab.names('/sys/devices/second') }).toEqual(before);
    }
    expect(refused).toBe(steps - 1); // the class link may be missing
    await lab.host.devices.unregister(dev);
  });

  it('MDEV-007 answers EEXIST for two types of one name, and ENOMEM for a parent that is one already', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const types = [new MdevType('1'), new MdevType('1')];
    await expect(mdevRegisterParent(card.dev, card.driver, types)).rejects.toThrow(failing('ENOMEM'));
    const dev = new Device({ name: 'second' });
    await lab.host.devices.register(dev);
    await expect(mdevRegisterParent(dev, card.driver, types)).rejects.toThrow(failing('EEXIST'));
    expect(lab.names('/sys/devices/second')).not.toContain('mdev_supported_types');
    await lab.host.devices.unregister(dev);
  });
});

describe('a type', () => {
  it('belongs to one parent at a time', async () => {
    await using lab = await createLab();
    const types = [new MdevType('1')];
    await using card = await lab.addParent({ types });
    const dev = new Device({ name: 'second' });
    await lab.host.devices.register(dev);
    const register = () => mdevRegisterParent(dev, card.driver, types);
    await expect(register()).rejects.toThrow(expect.objectContaining({ kind: 'driver' }));
    expect(lab.names('/sys/devices/second')).not.toContain('mdev_supported_types');
    await card.unregister();
    await mdevUnregisterParent(await register());
    await lab.host.devices.unregister(dev);
  });
});

describe('mdevUnregisterParent', () => {
  it('MDEV-045 removes devices, types, their directory and the link', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    await card.create(UUID);
    await card.create(OTHER_UUID, '2');
    await card.unregister();
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
    expect(lab.names(card.dev.sysfs.path())).toEqual(['power', 'subsystem', 'uevent']);
    expect(lab.names('/sys/class/mdev_bus')).toEqual([]);
    expect(lab.bus.list.size).toBe(0);
  });

  it('MDEV-046 announces it after the semaphore is free', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const seen: boolean[] = [];
    using _listener = lab.host.uevents.subscribe(({ action, env }) => {
      if (action === 'change' && env.MDEV_STATE === 'unregistered') seen.push(card.parent.unregSem.locked);
    });
    await card.unregister();
    expect(seen).toEqual([false]);
  });

  it('MDEV-051 leaves the other children of the parent alone', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent();
    const child = new Device({ name: 'child', parent: card.dev });
    await lab.host.devices.register(child);
    await card.create(UUID);
    await card.unregister();
    expect(card.dev.children()).toEqual([child]);
    expect(child.registered).toBe(true);
    await lab.host.devices.unregister(child);
  });

  it('MDEV-053 gives back the references of the types when the last device of each is gone', async () => {
    await using lab = await createLab();
    const dev = new Device({ name: 'counted' });
    await lab.host.devices.register(dev);
    const before = dev.refCount;
    const card = await lab.addParent({ name: 'counted', dev });
    expect(dev.refCount).toBe(before + 2);
    await card.create(UUID);
    const held = lab.device(UUID).get();
    await card.unregister();
    await settled();
    expect(dev.refCount).toBe(before + 1); // the type of the device that is still held
    held.put();
    expect(dev.refCount).toBe(before);
    await card[Symbol.asyncDispose]();
    await lab.host.devices.unregister(dev);
  });

  it('does not go on to the next device before the driver let go of one, and goes on after', async () => {
    await using lab = await createLab();
    const removed: string[] = [];
    await using card = await lab.addParent({
      driver: {
        remove: async ({ name }) => {
          await settled();
          removed.push(name);
        },
      },
    });
    await card.create(UUID);
    await card.create(OTHER_UUID);
    await card.unregister();
    expect(removed).toEqual([UUID, OTHER_UUID]);
  });
});
