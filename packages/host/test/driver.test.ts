import { describe, expect, it } from 'vitest';
import {
  type AttributeGroup,
  Bus,
  type BusOptions,
  Completion,
  Device,
  type DeviceOptions,
  Driver,
  DriverData,
  type DriverOptions,
  KernelBug,
  matchDriverOverride,
  SystemError,
  setDriverOverride,
} from '../src/index.js';
import { attribute, errno, everyStepFails, TestMachine, tick } from './machine.js';

const bdf = '0000:00:02.0';
const drivers = '/sys/bus/pci/drivers';

/** A bus on which a driver takes what its override names, a device, and a journal. */
async function pci(more: Partial<BusOptions> = {}) {
  const machine = new TestMachine();
  const journal: string[] = [];
  const bus = new Bus({
    name: 'pci',
    driverOverride: true,
    match: (dev, drv) => matchDriverOverride(dev, drv.name) ?? false,
    ...more,
  });
  await machine.devices.busRegister(bus);
  const root = new Device({ name: 'pci0000:00' });
  await machine.devices.register(root);
  const addDevice = async (name: string, options: DeviceOptions = {}): Promise<Device> => {
    const dev = new Device({ name, bus, parent: root, ...options });
    await machine.devices.register(dev);
    return dev;
  };
  const dev = await addDevice(bdf);
  const addDriver = async (name: string, options: Partial<DriverOptions> = {}): Promise<Driver> => {
    const drv = new Driver({
      name,
      bus,
      probe: (device) => void journal.push(`${name} probe ${device.name}`),
      remove: (device) => void journal.push(`${name} remove ${device.name}`),
      ...options,
    });
    await machine.devices.driverRegister(drv);
    return drv;
  };
  return { machine, bus, root, dev, addDevice, addDriver, journal };
}

/** Matches whatever there is. */
const any: Partial<BusOptions> = { match: () => true };

describe('/sys/bus', () => {
  it('has a directory for a bus', async () => {
    const { machine } = await pci({ groups: [{ attributes: [attribute('rescan')] }] });
    expect(machine.ls('/sys/bus')).toEqual(['pci/']);
    expect(machine.ls('/sys/bus/pci')).toEqual([
      'devices/',
      'drivers/',
      'drivers_autoprobe',
      'drivers_probe',
      'rescan',
      'uevent',
    ]);
    const modes = ['drivers_autoprobe', 'drivers_probe', 'uevent'].map(
      (file) => machine.process.stat(`/sys/bus/pci/${file}`).mode,
    );
    expect(modes).toEqual([0o644, 0o200, 0o200]);
  });

  it('refuses a second bus of a name', async () => {
    const { machine, bus } = await pci();
    expect(machine.devices.findBus('pci')).toBe(bus);
    await expect(machine.devices.busRegister(new Bus({ name: 'pci' }))).rejects.toThrow(errno('EEXIST'));
    expect(machine.devices.findBus('pci')).toBe(bus);
  });

  it('forgets a bus', async () => {
    const machine = new TestMachine();
    const bus = new Bus({ name: 'mdev' });
    await machine.devices.busRegister(bus);
    await machine.echo('/sys/bus/mdev/uevent', 'change');
    await machine.devices.busUnregister(bus);
    await machine.devices.busUnregister(bus);
    expect([machine.ls('/sys/bus'), machine.devices.findBus('mdev'), bus.devices, bus.drivers]).toEqual([
      [],
      undefined,
      [],
      [],
    ]);
    await expect(machine.devices.driverRegister(new Driver({ name: 'd', bus }))).rejects.toThrow(errno('EINVAL'));
    expect(machine.events().map(({ action, devpath, subsystem }) => [action, devpath, subsystem])).toEqual([
      ['add', '/bus/mdev', 'bus'],
      ['change', '/bus/mdev', 'bus'],
      ['remove', '/bus/mdev', 'bus'],
    ]);
  });
});

describe('the directory of a driver', () => {
  it('has the files to bind and unbind, those of the bus and of the driver, and the module', async () => {
    const { machine, addDriver, bus } = await pci({
      driverGroups: () => [
        { attributes: ['new_id', 'remove_id'].map((name) => ({ name, mode: 0o200, store: () => {} })) },
      ],
    });
    machine.modules.define({ name: 'vfio_pci', init: () => {} });
    const module = await machine.modules.modprobe('vfio_pci');
    const drv = await addDriver('vfio-pci', { module, groups: [{ attributes: [attribute('own')] }] });
    expect(machine.ls(`${drivers}/vfio-pci`)).toEqual([
      'bind',
      'module@',
      'new_id',
      'own',
      'remove_id',
      'uevent',
      'unbind',
    ]);
    expect(machine.readlink(`${drivers}/vfio-pci/module`)).toBe('../../../../module/vfio_pci');
    expect(machine.readlink('/sys/module/vfio_pci/drivers/pci:vfio-pci')).toBe('../../../bus/pci/drivers/vfio-pci');
    await addDriver('quiet', { suppressBindAttrs: true });
    expect(machine.ls(`${drivers}/quiet`)).toEqual(['new_id', 'remove_id', 'uevent']);
    expect(bus.drivers.map(({ name }) => name)).toEqual(['vfio-pci', 'quiet']);
    expect(bus.findDriver('vfio-pci')).toBe(drv);
    await machine.echo(`${drivers}/vfio-pci/uevent`, 'change');
    await machine.devices.driverUnregister(drv);
    expect(machine.ls(drivers)).toEqual(['quiet/']);
    expect(machine.ls('/sys/module/vfio_pci/drivers')).toEqual([]);
    const own = machine.events().filter(({ devpath }) => devpath === '/bus/pci/drivers/vfio-pci');
    expect(own.map(({ action, subsystem }) => [action, subsystem])).toEqual([
      ['add', 'drivers'],
      ['change', 'drivers'],
      ['remove', 'drivers'],
    ]);
  });

  it('is there once', async () => {
    const { machine, bus, addDriver } = await pci();
    await addDriver('vfio-pci');
    await expect(addDriver('vfio-pci')).rejects.toThrow(errno('EBUSY'));
    expect(machine.host.log.entries.map(({ text }) => text)).toContain(
      "Error: Driver 'vfio-pci' is already registered, aborting...",
    );
    expect(bus.drivers).toHaveLength(1);
    await machine.devices.driverUnregister(new Driver({ name: 'never', bus }));
    expect(machine.host.log.warnings().map(({ text }) => text)).toEqual(['Unexpected driver unregister!']);
  });
});

describe('bind and unbind', () => {
  it('answer as Linux does (transcript pci-bind)', async () => {
    const { machine, addDriver } = await pci();
    await addDriver('vfio-pci');
    const override = `/sys/bus/pci/devices/${bdf}/driver_override`;
    const bind = `${drivers}/vfio-pci/bind`;
    const unbind = `${drivers}/vfio-pci/unbind`;
    expect(await machine.cat(override)).toBe('(null)\n');
    await expect(machine.echo(bind, bdf)).rejects.toThrow(errno('ENODEV'));
    expect(await machine.echo(override, 'vfio-pci\n')).toBe(9);
    expect(await machine.cat(override)).toBe('vfio-pci\n');
    await expect(machine.echo(bind, '0000:ff:1f.7')).rejects.toThrow(errno('ENODEV'));
    expect(await machine.echo(bind, bdf)).toBe(12);
    await expect(machine.echo(bind, bdf)).rejects.toThrow(errno('EBUSY'));
    expect(machine.readlink(`/sys/bus/pci/devices/${bdf}/driver`)).toBe('../../../bus/pci/drivers/vfio-pci');
    expect(machine.ls(`${drivers}/vfio-pci`)).toEqual([`${bdf}@`, 'bind', 'uevent', 'unbind']);
    expect(machine.readlink(`${drivers}/vfio-pci/${bdf}`)).toBe(`../../../../devices/pci0000:00/${bdf}`);
    expect(await machine.echo(override, '\n')).toBe(1);
    expect(await machine.cat(override)).toBe('(null)\n');
    expect(await machine.echo(unbind, `${bdf}\n`)).toBe(13);
    expect(() => machine.readlink(`/sys/bus/pci/devices/${bdf}/driver`)).toThrow(errno('ENOENT'));
    await expect(machine.echo(unbind, bdf)).rejects.toThrow(errno('ENODEV'));
    await expect(machine.echo(unbind, 'nosuch')).rejects.toThrow(errno('ENODEV'));
  });

  it('give the errno of the probe', async () => {
    const { machine, addDriver, dev } = await pci(any);
    await machine.echo('/sys/bus/pci/drivers_autoprobe', '0');
    await addDriver('vfio-pci', {
      probe: () => {
        throw new SystemError('EINVAL', 'a bridge');
      },
    });
    await expect(machine.echo(`${drivers}/vfio-pci/bind`, bdf)).rejects.toThrow(errno('EINVAL'));
    expect([dev.driver, machine.ls(`${drivers}/vfio-pci`)]).toEqual([undefined, ['bind', 'uevent', 'unbind']]);
  });

  it('bind where the bus cannot tell yet, and say EAGAIN where the driver cannot', async () => {
    let ready = false;
    const { machine, addDriver, dev } = await pci({
      match: () => {
        throw new SystemError('EPROBE_DEFER', 'no id yet');
      },
    });
    await addDriver('vfio-amba', {
      probe: () => {
        if (!ready) throw new SystemError('EPROBE_DEFER', 'not yet');
      },
    });
    await expect(machine.echo(`${drivers}/vfio-amba/bind`, bdf)).rejects.toThrow(errno('EAGAIN'));
    await expect(machine.echo('/sys/bus/pci/drivers_probe', bdf)).rejects.toThrow(errno('EINVAL'));
    ready = true;
    expect(await machine.echo(`${drivers}/vfio-amba/bind`, bdf)).toBe(12);
    expect(dev.driver?.name).toBe('vfio-amba');
  });

  it('do not stop at a driver of another name', async () => {
    const { machine, addDriver } = await pci(any);
    await addDriver('first');
    await addDriver('second');
    await expect(machine.echo(`${drivers}/second/unbind`, bdf)).rejects.toThrow(errno('ENODEV'));
    await expect(machine.echo(`${drivers}/second/bind`, bdf)).rejects.toThrow(errno('EBUSY'));
  });

  it('wait while remove does, and then find what is left', async () => {
    const { machine, addDriver, dev, journal } = await pci(any);
    const go = new Completion(machine.host, 'go');
    await addDriver('vfio-pci', {
      remove: async () => {
        journal.push('remove begins');
        await go.wait();
        journal.push('remove ends');
      },
    });
    journal.length = 0;
    const first = machine.echo(`${drivers}/vfio-pci/unbind`, bdf);
    const second = machine.echo(`${drivers}/vfio-pci/unbind`, bdf);
    const third = machine.echo(`${drivers}/vfio-pci/bind`, bdf);
    await tick();
    expect([dev.driver?.name, dev.lock.locked, machine.ls(dev.sysfs.path())]).toEqual([
      'vfio-pci',
      true,
      ['driver_override', 'power/', 'subsystem@', 'uevent'],
    ]);
    go.completeAll();
    expect(await Promise.all([first, second, third])).toEqual([12, 12, 12]);
    expect(journal).toEqual(['remove begins', 'remove ends', `vfio-pci probe ${bdf}`]);
  });
});

describe('driver_override', () => {
  it.each<[string, string | undefined]>([
    ['vfio-pci', 'vfio-pci'],
    ['vfio-pci\n', 'vfio-pci'],
    ['a\nb\n', 'a'],
    ['a\0b', 'a'],
    ['\n', undefined],
    ['\0', undefined],
    ['\nx', undefined],
    ['x'.repeat(4094), 'x'.repeat(4094)],
  ])('takes %j', async (text, name) => {
    const { machine, dev } = await pci();
    dev.driverOverride = 'before';
    const file = `/sys/bus/pci/devices/${bdf}/driver_override`;
    expect(await machine.echo(file, text)).toBe(text.length);
    expect(dev.driverOverride).toBe(name);
    expect(await machine.cat(file)).toBe(`${name ?? '(null)'}\n`);
    expect(machine.process.stat(file).mode).toBe(0o644);
  });

  it('refuses what could not be shown', async () => {
    const { machine, dev } = await pci();
    dev.driverOverride = 'before';
    const file = `/sys/bus/pci/devices/${bdf}/driver_override`;
    for (const length of [4095, 4096, 5000]) {
      await expect(machine.echo(file, 'x'.repeat(length))).rejects.toThrow(errno('EINVAL'));
    }
    machine.host.faults.failOn('device_set_driver_override:name');
    await expect(machine.echo(file, 'x')).rejects.toThrow(errno('ENOMEM'));
    expect(await machine.echo(file, '')).toBe(0);
    expect(dev.driverOverride).toBe('before');
  });

  it('is there on a bus that has it', async () => {
    const { machine, dev } = await pci({ driverOverride: false });
    expect(machine.ls(dev.sysfs.path())).not.toContain('driver_override');
    setDriverOverride(dev, 'x');
    expect([matchDriverOverride(dev, 'x'), matchDriverOverride(dev, 'y')]).toEqual([true, false]);
    setDriverOverride(dev, '');
    expect(matchDriverOverride(dev, 'x')).toBeUndefined();
  });
});

describe('drivers_probe and drivers_autoprobe', () => {
  it('look for a driver on demand, and only then', async () => {
    const { machine, addDriver, addDevice, dev } = await pci(any);
    expect(await machine.cat('/sys/bus/pci/drivers_autoprobe')).toBe('1\n');
    expect(await machine.echo('/sys/bus/pci/drivers_autoprobe', '0\n')).toBe(2);
    expect(await machine.cat('/sys/bus/pci/drivers_autoprobe')).toBe('0\n');
    await addDriver('vfio-pci');
    const second = await addDevice('0000:00:03.0');
    expect([dev.driver, second.driver]).toEqual([undefined, undefined]);
    expect(await machine.echo('/sys/bus/pci/drivers_probe', bdf)).toBe(12);
    expect([dev.driver?.name, second.driver]).toEqual(['vfio-pci', undefined]);
    await machine.echo('/sys/bus/pci/drivers_autoprobe', '1');
    const third = await addDevice('0000:00:04.0');
    expect([second.driver, third.driver?.name]).toEqual([undefined, 'vfio-pci']);
  });

  it('succeed for a device that has a driver, or that nobody wants', async () => {
    const { machine, addDriver, dev } = await pci();
    await addDriver('vfio-pci');
    expect(await machine.echo('/sys/bus/pci/drivers_probe', `${bdf}\n`)).toBe(13);
    setDriverOverride(dev, 'vfio-pci');
    expect(await machine.echo('/sys/bus/pci/drivers_probe', bdf)).toBe(12);
    expect(await machine.echo('/sys/bus/pci/drivers_probe', bdf)).toBe(12);
    expect(dev.driver?.name).toBe('vfio-pci');
    await expect(machine.echo('/sys/bus/pci/drivers_probe', 'nosuch')).rejects.toThrow(errno('ENODEV'));
  });

  it('say EINVAL of what is in the way of a driver, but not of its own refusal', async () => {
    let owned = true;
    const { machine, addDriver } = await pci({
      ...any,
      dmaConfigure: () => {
        if (owned) throw new SystemError('EBUSY', 'the group is owned');
      },
    });
    await addDriver('picky', {
      probe: () => {
        throw new SystemError('ENODEV', 'not mine');
      },
    });
    await expect(machine.echo('/sys/bus/pci/drivers_probe', bdf)).rejects.toThrow(errno('EINVAL'));
    await expect(machine.echo(`${drivers}/picky/bind`, bdf)).rejects.toThrow(errno('EBUSY'));
    owned = false;
    expect(await machine.echo('/sys/bus/pci/drivers_probe', bdf)).toBe(12);
    await expect(machine.echo(`${drivers}/picky/bind`, bdf)).rejects.toThrow(errno('ENODEV'));
  });
});

describe('probe', () => {
  it('happens when a device or a driver comes, with the first driver that takes the device', async () => {
    const { machine, addDriver, addDevice, dev, journal } = await pci(any);
    const picky = await addDriver('picky', {
      probe: (device) => {
        journal.push(`picky refuses ${device.name}`);
        throw new SystemError('ENXIO', 'not mine');
      },
    });
    const eager = await addDriver('eager');
    await addDriver('late');
    const second = await addDevice('0000:00:03.0');
    expect(journal).toEqual([
      `picky refuses ${bdf}`,
      `eager probe ${bdf}`,
      'picky refuses 0000:00:03.0',
      'eager probe 0000:00:03.0',
    ]);
    expect([dev.driver, second.driver, picky.devices, eager.devices]).toEqual([eager, eager, [], [dev, second]]);
    expect(machine.host.log.entries.filter(({ level }) => level === 'err')).toEqual([]);
  });

  it('goes step by step, and back', async () => {
    const journal: string[] = [];
    const note = (text: string) => void journal.push(text);
    const { machine, addDriver, dev, bus } = await pci({
      ...any,
      probe: async (device, drv) => {
        note(`bus probe ${device.sysfs.lookup('driver') ? 'with' : 'without'} link`);
        await drv.options.probe?.(device);
      },
      remove: async (device, drv) => {
        note(`bus remove ${device.sysfs.lookup('driver') ? 'with' : 'without'} link`);
        await drv.options.remove?.(device);
      },
      dmaConfigure: (device, drv) => note(`dma configure for ${device.driver === drv}, managed ${drv.managesDma}`),
      dmaCleanup: (device) => note(`dma cleanup, driver ${device.driver?.name}`),
    });
    using _heard = bus.subscribe((event) => note(event));
    using _events = machine.uevents.subscribe(({ action, env }) => note(`uevent ${action} ${env.DRIVER ?? ''}`));
    const data = new DriverData<string>();
    const group: AttributeGroup = { name: 'vendor', attributes: [attribute('x')] };
    const has = () => (dev.sysfs.lookup('vendor') ? 'with' : 'without');
    const drv = await addDriver('vfio-pci', {
      managesDma: true,
      devGroups: [group],
      probe: (device) => {
        data.set(device, 'state');
        note(`probe ${has()} groups, ${device.lock.locked ? 'locked' : 'not locked'}`);
      },
      remove: (device) => note(`remove ${has()} groups, data ${data.get(device)}, driver ${device.driver?.name}`),
    });
    expect(has()).toBe('with');
    await machine.devices.driverUnregister(drv);
    expect(journal).toEqual([
      'dma configure for true, managed true',
      'bind-driver',
      'bus probe with link',
      'probe without groups, locked',
      'bound-driver',
      'uevent bind vfio-pci',
      'uevent add ',
      'unbind-driver',
      'bus remove without link',
      'remove without groups, data state, driver vfio-pci',
      'dma cleanup, driver vfio-pci',
      'unbound-driver',
      'uevent unbind ',
      'uevent remove ',
    ]);
    expect([dev.driver, data.peek(dev)]).toEqual([undefined, undefined]);
  });

  it('that fails leaves no trace, but in the log', async () => {
    const journal: string[] = [];
    const { machine, addDriver, dev, bus } = await pci({ ...any, dmaCleanup: () => void journal.push('dma cleanup') });
    using _heard = bus.subscribe((event) => journal.push(event));
    const data = new DriverData<number>();
    const before = machine.ls(dev.sysfs.path());
    await addDriver('vfio-pci', {
      probe: (device) => {
        data.set(device, 1);
        throw new SystemError('EIO', 'broken');
      },
    });
    expect(journal).toEqual(['bind-driver', 'driver-not-bound', 'dma cleanup']);
    expect([dev.driver, data.peek(dev), machine.ls(dev.sysfs.path())]).toEqual([undefined, undefined, before]);
    expect(
      machine.host.log.entries.filter(({ level }) => level === 'err').map(({ text, dev: who }) => [who, text]),
    ).toEqual([[`vfio-pci ${bdf}`, 'probe with driver vfio-pci failed with error -5']]);
  });

  it('is undone by remove when the groups of the driver cannot be made', async () => {
    const { machine, addDriver, dev, journal } = await pci(any);
    machine.host.faults.failOn('sysfs_create_dir:vendor');
    const drv = await addDriver('mtty', { devGroups: [{ name: 'vendor', attributes: [attribute('x')] }] });
    expect([dev.driver, journal]).toEqual([undefined, [`mtty probe ${bdf}`, `mtty remove ${bdf}`]]);
    machine.host.faults.failOn('sysfs_create_file:x');
    await expect(machine.devices.attachDriver(dev, drv)).rejects.toThrow(errno('ENOMEM'));
    expect(machine.ls(dev.sysfs.path())).toEqual(['driver_override', 'power/', 'subsystem@', 'uevent']);
    expect(machine.host.log.warnings()).toEqual([]);
    await machine.devices.attachDriver(dev, drv);
    expect(dev.driver).toBe(drv);
  });

  it('lets a bug of a driver through, after it is undone', async () => {
    const { machine, bus, root, addDriver } = await pci();
    const drv = await addDriver('broken', {
      probe: () => {
        throw new TypeError('a bug');
      },
    });
    const before = machine.state();
    const dev = new Device({ name: 'd', bus, parent: root });
    dev.driverOverride = 'broken';
    await expect(machine.devices.register(dev)).rejects.toThrow(TypeError);
    expect([dev.driver, dev.registered, root.children().includes(dev), drv.devices]).toEqual([
      undefined,
      true,
      true,
      [],
    ]);
    await expect(machine.echo('/sys/bus/pci/drivers_probe', 'd')).rejects.toThrow(TypeError);
    await machine.devices.unregister(dev);
    expect(machine.state()).toEqual(before);
  });

  it('is taken back by a remove that cannot refuse', async () => {
    const { machine, addDriver, dev } = await pci(any);
    await addDriver('stubborn', {
      remove: () => {
        throw new SystemError('EBUSY', 'no');
      },
    });
    expect(await machine.echo(`${drivers}/stubborn/unbind`, bdf)).toBe(12);
    expect(dev.driver).toBeUndefined();
    expect(machine.host.log.warnings().map(({ text }) => text)).toEqual([
      `stubborn ${bdf}: remove callback returned a non-zero value (-16). This will be ignored.`,
    ]);
  });

  it('is taken back by a remove with a bug, which surfaces', async () => {
    const { machine, addDriver, addDevice, root } = await pci(any);
    const drv = await addDriver('broken', {
      remove: () => {
        throw new TypeError('a bug');
      },
    });
    const before = machine.state();
    const dev = await addDevice('0000:00:03.0');
    await expect(machine.devices.del(dev)).rejects.toThrow(TypeError);
    dev.put();
    expect([dev.driver, drv.devices.length, root.children().length, machine.state()]).toEqual([
      undefined,
      1,
      1,
      before,
    ]);
  });

  it('takes the lock of the parent too where the bus needs that', async () => {
    const locked: boolean[] = [];
    for (const needParentLock of [false, true]) {
      const { root, addDriver, machine, dev } = await pci({ ...any, needParentLock });
      const drv = await addDriver('usb', {
        probe: () => void locked.push(root.lock.locked),
        remove: () => void locked.push(root.lock.locked),
      });
      await machine.devices.driverUnregister(drv);
      await machine.devices.busUnregister(dev.bus!);
    }
    expect(locked).toEqual([false, false, true, true]);
  });

  it('of one device waits for nobody else', async () => {
    const { machine, addDevice, addDriver } = await pci();
    const go = new Completion(machine.host, 'go');
    const drv = await addDriver('slow', { probe: (device) => (device.name === bdf ? go.wait() : undefined) });
    const second = await addDevice('0000:00:03.0');
    const first = machine.devices.attachDriver(drv.bus.devices[0]!, drv);
    await machine.devices.attachDriver(second, drv);
    expect(second.driver).toBe(drv);
    await expect(machine.devices.attachDriver(second, drv)).rejects.toThrow(errno('EBUSY'));
    go.completeAll();
    await first;
    expect(drv.devices.map(({ name }) => name)).toEqual(['0000:00:03.0', bdf]);
  });
});

describe('DeviceCore', () => {
  it('takes the driver off, looks for one and tries another', async () => {
    const { machine, dev, addDriver } = await pci();
    expect(await machine.devices.attach(dev)).toBe(false);
    await addDriver('a');
    await addDriver('b');
    setDriverOverride(dev, 'a');
    expect(await machine.devices.attach(dev)).toBe(true);
    expect(await machine.devices.attach(dev)).toBe(true);
    setDriverOverride(dev, 'b');
    await machine.devices.reprobe(dev);
    expect(dev.driver?.name).toBe('b');
    await machine.devices.releaseDriver(dev);
    await machine.devices.releaseDriver(dev);
    expect(dev.driver).toBeUndefined();
  });

  it('binds nothing to what is not added or going', async () => {
    const { machine, bus, addDriver } = await pci();
    const drv = await addDriver('a');
    const dev = new Device({ name: 'd', bus });
    machine.devices.init(dev);
    await expect(machine.devices.attachDriver(dev, drv)).rejects.toThrow(errno('ENODEV'));
    await machine.devices.add(dev);
    await machine.devices.del(dev);
    await expect(machine.devices.attachDriver(dev, drv)).rejects.toThrow(errno('ENODEV'));
    expect(await machine.devices.attach(dev)).toBe(false);
    dev.put();
    const alone = new Device({ name: 'alone' });
    await machine.devices.register(alone);
    expect(await machine.devices.attach(alone)).toBe(false);
  });

  it('takes a driver off its devices, last first', async () => {
    const { machine, addDriver, addDevice, journal } = await pci(any);
    await addDevice('0000:00:03.0');
    const drv = await addDriver('vfio-pci');
    journal.length = 0;
    await machine.devices.driverUnregister(drv);
    expect(journal).toEqual(['vfio-pci remove 0000:00:03.0', `vfio-pci remove ${bdf}`]);
  });

  it('waits for those who bind and unbind before a driver is gone', async () => {
    const { machine, addDriver, journal } = await pci();
    const go = new Completion(machine.host, 'go');
    const drv = await addDriver('vfio-pci', { probe: () => go.wait() });
    await machine.echo(`/sys/bus/pci/devices/${bdf}/driver_override`, 'vfio-pci');
    const bind = machine.echo(`${drivers}/vfio-pci/bind`, bdf);
    await tick();
    const removal = machine.devices.driverUnregister(drv);
    await tick();
    expect([machine.ls(drivers), journal]).toEqual([['vfio-pci/'], []]);
    go.completeAll();
    expect(await bind).toBe(12);
    await removal;
    expect([machine.ls(drivers), journal]).toEqual([[], [`vfio-pci remove ${bdf}`]]);
  });
});

describe('deferred probe', () => {
  it('tries again when some driver got a device', async () => {
    const { machine, addDriver, addDevice, dev, journal } = await pci();
    let ready = false;
    setDriverOverride(dev, 'waits');
    await addDriver('waits', {
      probe: () => {
        journal.push(`waits ${ready}`);
        if (!ready) throw new SystemError('EPROBE_DEFER', 'no clock yet');
      },
    });
    expect(machine.devices.deferred).toEqual([dev]);
    const clock = await addDevice('clock');
    setDriverOverride(clock, 'clocks');
    await addDriver('clocks');
    await machine.devices.settle();
    expect(machine.devices.deferred).toEqual([dev]);
    await machine.devices.releaseDriver(clock);
    ready = true;
    await machine.devices.attach(clock);
    await machine.devices.settle();
    expect([machine.devices.deferred, dev.driver?.name]).toEqual([[], 'waits']);
    expect(journal).toEqual([
      'waits false',
      'clocks probe clock',
      'waits false',
      'clocks remove clock',
      'clocks probe clock',
      'waits true',
    ]);
    expect(machine.host.tracker.count('work')).toBe(0);
  });

  it('does not miss what happened while it was refused', async () => {
    const { machine, addDriver, addDevice, dev } = await pci();
    const clock = await addDevice('clock');
    const clocks = await addDriver('clocks');
    setDriverOverride(dev, 'waits');
    let probes = 0;
    await addDriver('waits', {
      probe: async () => {
        if (probes++ > 0) return;
        await machine.devices.attachDriver(clock, clocks);
        throw new SystemError('EPROBE_DEFER', 'no clock yet');
      },
    });
    await machine.devices.settle();
    expect([probes, dev.driver?.name]).toEqual([2, 'waits']);
  });

  it('waits also when the bus cannot tell, without looking further', async () => {
    let known = false;
    const { machine, addDriver, addDevice, dev } = await pci({
      match: (device, drv) => {
        if (device.name !== bdf || drv.name !== 'amba' || known) return true;
        throw new SystemError('EPROBE_DEFER', 'no id yet');
      },
    });
    await addDriver('amba');
    expect([dev.driver, machine.devices.deferred]).toEqual([undefined, [dev]]);
    known = true;
    await addDevice('other');
    await machine.devices.settle();
    expect([dev.driver?.name, machine.devices.deferred]).toEqual(['amba', []]);
  });

  it('looks at the next device when the bus fails to tell for another reason', async () => {
    const { machine, addDriver, addDevice, dev } = await pci({
      match: (device) => {
        if (device.name === bdf) throw new SystemError('EIO', 'cannot read the id');
        return true;
      },
    });
    const second = await addDevice('second');
    await addDriver('amba');
    expect([dev.driver, second.driver?.name, machine.devices.deferred]).toEqual([undefined, 'amba', []]);
    await expect(machine.devices.attach(dev)).rejects.toThrow(errno('EIO'));
  });

  it('forgets a device that goes', async () => {
    const { machine, addDriver, dev } = await pci(any);
    await addDriver('never', {
      probe: () => {
        throw new SystemError('EPROBE_DEFER', 'never');
      },
    });
    expect(machine.devices.deferred).toEqual([dev]);
    await machine.devices.unregister(dev);
    expect(machine.devices.deferred).toEqual([]);
  });
});

describe('DriverData', () => {
  it('is one slot, that only its owner can read', async () => {
    const { dev } = await pci();
    const one = new DriverData<string>();
    const other = new DriverData<number>();
    expect(() => one.get(dev)).toThrow(KernelBug);
    one.set(dev, 'a');
    expect([one.get(dev), one.peek(dev), other.peek(dev)]).toEqual(['a', 'a', undefined]);
    other.set(dev, 5);
    expect([one.peek(dev), other.get(dev)]).toEqual([undefined, 5]);
    one.clear(dev);
    expect(other.get(dev)).toBe(5);
    other.clear(dev);
    expect(() => other.get(dev)).toThrow(KernelBug);
  });
});

describe('a bus tells those who listen', () => {
  it('what happens to its devices', async () => {
    const { machine, bus, addDevice } = await pci();
    const heard: string[] = [];
    const subscription = bus.subscribe((event, dev) => heard.push(`${event} ${dev.name}`));
    // A listener may name the driver before one is looked for.
    using _override = bus.subscribe((event, dev) => {
      if (event === 'add-device') setDriverOverride(dev, 'vfio-fsl-mc');
    });
    const drv = new Driver({ name: 'vfio-fsl-mc', bus });
    await machine.devices.driverRegister(drv);
    const dev = await addDevice('dpni.1');
    expect(dev.driver).toBe(drv);
    await machine.devices.unregister(dev);
    subscription[Symbol.dispose]();
    await addDevice('dpni.2');
    expect(heard).toEqual(
      [
        'add-device',
        'bind-driver',
        'bound-driver',
        'del-device',
        'unbind-driver',
        'unbound-driver',
        'removed-device',
      ].map((event) => `${event} dpni.1`),
    );
  });
});

describe('faults', () => {
  it('at any step of a bus leave nothing behind', async () => {
    const steps = await everyStepFails(
      () => {},
      async (machine) => {
        const bus = new Bus({ name: 'b', groups: [{ attributes: [attribute('x')] }] });
        await machine.devices.busRegister(bus).catch((error: unknown) => {
          expect([machine.devices.findBus('b'), bus.record]).toEqual([undefined, undefined]);
          throw error;
        });
        await machine.devices.busUnregister(bus);
      },
    );
    expect(steps).toHaveLength(8);
  });

  it('at any step of a driver leave nothing behind', async () => {
    const steps = await everyStepFails(
      async (machine) => {
        const bus = new Bus({ name: 'b', driverGroups: () => [{ attributes: [attribute('new_id')] }] });
        await machine.devices.busRegister(bus);
        const dev = new Device({ name: 'd', bus });
        await machine.devices.register(dev);
        machine.modules.define({ name: 'm', init: () => {} });
        const module = await machine.modules.modprobe('m');
        // The directory of the module's drivers stays once it is there.
        module.addDriver('b:other', bus.record!.driversDir);
        return { bus, dev, module };
      },
      async (machine, { bus, dev, module }) => {
        const bound: string[] = [];
        const drv = new Driver({
          name: 'drv',
          bus,
          module,
          devGroups: [{ name: 'vendor', attributes: [attribute('y')] }],
          groups: [{ attributes: [attribute('own')] }],
          probe: () => void bound.push('probe'),
          remove: () => void bound.push('remove'),
        });
        try {
          await machine.devices.driverRegister(drv);
          await machine.devices.driverUnregister(drv);
        } finally {
          expect([dev.driver, bus.drivers, drv.record]).toEqual([undefined, [], undefined]);
          expect(bound).toEqual(bound.length === 0 ? [] : ['probe', 'remove']);
        }
      },
    );
    expect(steps).toEqual([
      'bus_add_driver:private',
      'sysfs_create_dir:drv',
      'sysfs_create_link:d',
      'sysfs_create_link:driver',
      'sysfs_create_dir:vendor',
      'sysfs_create_file:y',
      'sysfs_create_link:module',
      'sysfs_create_link:b:drv',
      'sysfs_create_file:uevent',
      'sysfs_create_file:new_id',
      'sysfs_create_file:unbind',
      'sysfs_create_file:bind',
      'sysfs_create_file:own',
    ]);
  });

  it('at any step of a bind reach the caller, and leave nothing behind', async () => {
    const steps = await everyStepFails(
      async (machine) => {
        const bus = new Bus({
          name: 'b',
          match: () => false,
          dmaConfigure: () => machine.host.faults.check('iommu_device_use_default_domain:group', 'EBUSY'),
        });
        await machine.devices.busRegister(bus);
        await machine.devices.driverRegister(
          new Driver({
            name: 'drv',
            bus,
            devGroups: [{ attributes: [attribute('a'), attribute('b')] }],
            probe: () => machine.host.faults.check('probe:memory'),
          }),
        );
        await machine.devices.register(new Device({ name: 'd', bus }));
        return bus;
      },
      async (machine, bus) => {
        const [dev, drv] = [bus.devices[0]!, bus.drivers[0]!];
        await machine.devices.attachDriver(dev, drv);
        await machine.devices.releaseDriver(dev);
      },
    );
    expect(steps).toEqual([
      'iommu_device_use_default_domain:group',
      'sysfs_create_link:d',
      'sysfs_create_link:driver',
      'probe:memory',
      'sysfs_create_file:a',
      'sysfs_create_file:b',
    ]);
  });
});
