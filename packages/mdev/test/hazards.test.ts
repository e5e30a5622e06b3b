/* Hazards that history has shown with mediated devices: set-up, action, outcome. */
import { getDevice, putDevice, putRegistration, tryGetRegistration } from '@vfio/core';
import { Device, DeviceClass, isSystemError, SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  MdevDriver,
  MdevType,
  mdevRegisterDriver,
  mdevRegisterParent,
  mdevUnregisterDriver,
  mdevUnregisterParent,
} from '../src/index.js';
import { createLab, gate, OTHER_UUID, settled, UUID } from './lab.js';
import { createVfioLab, type TestDevice } from './vfio-lab.js';

const THIRD_UUID = '83b8f4f2-509f-382f-3c1e-e6bfe0fa1003';

function failing(code: string) {
  return expect.objectContaining({ code });
}

describe('an event of the parent', () => {
  /** What a parent does when something happens to it: it tells its device, if that can be told. */
  async function notify(device: TestDevice, event: string, until?: Promise<void>): Promise<boolean> {
    if (!tryGetRegistration(device)) return false;
    try {
      await until;
      device.journal.push(event);
    } finally {
      putRegistration(device);
    }
    return true;
  }

  it('H13 reaches a device that is being removed as long as it has users, and is dropped afterwards', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const device = getDevice(lab.vfioDevice(lab.device(UUID)));
    const { group } = await lab.openGroup(UUID);
    const fd = await lab.getDeviceFd(group, UUID);
    const removing = lab.remove(UUID);
    await settled();
    expect(await notify(device, 'path gone')).toBe(true);
    await lab.root.close(fd);
    await removing;
    // the object is still there, its driver is not
    expect(await notify(device, 'path back')).toBe(false);
    expect(lab.journal).toEqual(['init', 'open', 'remove', 'path gone', 'close', 'no users']);
    await putDevice(device);
    expect(lab.journal.at(-1)).toBe('release');
  });

  it('H13 that is being delivered makes the removal wait', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const device = lab.vfioDevice(lab.device(UUID));
    const busy = gate();
    const delivered = notify(device, 'path gone', busy.wait);
    const removing = lab.remove(UUID);
    await settled();
    expect(lab.journal).toEqual(['init', 'remove']);
    busy.open();
    expect(await delivered).toBe(true);
    await removing;
    expect(lab.journal).toEqual(['init', 'remove', 'path gone', 'no users', 'release']);
  });
});

describe('a parent with one instance', () => {
  it('H15 makes one device, refuses a second with EUSERS, and makes another when the object of the first is gone', async () => {
    await using lab = await createLab();
    await using card = await lab.addParent({ driver: { maxInstances: 1 } });
    await card.create(UUID);
    await expect(card.create(OTHER_UUID)).rejects.toThrow(failing('EUSERS'));
    const held = lab.device(UUID).get();
    await lab.remove(UUID);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
    await expect(card.create(OTHER_UUID)).rejects.toThrow(failing('EUSERS'));
    held.put();
    expect(await card.create(OTHER_UUID)).toBe(36);
    await expect(card.create(THIRD_UUID)).rejects.toThrow(failing('EUSERS'));
  });
});

describe('a create that fails while the driver is attached', () => {
  it('H16 ends with an errno and gives the instance back, whichever step it is', async () => {
    await using lab = await createVfioLab();
    const driver = lab.driver();
    const attach = { begin: 0, end: 0 };
    using recording = lab.host.faults.record();
    await using card = await lab.addParent({
      driver: {
        ...driver,
        maxInstances: 1,
        probe: async (mdev) => {
          attach.begin = recording.steps.length;
          await driver.probe?.(mdev);
          attach.end = recording.steps.length;
        },
      },
    });
    const before = recording.steps.length;
    await card.create(UUID);
    recording.stop();
    await lab.remove(UUID);
    // the two links between device and driver come before the probe
    const first = attach.begin - 2;
    const steps = recording.steps.slice(first, attach.end);
    expect(steps.slice(0, 3).map(({ name }) => name)).toEqual([
      `sysfs_create_link:${UUID}`,
      'sysfs_create_link:driver',
      'vfio_alloc_device:memory',
    ]);
    let failures = 0;
    for (const at of steps.keys()) {
      using fault = lab.host.faults.failAt(first - before + at);
      try {
        await card.create(UUID);
        await lab.remove(UUID); // a device does without its directory in debugfs
      } catch (error) {
        expect(isSystemError(error), String(error)).toBe(true);
        failures++;
      }
      expect([fault.fired, await card.available(), lab.bus.list.size]).toEqual([true, '1\n', 0]);
    }
    expect(failures).toBeGreaterThanOrEqual(steps.length - 2);
    expect(await card.create(OTHER_UUID)).toBe(36);
  });

  it('H16 also when the driver refuses, with nothing of the device left', async () => {
    await using lab = await createLab();
    const refuses = () => {
      throw new SystemError('ENXIO', 'no channel');
    };
    await using card = await lab.addParent({ driver: { maxInstances: 1, probe: refuses } });
    await expect(card.create(UUID)).rejects.toThrow(failing('ENXIO'));
    expect([await card.available(), lab.names(card.dev.sysfs.path()).includes(UUID)]).toEqual(['1\n', false]);
    expect(lab.names('/sys/bus/mdev/drivers/card_mdev')).not.toContain(UUID);
    // the same UUID again: it is refused by the driver, not as one that is taken
    await expect(card.create(UUID)).rejects.toThrow(failing('ENXIO'));
  });
});

describe('a module with a driver and a parent', () => {
  /** What a driver of mediated devices does when it is loaded; its end is the same backwards. */
  async function createModuleLab() {
    const lab = await createVfioLab();
    const { host, bus } = lab;
    host.modules.define({
      name: 'card',
      depends: ['mdev', 'vfio'],
      init: async ({ module, undo }) => {
        const driver = new MdevDriver({
          ...lab.driver(),
          name: 'card_mdev',
          bus,
          module,
          deviceApi: 'vfio-pci',
          maxInstances: 4,
        });
        await mdevRegisterDriver(driver);
        undo.add(() => mdevUnregisterDriver(driver));
        const deviceClass = new DeviceClass(host, 'card');
        undo.add(() => deviceClass.destroy());
        const dev = new Device({ name: 'card', class: deviceClass });
        host.devices.init(dev);
        undo.add(() => dev.put());
        await host.devices.add(dev);
        undo.add(() => host.devices.del(dev));
        const parent = await mdevRegisterParent(dev, driver, [new MdevType('1')]);
        undo.add(() => mdevUnregisterParent(parent));
      },
    });
    return lab;
  }

  it('H46 ends in the reverse of the order in which it began: its devices have their driver until they are gone', async () => {
    await using lab = await createModuleLab();
    const { host, journal } = lab;
    const seen: string[] = [];
    using _listener = host.uevents.subscribe(({ action, subsystem, devpath, env }) => {
      if (env.MDEV_STATE) seen.push(`parent ${env.MDEV_STATE}`);
      else if (subsystem === 'drivers') seen.push(`driver ${action}`);
      else if (devpath.endsWith(`/${UUID}`)) seen.push(`device ${action}`);
    });
    await host.modules.modprobe('card');
    expect(seen).toEqual(['driver add', 'parent registered']);
    seen.length = 0;
    await lab.root.writeFile('/sys/class/card/card/mdev_supported_types/card-1/create', UUID);
    await host.modules.rmmod('card');
    expect(seen).toEqual([
      'device add',
      'device bind',
      'device unbind',
      'device remove',
      'parent unregistered',
      'driver remove',
    ]);
    expect(journal).toEqual(['init', 'remove', 'no users', 'release']);
    expect(lab.names('/sys/class/mdev_bus')).toEqual([]);
    expect(lab.names('/sys/bus/mdev/drivers')).toEqual([]);
  });

  it('H46 begins as a whole or not at all, and can begin again', async () => {
    await using lab = await createModuleLab();
    const { host } = lab;
    const recording = host.faults.record();
    await host.modules.modprobe('card');
    recording.stop();
    await host.modules.rmmod('card');
    expect(recording.steps.length).toBeGreaterThan(10);
    for (const [index, step] of recording.steps.entries()) {
      using fault = host.faults.failAt(index);
      try {
        await host.modules.modprobe('card');
        await host.modules.rmmod('card'); // a parent does without its link in the class
      } catch (error) {
        expect(isSystemError(error), `${step.name}: ${String(error)}`).toBe(true);
      }
      expect(fault.fired, step.name).toBe(true);
      expect(host.modules.get('card'), step.name).toBeUndefined();
      expect([lab.names('/sys/bus/mdev/drivers'), lab.names('/sys/class/mdev_bus')], step.name).toEqual([[], []]);
      expect(lab.exists('/sys/class/card'), step.name).toBe(false);
    }
    await host.modules.modprobe('card');
    await host.modules.rmmod('card');
  });
});
