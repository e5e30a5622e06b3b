import { Bus, Device, Driver, DriverData, Host, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  putDevice,
  putRegistration,
  Request,
  registerEmulatedIommuDev,
  registerGroupDev,
  tryGetRegistration,
  unregisterGroupDev,
  Vfio,
  VfioDevice,
} from '../src/index.js';
import {
  bench,
  benchForEach,
  closePath,
  code,
  iommu,
  openPath,
  pending,
  register,
  type TestBench,
  TestDevice,
} from './harness.js';

/** Does something and undoes it; the numbers of the steps that could have failed on the way. */
async function steps(run: () => Promise<void>, back: () => Promise<void>): Promise<number[]> {
  // the first time also makes the device set, which stays
  await run();
  await back();
  const recording = on.host.faults.record();
  await run();
  recording.stop();
  await back();
  return [...recording.steps.keys()];
}

/** Whether it failed; there are steps without which it goes on, and then it is undone. */
async function fails(run: Promise<void>, back: () => Promise<void>): Promise<boolean> {
  try {
    await run;
  } catch {
    return true;
  }
  await back();
  return false;
}

let on: TestBench;
benchForEach((made) => {
  on = made;
});

describe('registerGroupDev', () => {
  it('CORE-018 makes a set of its own for a device without one', async () => {
    await using one = await register(on, 'dev0');
    expect(one.device.deviceSet?.setId).toBe(one.device);
    expect(one.device.deviceSet?.devices).toEqual([one.device]);
  });

  it('CORE-019 and CORE-027 names it vfio<index> and shows it below its parent', async () => {
    const one = await register(on, 'dev0');
    const { init } = on.host;
    expect(await init.readlink('/sys/class/vfio-dev/vfio0')).toMatch(/dev0\/vfio-dev\/vfio0$/);
    const directory = `${one.parent.sysfs.path()}/vfio-dev/vfio0`;
    expect((await init.readdir(directory)).map(({ name }) => name).sort()).toEqual([
      'device',
      'power',
      'subsystem',
      'uevent',
    ]);
    await one[Symbol.asyncDispose]();
    expect(await init.readdir('/sys/class/vfio-dev')).toEqual([]);
  });

  it('CORE-020 refuses a parent without IOMMU group: EINVAL', async () => {
    const parent = await on.addParent('dev0', null);
    const device = await allocDevice(on.vfio, TestDevice, parent, {});
    await expect(registerGroupDev(device)).rejects.toEqual(code('EINVAL'));
    expect(device.state).toBe('allocated');
    await putDevice(device);
  });

  it('CORE-021 makes the group node once for two devices of a group', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1', { group: one.parent.iommuGroup! });
    expect(two.device.group).toBe(one.device.group);
    expect(one.device.group?.drivers).toBe(2);
    expect((await on.host.init.readdir('/dev/vfio')).map(({ name }) => name).sort()).toEqual([
      `${one.parent.iommuGroup?.id}`,
      'vfio',
    ]);
  });

  it('CORE-030 a group that is opened as soon as its node is there keeps its minor until it is closed', async () => {
    let opened: Promise<number> | undefined;
    using _udev = on.host.uevents.subscribe(({ action, subsystem, env }) => {
      if (action === 'add' && subsystem === 'vfio') opened ??= on.process.open(`/dev/${env.DEVNAME}`, O.RDWR);
    });
    let minor: number | undefined;
    {
      await using one = await register(on, 'dev0');
      minor = one.device.group?.minor;
    }
    const fd = await opened;
    expect(fd).toBeTypeOf('number');
    {
      await using two = await register(on, 'dev1');
      expect(two.device.group?.minor).not.toBe(minor);
    }
    await on.process.close(fd!);
    await using three = await register(on, 'dev2');
    expect(three.device.group?.minor).toBe(minor);
  });

  it('CORE-022 (H22) refuses the same parent twice: WARN, EINVAL, the first stays', async () => {
    await using one = await register(on, 'dev0');
    const twin = await allocDevice(on.vfio, TestDevice, one.parent, {});
    await expect(registerGroupDev(twin)).rejects.toEqual(code('EINVAL'));
    expect(on.host.log.warnings()).toHaveLength(1);
    expect(one.device.group?.drivers).toBe(1);
    await putDevice(twin);
    await closePath(on, await openPath(on, one.device));
  });

  it('CORE-023 refuses a parent that is not coherent, and takes a new group back', async () => {
    await using other = await bench({ host: { iommu: { ...iommu, coherent: false } } });
    const parent = await other.addParent('dev0');
    const device = await allocDevice(other.vfio, TestDevice, parent, {});
    await expect(registerGroupDev(device)).rejects.toEqual(code('EINVAL'));
    expect(other.vfio.groups).toEqual([]);
    expect((await other.host.init.readdir('/dev/vfio')).map(({ name }) => name)).toEqual(['vfio']);
    await putDevice(device);
  });

  it('CORE-017 wants the iommufd operations when iommufd is built in: WARN, EINVAL', async () => {
    await using other = await bench({ iommufd: true });
    const parent = await other.addParent('dev0');
    const device = await allocDevice(other.vfio, TestDevice, parent, {});
    await expect(registerGroupDev(device)).rejects.toEqual(code('EINVAL'));
    expect(other.host.log.warnings()).toHaveLength(1);
    await putDevice(device);
    // without iommufd they may be missing
    await using _fine = await register(on, 'dev0');
  });

  it('CORE-026 undoes the group when the device cannot be added; the object lives until put', async () => {
    const parent = await on.addParent('dev0');
    const device = await allocDevice(on.vfio, TestDevice, parent, {});
    for (const index of await steps(
      () => registerGroupDev(device),
      () => unregisterGroupDev(device),
    )) {
      const arm = on.host.faults.failAt(index);
      const failed = await fails(registerGroupDev(device), () => unregisterGroupDev(device));
      expect([arm.fired, on.vfio.groups.length, on.vfio.groupMinors.used]).toEqual([true, 0, 0]);
      if (failed) expect(device.state).not.toBe('registered');
      expect((await on.host.init.readdir('/dev/vfio')).map(({ name }) => name)).toEqual(['vfio']);
      expect(await on.host.init.readdir('/sys/class/vfio-dev')).toEqual([]);
    }
    await registerGroupDev(device);
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('CORE-030 is found through its group when it is registered, and not when its directory appears', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const journal: string[] = [];
    class Named extends TestDevice {
      override match(name: string): boolean {
        journal.push(`match ${name} ${this.state}`);
        return name === 'dev1';
      }
    }
    const device = await allocDevice(on.vfio, Named, await on.addParent('dev1', one.parent.iommuGroup), { journal });
    const attempts: Promise<unknown>[] = [];
    using _udev = on.host.uevents.subscribe(({ action, subsystem }) => {
      if (action !== 'add' || subsystem !== 'vfio-dev') return;
      attempts.push(expect(on.getDeviceFd(path.group, 'dev1')).rejects.toEqual(code('ENODEV')));
    });
    await registerGroupDev(device);
    expect(attempts).toHaveLength(1);
    await Promise.all(attempts);
    expect(journal).toEqual(['init']);
    await on.process.close(await on.getDeviceFd(path.group, 'dev1'));
    expect(journal.slice(0, 3)).toEqual(['init', 'match dev1 registered', 'openDevice']);
    await unregisterGroupDev(device);
    await putDevice(device);
    await closePath(on, path);
  });

  it('CORE-030 calls no operation of the device before it is in its group, nor after unregister', async () => {
    const one = await register(on, 'dev0');
    expect(one.device.journal).toEqual(['init']);
    await closePath(on, await openPath(on, one.device));
    await unregisterGroupDev(one.device);
    expect(one.device.journal).toEqual(['init', 'openDevice', 'closeDevice']);
    await putDevice(one.device);
  });
});

describe('registerEmulatedIommuDev', () => {
  it('CORE-024 makes a fresh IOMMU group named vfio-noiommu with a plain node', async () => {
    await using other = await bench({ host: { iommu: { ...iommu, coherent: false } } });
    await using one = await register(other, 'dev0', { kind: 'emulated' });
    await using two = await register(other, 'dev1', { kind: 'emulated' });
    expect(one.parent.iommuGroup).not.toBe(two.parent.iommuGroup);
    for (const { parent, device } of [one, two]) {
      expect(parent.iommuGroup?.name).toBe('vfio-noiommu');
      expect(device.group?.name).toBe(`${parent.iommuGroup?.id}`);
    }
  });

  it('takes the made group back when registration fails, at every step', async () => {
    const parent = await on.addParent('dev0', null);
    const device = await allocDevice(on.vfio, TestDevice, parent, {});
    const groups = on.host.iommu.groups.size;
    const indices = await steps(
      () => registerEmulatedIommuDev(device),
      () => unregisterGroupDev(device),
    );
    for (const index of indices) {
      on.host.faults.failAt(index);
      await fails(registerEmulatedIommuDev(device), () => unregisterGroupDev(device));
      expect([on.host.iommu.groups.size, parent.iommuGroup]).toEqual([groups, undefined]);
    }
    await putDevice(device);
  });
});

describe('uevents', () => {
  it('CORE-028 announces the device in class vfio-dev, and its end', async () => {
    const before = on.host.uevents.emitted.length;
    const one = await register(on, 'dev0');
    await one[Symbol.asyncDispose]();
    const mine = on.host.uevents.emitted.slice(before).filter(({ subsystem }) => subsystem === 'vfio-dev');
    expect(mine.map(({ action }) => action)).toEqual(['add', 'remove']);
    expect(mine[0]?.devpath).toMatch(/\/dev0\/vfio-dev\/vfio0$/);
  });
});

describe('unregisterGroupDev', () => {
  it('CORE-076 resolves without request when nobody uses the device', async () => {
    const requests: number[] = [];
    class Asks extends TestDevice {
      override request(count: number): void {
        requests.push(count);
      }
    }
    const parent = await on.addParent('dev0');
    const device = await allocDevice(on.vfio, Asks, parent, {});
    await registerGroupDev(device);
    await unregisterGroupDev(device);
    expect(requests).toEqual([]);
    await putDevice(device);
  });

  it('CORE-077 asks with 0 at once and then every ten seconds', async () => {
    const requests: [number, number][] = [];
    class Asks extends TestDevice {
      override request(count: number): void {
        requests.push([count, on.clock.now()]);
      }
    }
    const device = await allocDevice(on.vfio, Asks, await on.addParent('dev0'), {});
    await registerGroupDev(device);
    const path = await openPath(on, device);
    const start = on.clock.now();
    const gone = unregisterGroupDev(device);
    expect(await pending(gone)).toBe(true);
    await on.clock.advance(25_000);
    expect(requests).toEqual([
      [0, start],
      [1, start + 10_000],
      [2, start + 20_000],
    ]);
    await closePath(on, path);
    await gone;
    await putDevice(device);
  });

  it('CORE-078 waits silently for a device without request', async () => {
    const one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const entries = on.host.log.entries.length;
    const gone = unregisterGroupDev(one.device);
    await on.clock.advance(60_000);
    expect(await pending(gone)).toBe(true);
    expect(on.host.log.entries.length).toBe(entries);
    await closePath(on, path);
    await gone;
    await putDevice(one.device);
  });

  it('CORE-079 (H34) takes a signal for one warning and goes on waiting', async () => {
    const one = await register(on, 'dev0');
    const asked: number[] = [];
    one.device.request = (count) => asked.push(count);
    const path = await openPath(on, one.device);
    const signal = new AbortController();
    const gone = unregisterGroupDev(one.device, { signal: signal.signal, task: on.process });
    signal.abort();
    expect(await pending(gone)).toBe(true);
    await on.clock.advance(60_000);
    // once more because of the signal, then every ten seconds as before
    expect(asked).toEqual([0, 1, 2, 3, 4, 5, 6, 7]);
    const warnings = on.host.log.entries.filter(({ text }) => text.includes('in use'));
    expect(warnings).toEqual([expect.objectContaining({ level: 'warn', dev: one.parent.name })]);
    expect(warnings[0]?.text).toContain(`task "test" (${on.process.pid})`);
    await closePath(on, path);
    await gone;
    await putDevice(one.device);
  });

  it('CORE-080 and CORE-081 (H35): GET_DEVICE_FD is ENODEV during the wait, which ends after close_device', async () => {
    const one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const gone = unregisterGroupDev(one.device);
    expect(await pending(gone)).toBe(true);
    expect(await on.host.init.readdir('/sys/class/vfio-dev')).toEqual([]);
    await expect(on.getDeviceFd(path.group, 'dev0')).rejects.toEqual(code('ENODEV'));
    expect(tryGetRegistration(one.device)).toBe(true);
    putRegistration(one.device);
    await on.process.close(path.device);
    await gone;
    expect(one.device.journal).toEqual(['init', 'openDevice', 'closeDevice']);
    await on.process.close(path.group);
    await on.process.close(path.container);
    await putDevice(one.device);
  });

  it('CORE-089 (H11) remove of the driver returns when nobody holds the device, and has its data until then', async () => {
    const data = new DriverData<TestDevice>();
    let removed = false;
    const bus = new Bus({ name: 'lab', match: () => true });
    await on.host.devices.busRegister(bus);
    const driver = new Driver({
      name: 'lab-driver',
      bus,
      managesDma: true,
      async probe(dev) {
        const device = await allocDevice(on.vfio, TestDevice, dev, {});
        await registerEmulatedIommuDev(device);
        data.set(dev, device);
      },
      async remove(dev) {
        const device = data.get(dev);
        await unregisterGroupDev(device);
        expect(data.get(dev)).toBe(device);
        await putDevice(device);
        removed = true;
      },
    });
    await on.host.devices.driverRegister(driver);
    const dev = new Device({ name: 'lab0', bus });
    on.host.devices.init(dev);
    await on.host.devices.add(dev);
    const device = data.get(dev);
    const path = await openPath(on, device);
    const unbound = on.process.writeFile('/sys/bus/lab/drivers/lab-driver/unbind', 'lab0');
    await on.clock.advance(60_000);
    expect([await pending(unbound), removed, data.get(dev)]).toEqual([true, false, device]);
    await closePath(on, path);
    await unbound;
    expect([removed, data.peek(dev)]).toEqual([true, undefined]);
    await on.host.devices.unregister(dev);
    await on.host.devices.driverUnregister(driver);
    await on.host.devices.busUnregister(bus);
  });

  it('CORE-082 and CORE-083: a reference blocks it; afterwards there is none to be had', async () => {
    const one = await register(on, 'dev0');
    expect(tryGetRegistration(one.device)).toBe(true);
    const gone = unregisterGroupDev(one.device);
    expect(await pending(gone)).toBe(true);
    putRegistration(one.device);
    await gone;
    expect([tryGetRegistration(one.device), tryGetRegistration(one.device)]).toEqual([false, false]);
    await putDevice(one.device);
  });

  it('CORE-085 and CORE-086 (H25): the last device takes the node; an open group file finds nothing behind it', async () => {
    const one = await register(on, 'dev0');
    const container = await on.openContainer();
    const group = await on.openGroup(one.device);
    await on.setContainer(group, container);
    const name = one.device.group?.name;
    await unregisterGroupDev(one.device);
    await expect(on.process.open(`/dev/vfio/${name}`, O.RDWR)).rejects.toEqual(code('ENOENT'));
    await expect(on.status(group)).rejects.toEqual(code('ENODEV'));
    await expect(on.setContainer(group, container)).rejects.toEqual(code('ENODEV'));
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('ENODEV'));
    // the container is as new
    await expect(on.process.ioctl(container, Request.SET_IOMMU, 3)).rejects.toEqual(code('EINVAL'));
    await on.process.close(group);
    await on.process.close(container);
    await putDevice(one.device);
  });

  it('CORE-087 leaves the group to the other members', async () => {
    const one = await register(on, 'dev0');
    await using two = await register(on, 'dev1', { group: one.parent.iommuGroup! });
    const path = await openPath(on, two.device);
    await unregisterGroupDev(one.device);
    await putDevice(one.device);
    expect(await on.status(path.group)).toBe(3);
    await on.process.close(await on.getDeviceFd(path.group, 'dev1'));
    await closePath(on, path);
  });
});

describe('two machines', () => {
  it('CORE-100 share no sets, groups or indices', async () => {
    await using other = await bench();
    const key = {};
    await using one = await register(on, 'dev0');
    await using two = await register(other, 'dev0');
    expect([one.device.index, two.device.index]).toEqual([0, 0]);
    on.vfio.deviceSets.get(key);
    expect(on.vfio.deviceSets.has(two.device)).toBe(false);
    expect(other.vfio.deviceSets.has(one.device)).toBe(false);
  });

  it('importing and constructing makes nothing visible before the module is loaded', async () => {
    await using host = new Host({ checked: true });
    new Vfio(host);
    await expect(host.init.open('/dev/vfio/vfio', O.RDWR)).rejects.toEqual(code('ENOENT'));
    class Bare extends VfioDevice {}
    expect(() => new Bare().index).toThrow(TypeError);
  });
});
