import { describe, expect, it } from 'vitest';
import { Completion, type ModuleSpec, type ParamSpec, SystemError } from '../src/index.js';
import { errno, everyStepFails, TestMachine, tick } from './machine.js';

/** A module that does nothing. */
function plain(name: string, more: Partial<ModuleSpec> = {}): ModuleSpec {
  return { name, init: () => {}, ...more };
}

function machineWith(...specs: ModuleSpec[]): TestMachine {
  const machine = new TestMachine();
  for (const spec of specs) machine.modules.define(spec);
  return machine;
}

describe('/sys/module', () => {
  it('has a directory for a module, as for vfio and vfio_pci_core', async () => {
    const machine = machineWith(
      plain('vfio', { version: '0.3', importNs: ['IOMMUFD', 'DMA_BUF'] }),
      plain('vfio_pci_core', { importNs: ['IOMMUFD'] }),
      plain('bare'),
    );
    for (const name of ['vfio', 'vfio_pci_core', 'bare']) await machine.modules.modprobe(name);
    const always = [
      'coresize',
      'holders/',
      'initsize',
      'initstate',
      'notes/',
      'refcnt',
      'sections/',
      'taint',
      'uevent',
    ];
    expect(machine.ls('/sys/module/bare')).toEqual(always);
    expect(machine.ls('/sys/module/vfio_pci_core')).toEqual([...always, 'import_ns'].sort());
    expect(machine.ls('/sys/module/vfio')).toEqual([...always, 'import_ns', 'srcversion', 'version'].sort());
    const texts = await Promise.all(
      ['initstate', 'refcnt', 'taint', 'version', 'import_ns'].map((file) => machine.cat(`/sys/module/vfio/${file}`)),
    );
    expect(texts).toEqual(['live\n', '0\n', '\n', '0.3\n', 'IOMMUFD\nDMA_BUF\n']);
    expect(await machine.cat('/sys/module/vfio/srcversion')).toMatch(/^[0-9A-F]{23}\n$/);
    expect(machine.process.stat('/sys/module/vfio/uevent').mode).toBe(0o200);
    expect(machine.process.stat('/sys/module/vfio/refcnt').mode).toBe(0o444);
  });

  it('shows of a builtin module its parameters and its version', async () => {
    const machine = machineWith(
      plain('vfio', {
        builtin: true,
        version: '0.3',
        parameters: { p: { type: 'bool', default: false, mode: 0o444 } },
      }),
      plain('mdev', { depends: ['vfio'] }),
    );
    await machine.modules.modprobe('mdev');
    expect(machine.ls('/sys/module/vfio')).toEqual(['parameters/', 'uevent', 'version']);
    expect(machine.modules.procText()).not.toContain('vfio ');
    await expect(machine.modules.rmmod('vfio')).rejects.toThrow(errno('ENOENT'));
  });

  it('announces a module when it is loaded, and when it is gone', async () => {
    const machine = machineWith(plain('mtty'));
    await machine.modules.modprobe('mtty');
    await machine.echo('/sys/module/mtty/uevent', 'change');
    await machine.modules.rmmod('mtty');
    expect(machine.events().map(({ action, devpath, subsystem }) => [action, devpath, subsystem])).toEqual([
      ['add', '/module/mtty', 'module'],
      ['change', '/module/mtty', 'module'],
      ['remove', '/module/mtty', 'module'],
    ]);
  });
});

describe('modprobe', () => {
  it('loads what a module needs before it, once', async () => {
    const journal: string[] = [];
    const noting = (name: string, ...depends: string[]) =>
      plain(name, { depends, init: () => void journal.push(name), exit: () => void journal.push(`-${name}`) });
    const machine = machineWith(
      noting('mdpy', 'mdev', 'vfio'),
      noting('mdev', 'vfio'),
      noting('vfio'),
      noting('mtty', 'mdev'),
    );
    await machine.modules.modprobe('mdpy');
    await machine.modules.modprobe('mtty');
    await machine.modules.modprobe('mdpy', { ignored: '1' });
    expect(journal).toEqual(['vfio', 'mdev', 'mdpy', 'mtty']);
    expect(machine.ls('/sys/module/mdev/holders')).toEqual(['mdpy@', 'mtty@']);
    expect(machine.readlink('/sys/module/mdev/holders/mdpy')).toBe('../../mdpy');
    expect(await machine.cat('/sys/module/mdev/refcnt')).toBe('2\n');
    expect(machine.modules.procText()).toBe(
      [
        'mtty 16384 0 - Live 0x0000000000000000',
        'mdpy 16384 0 - Live 0x0000000000000000',
        'mdev 16384 2 mtty,mdpy, Live 0x0000000000000000',
        'vfio 16384 2 mdpy,mdev, Live 0x0000000000000000',
        '',
      ].join('\n'),
    );
    expect(machine.modules.loaded().map(({ name }) => name)).toEqual(['vfio', 'mdev', 'mdpy', 'mtty']);
  });

  it('does not tell - from _, and knows aliases', async () => {
    const machine = machineWith(plain('vfio-pci', { aliases: ['pci:v*', 'vfio-reset:calxeda,hb-xgmac'] }));
    const module = await machine.modules.modprobe('vfio-pci');
    expect(module.name).toBe('vfio_pci');
    expect(machine.modules.get('vfio-pci')).toBe(module);
    expect(await machine.modules.modprobe('vfio-reset:calxeda,hb-xgmac')).toBe(module);
    expect(machine.modules.known().filter((name) => name.startsWith('vfio'))).toEqual(['vfio_pci']);
    await machine.modules.rmmod('vfio-pci');
    expect(machine.modules.get('vfio_pci')).toBeUndefined();
    expect(() => machine.modules.define(plain('vfio_pci'))).toThrow(RangeError);
  });

  it('knows what it does not know', async () => {
    const machine = machineWith(
      plain('a', { depends: ['b'] }),
      plain('b', { depends: ['a'] }),
      plain('c', { depends: ['d'] }),
    );
    await expect(machine.modules.modprobe('nosuch')).rejects.toThrow(errno('ENOENT'));
    await expect(machine.modules.modprobe('c')).rejects.toThrow(errno('ENOENT'));
    await expect(machine.modules.modprobe('a')).rejects.toThrow(errno('ELOOP'));
    expect(machine.ls('/sys/module')).toEqual([]);
  });

  it('leaves nothing of a module whose init fails, but what it needs', async () => {
    const journal: string[] = [];
    const machine = machineWith(
      plain('vfio'),
      plain('mtty', {
        depends: ['vfio'],
        init: async ({ module, undo }) => {
          expect([module.state, module.refcount]).toEqual(['coming', 1]);
          expect(await machine.cat('/sys/module/mtty/initstate')).toBe('coming\n');
          undo.add(() => void journal.push(`first ${module.tryGet()}`));
          undo.add(() => void journal.push('second'));
          throw new SystemError('ENODEV', 'no hardware');
        },
        exit: () => void journal.push('exit'),
      }),
    );
    await expect(machine.modules.modprobe('mtty')).rejects.toThrow(errno('ENODEV'));
    expect(journal).toEqual(['second', 'first false']);
    expect(machine.ls('/sys/module')).toEqual(['vfio/']);
    expect(machine.ls('/sys/module/vfio/holders')).toEqual([]);
    expect(machine.events().map(({ devpath }) => devpath)).toEqual(['/module/vfio']);
    await expect(machine.modules.modprobe('mtty')).rejects.toThrow(errno('ENODEV'));
  });

  it('waits for a load that is under way, and has its result', async () => {
    const go = new Completion(new TestMachine().host, 'go');
    let loads = 0;
    let fail = false;
    const machine = machineWith(
      plain('slow', {
        init: async () => {
          loads++;
          await go.wait();
          if (fail) throw new SystemError('ENODEV', 'no hardware');
        },
      }),
      plain('mtty', { depends: ['slow'] }),
    );
    const three = ['slow', 'slow', 'mtty'].map((name) => machine.modules.modprobe(name));
    await tick();
    await expect(machine.modules.rmmod('slow')).rejects.toThrow(errno('EBUSY'));
    go.complete();
    expect((await Promise.all(three)).map(({ name }) => name)).toEqual(['slow', 'slow', 'mtty']);
    expect(loads).toBe(1);
    await machine.modules.rmmod('mtty');
    await machine.modules.rmmod('slow');
    fail = true;
    const [first, second] = [machine.modules.modprobe('slow'), machine.modules.modprobe('slow')];
    go.complete();
    await expect(first).rejects.toThrow(errno('ENODEV'));
    await expect(second).rejects.toThrow(errno('EBUSY'));
  });
});

describe('rmmod', () => {
  it('refuses a module that is needed or used', async () => {
    const machine = machineWith(plain('vfio'), plain('mtty', { depends: ['vfio'] }));
    const mtty = await machine.modules.modprobe('mtty');
    expect(mtty.tryGet()).toBe(true);
    expect(await machine.cat('/sys/module/mtty/refcnt')).toBe('1\n');
    await expect(machine.modules.rmmod('vfio')).rejects.toThrow(errno('EAGAIN'));
    await expect(machine.modules.rmmod('mtty')).rejects.toThrow(errno('EAGAIN'));
    mtty.put();
    await machine.modules.rmmod('mtty');
    expect(machine.ls('/sys/module')).toEqual(['vfio/']);
    await machine.modules.rmmod('vfio');
    await expect(machine.modules.rmmod('vfio')).rejects.toThrow(errno('ENOENT'));
    expect(machine.modules.procText()).toBe('');
  });

  it('waits for exit, and lets nobody in meanwhile', async () => {
    const go = new Completion(new TestMachine().host, 'go');
    const journal: string[] = [];
    const machine = machineWith(
      plain('mtty', {
        init: ({ undo }) => undo.add(() => void journal.push('undo')),
        exit: async () => {
          await go.wait();
          journal.push('exit');
        },
      }),
      plain('user', { depends: ['mtty'] }),
    );
    const module = await machine.modules.modprobe('mtty');
    const removal = machine.modules.rmmod('mtty');
    expect([module.state, module.tryGet(), await machine.cat('/sys/module/mtty/initstate')]).toEqual([
      'going',
      false,
      'going\n',
    ]);
    expect(machine.modules.procText()).toBe('mtty 16384 0 - Unloading 0x0000000000000000\n');
    await expect(machine.modules.rmmod('mtty')).rejects.toThrow(errno('EBUSY'));
    await expect(machine.modules.modprobe('mtty')).rejects.toThrow(errno('EBUSY'));
    await expect(machine.modules.modprobe('user')).rejects.toThrow(errno('EBUSY'));
    go.completeAll();
    await removal;
    expect(journal).toEqual(['exit', 'undo']);
    expect(machine.ls('/sys/module')).toEqual([]);
  });
});

describe('Module', () => {
  it('counts the references that were taken, and finds one put too often', async () => {
    const machine = machineWith(plain('mtty'));
    const module = await machine.modules.modprobe('mtty');
    module.tryGet();
    module.tryGet();
    expect([module.refcount, machine.host.tracker.count('module')]).toEqual([2, 2]);
    module.put();
    module.put();
    expect(() => module.put()).toThrow(expect.objectContaining({ kind: 'refcount' }));
    expect(machine.host.tracker.count('module')).toBe(0);
  });

  it('has parameters by name and type', async () => {
    const machine = machineWith(
      plain('mbochs', {
        parameters: {
          count: { type: 'uint', default: 256, mode: 0o444 },
          mem: { type: 'ulong', default: 1n, mode: 0 },
          ids: { type: 'charp', default: undefined, mode: 0 },
        },
      }),
    );
    const module = await machine.modules.modprobe('mbochs', { mem: '0x200000000', ids: '1234:5678' });
    expect([module.param('count'), module.paramOf('mem', 'ulong'), module.paramOf('ids', 'charp')]).toEqual([
      256,
      0x2_0000_0000n,
      '1234:5678',
    ]);
    expect(() => module.param('other')).toThrow(RangeError);
    expect(() => module.paramOf('count', 'bool')).toThrow(RangeError);
    expect(machine.ls('/sys/module/mbochs/parameters')).toEqual(['count']);
  });
});

describe('parameters', () => {
  const parameters: Record<string, ParamSpec> = {
    allow_unsafe_interrupts: { type: 'bool', default: false, mode: 0o644 },
    dma_entry_limit: { type: 'uint', default: 65535, mode: 0o644 },
    level: { type: 'int', default: -1, mode: 0o644 },
    size: { type: 'ulong', default: 5n, mode: 0o644 },
    ids: { type: 'charp', default: undefined, mode: 0o644 },
    fixed: { type: 'bool', default: true, mode: 0o444 },
  };
  const file = (name: string) => `/sys/module/vfio_iommu_type1/parameters/${name}`;

  async function loaded(params: Record<string, string> = {}): Promise<TestMachine> {
    const machine = machineWith(plain('vfio_iommu_type1', { parameters }));
    await machine.modules.modprobe('vfio_iommu_type1', params);
    return machine;
  }

  it('show their defaults', async () => {
    const machine = await loaded();
    const texts = await Promise.all(Object.keys(parameters).map((name) => machine.cat(file(name))));
    expect(texts).toEqual(['N\n', '65535\n', '-1\n', '5\n', '(null)\n', 'Y\n']);
    expect(machine.process.stat(file('dma_entry_limit'))).toMatchObject({ mode: 0o644, size: 4096 });
    await expect(machine.echo(file('fixed'), '0')).rejects.toThrow(errno('EACCES'));
  });

  it.each<[string, string, string]>([
    ['allow_unsafe_interrupts', 'Y', 'Y\n'],
    ['allow_unsafe_interrupts', 'on\n', 'Y\n'],
    ['dma_entry_limit', '2', '2\n'],
    ['dma_entry_limit', '0x10\n', '16\n'],
    ['level', '-5\n', '-5\n'],
    ['size', '010', '8\n'],
    ['ids', '1234:5678', '1234:5678\n'],
    ['ids', 'a\n', 'a\n\n'],
  ])('%s set to %j shows %j', async (name, text, shown) => {
    const machine = await loaded();
    expect(await machine.echo(file(name), text)).toBe(text.length);
    expect(await machine.cat(file(name))).toBe(shown);
  });

  it.each<[string, string, string]>([
    ['allow_unsafe_interrupts', 'maybe', 'EINVAL'],
    ['allow_unsafe_interrupts', '\n', 'EINVAL'],
    ['dma_entry_limit', '-1', 'EINVAL'],
    ['dma_entry_limit', 'x', 'EINVAL'],
    ['dma_entry_limit', '4294967296', 'ERANGE'],
    ['level', '2147483648', 'ERANGE'],
    ['size', '1 ', 'EINVAL'],
    ['ids', 'x'.repeat(1025), 'ENOSPC'],
  ])('%s refuses %j with %s and stays', async (name, text, code) => {
    const machine = await loaded();
    const before = await machine.cat(file(name));
    await expect(machine.echo(file(name), text)).rejects.toThrow(errno(code));
    expect(await machine.cat(file(name))).toBe(before);
  });

  it('are set when the module is loaded', async () => {
    const machine = await loaded({ 'dma-entry-limit': '7', fixed: '0' });
    expect([await machine.cat(file('dma_entry_limit')), await machine.cat(file('fixed'))]).toEqual(['7\n', 'N\n']);
  });

  it('keep a module from loading when they are wrong, not when they are unknown', async () => {
    const machine = machineWith(plain('vfio_iommu_type1', { parameters, depends: ['vfio'] }), plain('vfio'));
    await expect(machine.modules.modprobe('vfio_iommu_type1', { dma_entry_limit: 'x' })).rejects.toThrow(
      errno('EINVAL'),
    );
    expect(machine.ls('/sys/module')).toEqual(['vfio/']);
    await machine.modules.modprobe('vfio_iommu_type1', { nosuch: '1' });
    expect(machine.host.log.entries.map(({ text }) => text)).toContain(
      "vfio_iommu_type1: unknown parameter 'nosuch' ignored",
    );
  });

  it('tell their module of a new value, which may refuse it', async () => {
    const told: unknown[] = [];
    const machine = machineWith(
      plain('m', {
        parameters: {
          b: { type: 'bool', default: false, mode: 0o644, changed: (value) => void told.push(value) },
          i: { type: 'int', default: 0, mode: 0o644, changed: (value) => void told.push(value) },
          u: { type: 'ulong', default: 0n, mode: 0o644, changed: (value) => void told.push(value) },
          s: {
            type: 'charp',
            default: undefined,
            mode: 0o644,
            changed: () => {
              throw new SystemError('EPERM', 'not now');
            },
          },
        },
      }),
    );
    await machine.modules.modprobe('m', { b: '1' });
    expect(told).toEqual([]);
    await machine.echo('/sys/module/m/parameters/b', '0');
    await machine.echo('/sys/module/m/parameters/i', '-3');
    await machine.echo('/sys/module/m/parameters/u', '3');
    await expect(machine.echo('/sys/module/m/parameters/s', 'x')).rejects.toThrow(errno('EPERM'));
    expect(told).toEqual([false, -3, 3n]);
    expect(await machine.cat('/sys/module/m/parameters/s')).toBe('(null)\n');
  });
});

describe('faults', () => {
  it('at any step of a load leave nothing behind', async () => {
    const steps = await everyStepFails(
      async (machine) => {
        machine.modules.define(plain('vfio'));
        machine.modules.define(
          plain('mtty', {
            version: '0.1',
            importNs: ['IOMMUFD'],
            depends: ['vfio'],
            parameters: { p: { type: 'bool', default: true, mode: 0o444 } },
            init: ({ undo }) => {
              machine.host.faults.check('mtty_dev_init:memory');
              const dir = machine.sysfs.devices.mkdir('mtty');
              undo.add(() => dir.remove());
            },
          }),
        );
        await machine.modules.modprobe('vfio');
      },
      async (machine) => {
        await machine.modules.modprobe('mtty');
        await machine.modules.rmmod('mtty');
      },
    );
    expect(steps).toEqual([
      'load_module:mtty',
      'sysfs_create_dir:mtty',
      'sysfs_create_dir:holders',
      'sysfs_create_dir:parameters',
      'sysfs_create_file:p',
      'sysfs_create_file:version',
      'sysfs_create_file:srcversion',
      'sysfs_create_file:import_ns',
      'sysfs_create_file:initstate',
      'sysfs_create_file:coresize',
      'sysfs_create_file:initsize',
      'sysfs_create_file:taint',
      'sysfs_create_file:refcnt',
      'sysfs_create_file:uevent',
      'sysfs_create_dir:sections',
      'sysfs_create_dir:notes',
      'sysfs_create_link:mtty',
      'mtty_dev_init:memory',
      'sysfs_create_dir:mtty',
    ]);
  });
});
