import { describe, expect, it } from 'vitest';
import {
  Bus,
  Completion,
  Device,
  DeviceClass,
  type DeviceOptions,
  Driver,
  File,
  KernelBug,
  SystemError,
} from '../src/index.js';
import { attribute, errno, everyStepFails, TestMachine, tick } from './machine.js';

class NodeFile extends File {}

async function add(machine: TestMachine, options: DeviceOptions): Promise<Device> {
  const dev = new Device(options);
  await machine.devices.register(dev);
  return dev;
}

/** The mdev parent of mtty, and a device on the bus `mdev` below it. */
async function mtty() {
  const machine = new TestMachine();
  const bus = new Bus({ name: 'mdev', match: () => false });
  await machine.devices.busRegister(bus);
  const mttyClass = new DeviceClass(machine.host, 'mtty');
  const parent = await add(machine, { name: 'mtty', class: mttyClass });
  const mdev = await add(machine, { name: '83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', parent, bus });
  return { machine, bus, mttyClass, parent, mdev };
}

describe('the directory of a device', () => {
  it('of a class without parent is below /sys/devices/virtual/<class>', async () => {
    const { machine } = await mtty();
    expect(machine.readlink('/sys/class/mtty/mtty')).toBe('../../devices/virtual/mtty/mtty');
    expect(machine.ls('/sys/class/mtty')).toEqual(['mtty@']);
    expect(machine.readlink('/sys/class/mtty/mtty/subsystem')).toBe('../../../../class/mtty');
  });

  it('of a bus is in that of its parent, with links from and to the bus', async () => {
    const { machine, mdev } = await mtty();
    const uuid = mdev.name;
    expect(machine.readlink(`/sys/bus/mdev/devices/${uuid}`)).toBe(`../../../devices/virtual/mtty/mtty/${uuid}`);
    expect(machine.readlink(`/sys/bus/mdev/devices/${uuid}/subsystem`)).toBe('../../../../../bus/mdev');
    expect(machine.ls(`/sys/bus/mdev/devices/${uuid}`)).toEqual(['power/', 'subsystem@', 'uevent']);
    expect(machine.ls('/sys/class/mtty/mtty')).toEqual([`${uuid}/`, 'power/', 'subsystem@', 'uevent']);
  });

  it('of a class below a device of a bus is in one of the class, which goes with the last of them', async () => {
    const { machine, mdev } = await mtty();
    const vfioDev = new DeviceClass(machine.host, 'vfio-dev');
    const first = await add(machine, { name: 'vfio0', parent: mdev, class: vfioDev });
    const second = await add(machine, { name: 'vfio1', parent: mdev, class: vfioDev });
    const link = '/sys/class/vfio-dev/vfio0';
    expect(machine.readlink(link)).toBe(`../../devices/virtual/mtty/mtty/${mdev.name}/vfio-dev/vfio0`);
    expect(machine.ls(link)).toEqual(['device@', 'power/', 'subsystem@', 'uevent']);
    expect(machine.readlink(`${link}/device`)).toBe(`../../../${mdev.name}`);
    expect(machine.readlink(`${link}/subsystem`)).toBe('../../../../../../../class/vfio-dev');
    expect(await machine.cat(`${link}/uevent`)).toBe('');
    expect(machine.ls(`/sys/bus/mdev/devices/${mdev.name}/vfio-dev`)).toEqual(['vfio0/', 'vfio1/']);
    await machine.devices.unregister(first);
    expect(machine.ls(mdev.sysfs.path())).toContain('vfio-dev/');
    await machine.devices.unregister(second);
    expect(machine.ls(mdev.sysfs.path())).not.toContain('vfio-dev/');
    expect(machine.ls('/sys/class/vfio-dev')).toEqual([]);
    await add(machine, { name: 'vfio0', parent: mdev, class: vfioDev });
    expect(machine.ls(`${mdev.sysfs.path()}/vfio-dev`)).toEqual(['vfio0/']);
  });

  it('of a class below a device of a class is directly in it', async () => {
    const { machine, parent } = await mtty();
    const other = new DeviceClass(machine.host, 'other');
    const dev = await add(machine, { name: 'child', parent, class: other });
    expect(dev.sysfs.path()).toBe('/sys/devices/virtual/mtty/mtty/child');
  });

  it('of neither bus nor class is below its parent or /sys/devices', async () => {
    const machine = new TestMachine();
    const parent = await add(machine, { name: 'pci0000:00' });
    const child = await add(machine, { name: 'a/b', parent });
    expect([parent.sysfs.path(), child.sysfs.path()]).toEqual([
      '/sys/devices/pci0000:00',
      '/sys/devices/pci0000:00/a!b',
    ]);
  });

  it('has the groups of the device, of its class and of its bus', async () => {
    const machine = new TestMachine();
    const bus = new Bus({ name: 'b', devGroups: [{ attributes: [attribute('of-bus')] }] });
    await machine.devices.busRegister(bus);
    const c = new DeviceClass(machine.host, 'c', { devGroups: [{ name: 'of-class', attributes: [attribute('x')] }] });
    const groups = [{ attributes: [attribute('own')] }];
    const onBus = await add(machine, { name: 'd', bus, groups });
    const inClass = await add(machine, { name: 'd', class: c, groups });
    expect(machine.ls(onBus.sysfs.path())).toEqual(['of-bus', 'own', 'power/', 'subsystem@', 'uevent']);
    expect(machine.ls(inClass.sysfs.path())).toEqual(['of-class/', 'own', 'power/', 'subsystem@', 'uevent']);
    await machine.devices.unregister(onBus);
    await machine.devices.unregister(inClass);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('has power/ where there is power management', async () => {
    const machine = new TestMachine();
    const dev = await add(machine, { name: 'd' });
    expect(machine.ls('/sys/devices/d/power')).toEqual([
      'autosuspend_delay_ms',
      'control',
      'runtime_active_time',
      'runtime_status',
      'runtime_suspended_time',
    ]);
    const power = `${dev.sysfs.path()}/power`;
    expect(await machine.cat(`${power}/runtime_status`)).toBe('unsupported\n');
    expect(await machine.echo(`${power}/control`, 'on\n')).toBe(3);
    expect(await machine.cat(`${power}/control`)).toBe('on\n');
    expect(await machine.echo(`${power}/control`, 'auto')).toBe(4);
    expect(await machine.cat(`${power}/control`)).toBe('auto\n');
    await expect(machine.echo(`${power}/control`, 'off')).rejects.toThrow(errno('EINVAL'));
    await expect(machine.cat(`${power}/autosuspend_delay_ms`)).rejects.toThrow(errno('EIO'));
    const without = await add(machine, { name: 'css0', noPower: true });
    expect(machine.ls(without.sysfs.path())).toEqual(['uevent']);
    const s390 = new TestMachine({ powerManagement: false });
    await add(s390, { name: 'd' });
    expect(s390.ls('/sys/devices/d')).toEqual(['uevent']);
  });
});

describe('the node of a device', () => {
  async function machineWithNode(mode?: number) {
    const machine = new TestMachine();
    const vfio = new DeviceClass(machine.host, 'vfio', {
      devnode: (dev) => ({ name: `vfio/${dev.name}`, ...(mode === undefined ? {} : { mode }) }),
    });
    const dev = await add(machine, {
      name: '2',
      class: vfio,
      devt: { major: 244, minor: 0 },
      open: (_, flags) => new NodeFile({ flags, label: '/dev/vfio/2', seek: 'none' }),
    });
    return { machine, dev };
  }

  it('is made with it, and linked by its numbers', async () => {
    const { machine, dev } = await machineWithNode();
    expect(machine.ls('/sys/class/vfio/2/')).toEqual(['dev', 'power/', 'subsystem@', 'uevent']);
    expect(await machine.cat('/sys/class/vfio/2/dev')).toBe('244:0\n');
    expect(await machine.cat('/sys/class/vfio/2/uevent')).toBe('MAJOR=244\nMINOR=0\nDEVNAME=vfio/2\n');
    expect(machine.readlink('/sys/dev/char/244:0')).toBe('../../devices/virtual/vfio/2');
    expect(machine.process.stat('/dev/vfio/2')).toMatchObject({
      kind: 'char',
      mode: 0o600,
      rdev: { major: 244, minor: 0 },
    });
    await machine.process.close(await machine.process.open('/dev/vfio/2', 2));
    await machine.devices.unregister(dev);
    expect(machine.ls('/sys/dev/char')).toEqual([]);
    expect(() => machine.process.stat('/dev/vfio/2')).toThrow(errno('ENOENT'));
    expect(machine.ls('/sys/devices/virtual')).toEqual([]);
  });

  it('has the mode that the class wants, and says so', async () => {
    const { machine } = await machineWithNode(0o666);
    expect(machine.process.stat('/dev/vfio/2').mode).toBe(0o666);
    expect(await machine.cat('/sys/class/vfio/2/uevent')).toBe('MAJOR=244\nMINOR=0\nDEVNAME=vfio/2\nDEVMODE=0666\n');
  });

  it('has the name of the device when nobody says otherwise, and nobody behind it', async () => {
    const machine = new TestMachine();
    const dev = await add(machine, {
      name: 'cpu/0',
      class: new DeviceClass(machine.host, 'c'),
      devt: { major: 9, minor: 1 },
    });
    expect(await machine.cat(`${dev.sysfs.path()}/uevent`)).toBe('MAJOR=9\nMINOR=1\nDEVNAME=cpu/0\n');
    await expect(machine.process.open('/dev/cpu/0', 0)).rejects.toThrow(errno('ENXIO'));
  });

  it('can be named by the device itself', async () => {
    const machine = new TestMachine();
    await add(machine, { name: 'd', devt: { major: 9, minor: 1 }, devnode: () => ({ name: 'own', mode: 0o444 }) });
    expect(machine.process.stat('/dev/own').mode).toBe(0o444);
  });
});

describe('add and del', () => {
  it('announce the device when it is complete, and when it is gone', async () => {
    const { machine, mdev } = await mtty();
    const devpath = mdev.sysfs.devpath();
    const complete: unknown[] = [];
    using _watch = machine.uevents.subscribe(({ action }) => complete.push(action, mdev.registered));
    await machine.devices.unregister(mdev);
    expect(complete).toEqual(['remove', true]);
    const own = machine.events().filter((event) => event.devpath === devpath);
    expect(own.map(({ env: { SEQNUM: _, ...env } }) => env)).toEqual([
      { ACTION: 'add', DEVPATH: devpath, SUBSYSTEM: 'mdev' },
      { ACTION: 'remove', DEVPATH: devpath, SUBSYSTEM: 'mdev' },
    ]);
  });

  it('tell the uevent what the device, its driver, the firmware and the bus say, in this order', async () => {
    const machine = new TestMachine();
    const bus = new Bus({ name: 'amba', uevent: (_, env) => env.addUeventVar('AMBA_ID', '00141031') });
    await machine.devices.busRegister(bus);
    await machine.devices.driverRegister(new Driver({ name: 'rtc-pl031', bus }));
    const dev = await add(machine, {
      name: '9010000.pl031',
      bus,
      devt: { major: 9, minor: 0 },
      uevent: (_, env) => env.addUeventVar('OF_NAME', 'pl031'),
    });
    expect(await machine.cat(`${dev.sysfs.path()}/uevent`)).toBe(
      'MAJOR=9\nMINOR=0\nDEVNAME=9010000.pl031\nDRIVER=rtc-pl031\nOF_NAME=pl031\nAMBA_ID=00141031\n',
    );
    machine.devices.uevent(dev, 'change', { MDEV_STATE: 'registered' });
    expect(Object.keys(machine.events().at(-1)!.env)).toEqual([
      'ACTION',
      'DEVPATH',
      'SUBSYSTEM',
      'MDEV_STATE',
      'MAJOR',
      'MINOR',
      'DEVNAME',
      'DRIVER',
      'OF_NAME',
      'AMBA_ID',
      'SEQNUM',
    ]);
  });

  it('go on when user space cannot be told', async () => {
    const machine = new TestMachine();
    let full = true;
    const bus = new Bus({
      name: 'b',
      uevent: () => {
        if (full) throw new SystemError('ENOMEM', 'no room');
      },
    });
    await machine.devices.busRegister(bus);
    await machine.devices.driverRegister(new Driver({ name: 'drv', bus }));
    const { seqnum } = machine.uevents;
    const dev = await add(machine, { name: 'd', bus });
    expect([dev.driver?.name, machine.uevents.seqnum]).toEqual(['drv', seqnum]);
    expect(() => machine.devices.uevent(dev, 'change')).toThrow(errno('ENOMEM'));
    await expect(machine.echo('/sys/devices/d/uevent', 'change')).rejects.toThrow(errno('ENOMEM'));
    expect(await machine.cat('/sys/devices/d/uevent')).toBe('');
    full = false;
    expect(await machine.cat('/sys/devices/d/uevent')).toBe('DRIVER=drv\n');
    await machine.devices.unregister(dev);
    expect(machine.events().at(-1)?.action).toBe('remove');
  });

  it('refuse a name that is taken or missing, a bus that is not there and a parent that is not added', async () => {
    const { machine, bus, mttyClass, parent, mdev } = await mtty();
    const before = machine.state();
    const refused: [DeviceOptions, string][] = [
      [{ name: mdev.name, parent, bus }, 'EEXIST'],
      [{ name: 'mtty', class: mttyClass }, 'EEXIST'],
      [{ parent, bus }, 'EINVAL'],
      [{ name: 'd', bus: new Bus({ name: 'other' }) }, 'EINVAL'],
    ];
    for (const [options, code] of refused) {
      const dev = new Device(options);
      machine.devices.init(dev);
      await expect(machine.devices.add(dev)).rejects.toThrow(errno(code));
      dev.put();
    }
    const early = new Device({ name: 'early' });
    machine.devices.init(early);
    const child = new Device({ name: 'child', parent: early });
    machine.devices.init(child);
    await expect(machine.devices.add(child)).rejects.toThrow(errno('ENOENT'));
    child.put();
    early.put();
    expect(machine.state()).toEqual(before);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('find a device that is begun or added twice, or not begun', async () => {
    const { machine, mdev } = await mtty();
    expect(() => machine.devices.init(mdev)).toThrow(KernelBug);
    await expect(machine.devices.add(mdev)).rejects.toThrow(KernelBug);
    const raw = new Device({ name: 'raw' });
    expect(() => raw.get()).toThrow(KernelBug);
    await expect(machine.devices.add(raw)).rejects.toThrow(KernelBug);
    machine.devices.init(raw);
    expect(() => raw.sysfs).toThrow(KernelBug);
  });

  it('keep children, members of classes and devices of buses in order', async () => {
    const { machine, bus, mttyClass, parent, mdev } = await mtty();
    const second = await add(machine, { name: 'second', parent, bus });
    expect([parent.children(), bus.devices, mttyClass.devices]).toEqual([[mdev, second], [mdev, second], [parent]]);
    await machine.devices.unregister(mdev);
    expect([parent.children(), bus.devices]).toEqual([[second], [second]]);
    expect([bus.findDevice('second\n'), bus.findDevice('first')]).toEqual([second, undefined]);
  });

  it('take the files away before the driver, and the directory after it', async () => {
    const machine = new TestMachine();
    const go = new Completion(machine.host, 'go');
    const bus = new Bus({ name: 'b', driverOverride: true });
    await machine.devices.busRegister(bus);
    await machine.devices.driverRegister(new Driver({ name: 'drv', bus, remove: () => go.wait() }));
    const dev = await add(machine, { name: 'd', bus, groups: [{ attributes: [attribute('own')] }] });
    let gone = false;
    const removal = machine.devices.unregister(dev).then(() => {
      gone = true;
    });
    await tick();
    expect([gone, machine.ls('/sys/devices/d'), machine.ls('/sys/bus/b/devices')]).toEqual([false, [], []]);
    // Nobody gets a driver on a device that goes.
    await expect(machine.echo('/sys/bus/b/drivers_probe', 'd')).rejects.toThrow(errno('ENODEV'));
    go.completeAll();
    await removal;
    expect(() => machine.ls('/sys/devices/d')).toThrow(errno('ENOENT'));
  });

  it('wait for those who are busy in a file of the device', async () => {
    const machine = new TestMachine();
    const go = new Completion(machine.host, 'go');
    const slow = { name: 'slow', mode: 0o200, store: () => go.wait() };
    const dev = await add(machine, { name: 'd', groups: [{ attributes: [slow] }] });
    const storing = machine.echo('/sys/devices/d/slow', '1');
    await tick();
    let gone = false;
    const removal = machine.devices.unregister(dev).then(() => {
      gone = true;
    });
    await tick();
    expect(gone).toBe(false);
    go.completeAll();
    expect(await storing).toBe(1);
    await removal;
    expect(machine.ls('/sys/devices')).toEqual(['virtual/']);
  });

  it('may be called from a file that removes itself', async () => {
    const machine = new TestMachine();
    const dev: Device = await add(machine, {
      name: 'd',
      groups: [
        {
          attributes: [
            {
              name: 'remove',
              mode: 0o200,
              store: async () => {
                const file = dev.sysfs.lookup('remove');
                if (file?.kind === 'file' && (await dev.sysfs.removeSelf(file))) await machine.devices.unregister(dev);
              },
            },
          ],
        },
      ],
    });
    expect(await machine.echo('/sys/devices/d/remove', '1')).toBe(1);
    expect(machine.ls('/sys/devices')).toEqual(['virtual/']);
    expect(machine.host.tracker.leaks()).toEqual([]);
  });
});

describe('the life of a device', () => {
  it('ends with the last reference, which the parent outlives', async () => {
    const machine = new TestMachine();
    const released: string[] = [];
    const release = (dev: Device) => released.push(dev.name);
    const parent = await add(machine, { name: 'parent', release });
    const child = await add(machine, { name: 'child', parent, release });
    expect([parent.refCount, child.refCount]).toEqual([2, 1]);
    child.get();
    await machine.devices.unregister(child);
    expect([parent.refCount, child.refCount, released]).toEqual([1, 1, []]);
    expect(machine.host.tracker.leaks().map(({ what }) => what)).toEqual([
      'device parent of nobody',
      'device child of nobody',
    ]);
    child.put();
    await machine.devices.unregister(parent);
    expect(released).toEqual(['child', 'parent']);
    expect(machine.host.tracker.leaks()).toEqual([]);
    expect(() => child.get()).toThrow(expect.objectContaining({ kind: 'refcount' }));
  });

  it('is one of the driver, the bus or the class, for messages', async () => {
    const { machine, bus, parent, mdev } = await mtty();
    expect([parent.driverString(), mdev.driverString(), new Device().driverString()]).toEqual(['mtty', 'mdev', '']);
    const drv = new Driver({ name: 'vfio-mtty', bus });
    await machine.devices.driverRegister(drv);
    await machine.devices.attachDriver(mdev, drv);
    expect([mdev.driverString(), mdev.logName()]).toEqual(['vfio-mtty', `vfio-mtty ${mdev.name}`]);
    expect([mdev.dmaCoherent, new Device({ dmaCoherent: false }).dmaCoherent]).toEqual([true, false]);
  });
});

describe('rootDeviceRegister', () => {
  it('makes a directory with a link to its module', async () => {
    const machine = new TestMachine();
    machine.modules.define({ name: 'vfio_ap', init: () => {} });
    const module = await machine.modules.modprobe('vfio_ap');
    const root = await machine.devices.rootDeviceRegister('vfio_ap', module);
    expect(machine.ls('/sys/devices/vfio_ap')).toEqual(['module@', 'uevent']);
    expect(machine.readlink('/sys/devices/vfio_ap/module')).toBe('../../module/vfio_ap');
    await machine.devices.unregister(root);
    await expect(machine.devices.rootDeviceRegister('virtual')).rejects.toThrow(errno('EEXIST'));
    expect(machine.ls('/sys/devices')).toEqual(['virtual/']);
  });
});

describe('DeviceClass', () => {
  it('is there from construction to destroy, with its own files', async () => {
    const machine = new TestMachine();
    const c = new DeviceClass(machine.host, 'c', { groups: [{ attributes: [attribute('version')] }] });
    expect(machine.ls('/sys/class/c')).toEqual(['version']);
    expect(() => new DeviceClass(machine.host, 'c')).toThrow(errno('EEXIST'));
    await c.destroy();
    expect(machine.ls('/sys/class')).not.toContain('c/');
    expect(machine.events().map(({ action, devpath, subsystem }) => [action, devpath, subsystem])).toEqual([
      ['add', '/class/c', 'class'],
      ['remove', '/class/c', 'class'],
    ]);
  });

  it('is not there when a file of it cannot be made', () => {
    const machine = new TestMachine();
    machine.host.faults.failOn('sysfs_create_file:version');
    const groups = [{ attributes: [attribute('version')] }];
    expect(() => new DeviceClass(machine.host, 'c', { groups })).toThrow(errno('ENOMEM'));
    expect(machine.ls('/sys/class')).not.toContain('c/');
  });
});

describe('faults', () => {
  it('at any step of an add leave nothing behind', async () => {
    const steps = await everyStepFails(
      async (machine) => {
        const bus = new Bus({
          name: 'b',
          driverOverride: true,
          devGroups: [{ name: 'of-bus', attributes: [attribute('x')] }],
        });
        await machine.devices.busRegister(bus);
        const c = new DeviceClass(machine.host, 'c', { devnode: (dev) => ({ name: `c/${dev.name}` }) });
        const parent = await add(machine, { name: 'parent', bus });
        return { bus, c, parent };
      },
      async (machine, { c, parent }) => {
        const dev = new Device({
          name: 'vfio0',
          parent,
          class: c,
          devt: { major: 9, minor: 1 },
          groups: [{ attributes: [attribute('one')] }, { name: 'two', attributes: [attribute('three')] }],
        });
        machine.devices.init(dev);
        try {
          await machine.devices.add(dev);
          await machine.devices.del(dev);
        } finally {
          dev.put();
        }
        expect([parent.refCount, parent.children()]).toEqual([2, []]);
      },
    );
    expect(steps.filter((step) => !step.startsWith('devtmpfs'))).toEqual([
      'device_add:private',
      'sysfs_create_dir:c',
      'sysfs_create_dir:vfio0',
      'sysfs_create_file:uevent',
      'sysfs_create_link:subsystem',
      'sysfs_create_link:device',
      'sysfs_create_link:vfio0',
      'sysfs_create_file:one',
      'sysfs_create_dir:two',
      'sysfs_create_file:three',
      'sysfs_create_dir:power',
      'sysfs_create_file:autosuspend_delay_ms',
      'sysfs_create_file:control',
      'sysfs_create_file:runtime_active_time',
      'sysfs_create_file:runtime_status',
      'sysfs_create_file:runtime_suspended_time',
      'sysfs_create_file:dev',
      'sysfs_create_link:9:1',
    ]);
    expect(steps.some((step) => step.startsWith('devtmpfs'))).toBe(true);
  });

  it('at any step of an add on a bus leave nothing behind', async () => {
    const steps = await everyStepFails(
      async (machine) => {
        const bus = new Bus({
          name: 'b',
          driverOverride: true,
          devGroups: [{ name: 'of-bus', attributes: [attribute('x')] }],
        });
        await machine.devices.busRegister(bus);
        return bus;
      },
      async (machine, bus) => {
        const dev = new Device({ name: 'd', bus });
        machine.devices.init(dev);
        try {
          await machine.devices.add(dev);
          await machine.devices.del(dev);
        } finally {
          expect(bus.devices).toEqual([]);
          dev.put();
        }
      },
    );
    expect(steps).toContain('sysfs_create_file:driver_override');
    expect(steps).toContain('sysfs_create_dir:of-bus');
  });

  it('tell user space of a device that was never announced that it goes', async () => {
    const machine = new TestMachine();
    const c = new DeviceClass(machine.host, 'c');
    machine.host.faults.failOn('sysfs_create_dir:power');
    const dev = new Device({ name: 'd', class: c });
    await expect(machine.devices.register(dev)).rejects.toThrow(errno('ENOMEM'));
    dev.put();
    expect(machine.events().map(({ action, devpath }) => [action, devpath])).toEqual([
      ['add', '/class/c'],
      ['remove', '/devices/virtual/c/d'],
    ]);
  });

  it('in a root device leave nothing behind', async () => {
    await everyStepFails(
      async (machine) => {
        machine.modules.define({ name: 'm', init: () => {} });
        return await machine.modules.modprobe('m');
      },
      async (machine, module) => {
        const root = await machine.devices.rootDeviceRegister('r', module);
        await machine.devices.unregister(root);
      },
    );
  });
});

it('a bug in an open is not hidden', async () => {
  const machine = new TestMachine();
  await add(machine, {
    name: 'd',
    devt: { major: 9, minor: 0 },
    open: () => {
      throw new SystemError('EBUSY', 'taken');
    },
  });
  await expect(machine.process.open('/dev/d', 0)).rejects.toThrow(errno('EBUSY'));
});
