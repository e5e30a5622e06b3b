import { type MachineContext, Request } from '@vfio/core';
import { freeRunning, type Host, O, type Scheduler, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type LoadOptions, Machine, type MachineFile } from '../src/index.js';
import { Folder, loadModel, modelPackage } from './lab.js';

const transcripts = new URL('../../../transcripts/machines/', import.meta.url).pathname;

describe('loading', () => {
  it('defines all packages, then builds the sections in the order of the file', async () => {
    const [first, second] = [
      modelPackage(),
      { ...modelPackage(), section: 'other', define() {}, build: async () => {} },
    ];
    const built: string[] = [];
    const drivers = [
      { ...second, build: async () => void built.push('other') },
      {
        ...first,
        build: async () => void built.push('model'),
      },
    ];
    const file = { version: 1, model: {}, other: {} } as const;
    await using machine = await Machine.load(file, { drivers, checked: true });
    expect(built).toEqual(['model', 'other']);
    expect(machine.drivers).toBe(drivers);
  });

  it('has what modules would like to have after them, as modprobe does, but not for a script', async () => {
    const load = (options: LoadOptions) =>
      Machine.load({ version: 1, modules: ['vfio'] }, { drivers: [], checked: true, ...options });
    const names = (machine: Machine) => machine.host.modules.loaded().map(({ name }) => name);
    await using machine = await load({});
    expect(names(machine)).toEqual(['vfio', 'vfio_iommu_type1']);
    await using script = await load({ modules: ['vfio'] });
    expect(names(script)).toEqual(['vfio']);
    await script.modprobe('vfio');
    expect(names(script)).toEqual(['vfio', 'vfio_iommu_type1']);
    // without it, there is nothing to be had
    await using built = await load({ vfio: { iommufd: true, container: false } });
    expect(names(built)).toEqual(['iommufd', 'vfio']);
  });

  it('has its hardware before any module is loaded, and what is built on modules after that', async () => {
    const first = modelPackage();
    const known: [string, boolean][] = [];
    const isLoaded = (host: Host) => host.modules.loaded().some(({ name }) => name === 'vfio');
    const drivers = [first].map((driver) => ({
      ...driver,
      powerOn: async ({ host }: MachineContext) => void known.push(['powerOn', isLoaded(host)]),
      build: async ({ host }: MachineContext) => void known.push(['build', isLoaded(host)]),
    }));
    await using _machine = await Machine.load({ version: 1, modules: ['vfio'], model: {} }, { drivers, checked: true });
    expect(known).toEqual([
      ['powerOn', false],
      ['build', true],
    ]);
  });

  it('tells packages what machine they are on', async () => {
    using folder = new Folder();
    const drivers = [modelPackage()];
    const path = folder.write('lab.yaml', 'version: 1\nmodel: { devices: [{ name: model7 }] }');
    await using machine = await Machine.load(path, { drivers, checked: true });
    expect(machine.name).toBe('lab');
    expect(drivers[0]?.contexts).toEqual([
      { name: 'lab', host: machine.host, vfio: machine.vfio, directory: folder.path },
    ]);
    expect(drivers[0]?.calls).toEqual(['define', 'build {"devices":[{"name":"model7"}]}']);
    await using other = await Machine.load({ version: 1 }, { drivers: [modelPackage()], checked: true });
    expect(other.name).toBe('machine');
  });

  it('does not build a package without a section', async () => {
    const driver = modelPackage();
    await using machine = await Machine.load({ version: 1 }, { drivers: [driver], checked: true });
    expect(driver.calls).toEqual(['define']);
    expect(machine.host.modules.known()).toContain('model');
    expect(machine.host.modules.loaded()).toEqual([]);
  });

  it('loads modules with their parameters, in order and before the sections', async () => {
    const modules = [
      { name: 'vfio', parameters: { enable_unsafe_noiommu_mode: true } },
      { name: 'vfio-iommu-type1', parameters: { dma_entry_limit: 5, allow_unsafe_interrupts: false } },
    ];
    await using machine = await loadModel({ file: { vfio: { noiommu: true }, modules } });
    const { host } = machine;
    expect(host.modules.loaded().map(({ name }) => name)).toEqual(['vfio', 'vfio_iommu_type1', 'model']);
    const parameter = (module: string, name: string) => host.init.readFile(`/sys/module/${module}/parameters/${name}`);
    expect(await parameter('vfio', 'enable_unsafe_noiommu_mode')).toBe('Y\n');
    expect(await parameter('vfio_iommu_type1', 'allow_unsafe_interrupts')).toBe('N\n');
    await using device = await machine.client().openDevice('model0');
    expect((await device.container.info()).dmaAvail).toBe(5);
  });

  it('takes modules of the caller in place of those of the file', async () => {
    const file: MachineFile = { version: 1, modules: ['no_such_module'] };
    await using machine = await Machine.load(file, { drivers: [], checked: true, modules: ['vfio'] });
    expect(machine.host.modules.loaded().map(({ name }) => name)).toEqual(['vfio']);
    await expect(machine.modprobe({ name: 'vfio_iommu_type1', parameters: { dma_entry_limit: 'x' } })).rejects.toThrow(
      expect.objectContaining({ code: 'EINVAL' }),
    );
  });

  it('takes switches of the caller over those of the file', async () => {
    const file: MachineFile = { version: 1, vfio: { iommufd: false, noiommu: true } };
    await using machine = await Machine.load(file, { drivers: [], checked: true, vfio: { iommufd: true } });
    expect(machine.vfio.options).toMatchObject({ iommufd: true, noiommu: true, container: true });
  });

  it('gives the kernel what the file says of the host', async () => {
    const host = { byteOrder: 'big', firstDynamicMajor: 240 } as const;
    await using machine = await loadModel({ file: { host } });
    expect(machine.process().byteOrder).toBe('big');
    expect(await machine.host.init.readFile('/proc/devices')).toContain('240 vfio\n');
  });
});

describe('switches that do not go together', () => {
  it('are the mistake of whoever wrote the call; the host goes all the same', async () => {
    const load = Machine.load({ version: 1 }, { drivers: [], checked: true, vfio: { deviceCdev: true } });
    await expect(load).rejects.toThrow(TypeError);
  });
});

describe('the IOMMU', () => {
  const iommuOf = async (iommu: NonNullable<MachineFile['host']>['iommu']) => {
    const machine = await loadModel({
      emulated: iommu === 'none',
      file: { host: iommu === undefined ? {} : { iommu } },
    });
    return machine;
  };

  it('is that of a PC unless the file says otherwise', async () => {
    await using machine = await iommuOf(undefined);
    const [unit] = machine.host.iommu.units;
    expect(unit).toMatchObject({
      aperture: { start: 0n, end: (1n << 48n) - 1n },
      pageSizes: 0x4020_1000n,
      coherent: true,
      enforceCoherency: true,
      dirtyTracking: false,
      msiIsolated: true,
      reserved: [{ start: 0xfee0_0000n, end: 0xfeef_ffffn, type: 'msi' }],
    });
  });

  it('is as the file says', async () => {
    await using machine = await iommuOf({
      addressBits: 64,
      pageSizes: '0xfffffffffffff000',
      enforceCoherency: false,
      dirtyTracking: true,
      msiIsolated: false,
      reserved: [{ start: 4096, end: '0x1fff', type: 'direct' }],
    });
    expect(machine.host.iommu.units[0]).toMatchObject({
      aperture: { start: 0n, end: (1n << 64n) - 1n },
      pageSizes: 0xffff_ffff_ffff_f000n,
      coherent: true,
      enforceCoherency: false,
      dirtyTracking: true,
      msiIsolated: false,
      reserved: [{ start: 4096n, end: 0x1fffn, type: 'direct' }],
    });
    // what it says counts: interrupts are not isolated
    await expect(machine.client().openDevice('model0')).rejects.toThrow(expect.objectContaining({ code: 'EPERM' }));
  });

  it('that is not coherent can not enforce it either', async () => {
    await using machine = await Machine.load(
      { version: 1, host: { iommu: { coherent: false } } },
      { drivers: [], checked: true },
    );
    expect(machine.host.iommu.units[0]).toMatchObject({ coherent: false, enforceCoherency: false });
  });

  it('may be absent', async () => {
    await using machine = await iommuOf('none');
    expect(machine.host.iommu.present).toBe(false);
    await using device = await machine.client().openDevice('model0');
    expect(device.group.subject).toBe('group 0');
  });
});

describe('the chipset', () => {
  it('is there as the machine of the mediated device transcripts says', async () => {
    await using machine = await Machine.load(`${transcripts}mdev.yaml`, { drivers: [], checked: true });
    const { init } = machine.host;
    const names = (path: string) => init.readdir(path).map(({ name }) => name);
    expect(machine.name).toBe('mdev');
    expect(names('/sys/kernel/iommu_groups')).toEqual(['0', '1']);
    expect(names('/sys/kernel/iommu_groups/0/devices')).toEqual(['0000:00:00.0']);
    expect(names('/sys/kernel/iommu_groups/1/devices').sort()).toEqual([
      '0000:00:1f.0',
      '0000:00:1f.2',
      '0000:00:1f.3',
    ]);
    expect(init.readlink('/sys/kernel/iommu_groups/1/devices/0000:00:1f.2')).toBe(
      '../../../../devices/pci0000:00/0000:00:1f.2',
    );
    expect(init.readlink('/sys/devices/pci0000:00/0000:00:1f.3/iommu_group')).toBe('../../../kernel/iommu_groups/1');
    expect(() => init.readlink('/sys/devices/pci0000:00/iommu_group')).toThrow('ENOENT');
    expect(machine.vfio.options).toMatchObject({ iommufd: false, iovaBitmap: false });
    expect((await machine.devices()).map(({ address, iommuGroup, driver }) => [address, iommuGroup, driver])).toEqual([
      ['0000:00:00.0', 0, undefined],
      ['0000:00:1f.0', 1, undefined],
      ['0000:00:1f.2', 1, undefined],
      ['0000:00:1f.3', 1, undefined],
    ]);
  });

  it('has its groups before any driver makes one', async () => {
    const devices = [{ path: 'soc/dma', iommuGroup: 'dma' }, { path: 'soc' }];
    await using machine = await loadModel({ file: { host: { devices } } });
    expect((await machine.devices()).map(({ address, iommuGroup }) => [address, iommuGroup])).toEqual([
      ['dma', 0],
      ['model0', 1],
    ]);
  });
});

describe('the inventory', () => {
  it('tells of each device what sysfs does', async () => {
    await using machine = await loadModel({ file: { model: { devices: [{ name: 'model0' }, { name: 'model1' }] } } });
    const before = {
      address: 'model0',
      bus: 'model',
      driver: 'model',
      ids: undefined,
      iommuGroup: 0,
      vfio: 'vfio0',
      node: '/dev/vfio/0',
      type: undefined,
      users: 0,
    };
    expect((await machine.devices())[0]).toEqual(before);
    const device = await machine.client().openDevice('model0');
    const second = await device.group.getDevice('model0');
    expect((await machine.devices()).map(({ address, users }) => [address, users])).toEqual([
      ['model0', 2],
      ['model1', 0],
    ]);
    await second.close();
    await device.close();
    await machine.host.init.writeFile('/sys/bus/model/drivers/model/unbind', 'model0');
    expect((await machine.devices())[0]).toEqual({ ...before, driver: undefined, vfio: undefined, node: undefined });
  });
});

describe('the inventory of a machine with device nodes', () => {
  it('has them', async () => {
    await using machine = await loadModel({ file: { vfio: { iommufd: true, deviceCdev: true } } });
    const [device] = await machine.devices();
    expect(device).toMatchObject({ node: '/dev/vfio/0', cdev: '/dev/vfio/devices/vfio0', users: 0 });
    await using _open = await machine.client().openCdev('model0');
    expect((await machine.devices())[0]?.users).toBe(1);
  });
});

describe('processes', () => {
  it('are new each time; the client is the same', async () => {
    await using machine = await loadModel();
    const user = machine.process({ comm: 'user', uid: 1000 });
    expect([user.comm, user.credentials.uid]).toEqual(['user', 1000]);
    expect(machine.process()).not.toBe(machine.process());
    expect(machine.client()).toBe(machine.client());
  });
});

describe('seams', () => {
  it('are those of the caller', async () => {
    const clock = new VirtualClock();
    const scheduler: Scheduler = { switchPoint: (label) => freeRunning.switchPoint(label) };
    await using machine = await Machine.load(
      { version: 1, modules: ['vfio'] },
      { drivers: [], checked: true, clock, scheduler },
    );
    const before = machine.host.clock.now();
    await clock.advance(1500);
    expect(machine.host.clock.now() - before).toBe(1500);
    expect(machine.host.scheduler).toBe(scheduler);
  });

  it('look for misuse when they are told to, and in tests', async () => {
    const checked = async (options: { checked?: boolean }) => {
      const machine = await Machine.load({ version: 1 }, { drivers: [], ...options });
      await machine.shutdown();
      return machine.host.checked;
    };
    expect([await checked({ checked: true }), await checked({ checked: false }), await checked({})]).toEqual([
      true,
      false,
      true,
    ]);
  });
});

describe('shutdown', () => {
  it('ends processes, modules and hardware, and finds nothing left', async () => {
    const machine = await loadModel({ file: { host: { devices: [{ path: 'a/b', iommuGroup: 'g' }] } } });
    const { host } = machine;
    const process = machine.process();
    await process.open('/dev/vfio/vfio', O.RDWR);
    await machine.client().openDevice('model0');
    expect(await machine.shutdown()).toEqual([]);
    expect([host.modules.loaded(), host.iommu.groups.size]).toEqual([[], 0]);
    expect(process.exitStatus).toEqual({ code: 0, signal: 'SIGKILL' });
    expect(() => host.init.readdir('/sys')).toThrow('ESRCH');
    expect(await machine.shutdown()).toEqual([]);
  });

  it('reports what somebody forgot', async () => {
    const machine = await loadModel();
    const { host } = machine;
    host.tracker.track('pin', () => 'a page');
    const leaks = await machine.shutdown();
    expect(leaks.map(({ kind, what }) => [kind, what])).toEqual([['pin', 'a page']]);
    expect(leaks[0]?.origin).toContain('machine.test.ts');
  });

  it('at the end of a scope is a failure when something is left, if anybody looks', async () => {
    const leave = async (checked: boolean) => {
      await using machine = await Machine.load({ version: 1 }, { drivers: [], checked });
      machine.host.tracker.track('pin', () => 'a page');
    };
    await expect(leave(true)).rejects.toThrow(/^leak: 1 not given back\n {2}pin: a page/);
    await expect(leave(false)).resolves.toBeUndefined();
  });

  it('waits for nobody: a device that is open goes too', async () => {
    const machine = await loadModel();
    const process = machine.process();
    const device = await machine.client().openDevice('model0');
    expect(await process.ioctl(await process.open('/dev/vfio/vfio', O.RDWR), Request.GET_API_VERSION)).toBe(0);
    expect(await machine.shutdown()).toEqual([]);
    await expect(device.reset()).rejects.toThrow(expect.objectContaining({ code: 'ESRCH' }));
  });
});

describe('a kernel without groups', () => {
  it('lists devices by their own nodes', async () => {
    await using machine = await loadModel({ emulated: true, file: { vfio: { group: false, iommufd: true } } });
    const [device] = (await machine.devices()).filter(({ vfio }) => vfio !== undefined);
    expect(device).toMatchObject({ vfio: 'vfio0', cdev: '/dev/vfio/devices/vfio0' });
    expect([device?.node, device?.iommuGroup]).toEqual([undefined, undefined]);
  });
});
