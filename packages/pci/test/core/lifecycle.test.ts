import { allocDevice, MigrationFlag, MigState, putDevice } from '@vfio/core';
import { O } from '@vfio/host';
import { forEachFault } from '@vfio/testing';
import { describe, expect, it } from 'vitest';
import { getDrvdata, setDrvdata } from '../../src/bus/drvdata.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { unregisterDriver } from '../../src/bus/pci-driver.js';
import { createSlot } from '../../src/bus/slots.js';
import { PciCoreDevice } from '../../src/core/core-device.js';
import { registerDevice, unregisterDevice } from '../../src/core/register.js';
import { CoreLab, errno, labBridge, labEndpoint, NAME, OTHER, PlainDevice, plainDriver } from './core-lab.js';

class NamelessDevice extends PciCoreDevice {}

/** What a registration answers, of a device that is prepared by hand. */
async function registerBy(
  lab: CoreLab,
  prepare: (device: PciCoreDevice, pdev: PciDev) => void,
  Type: typeof PlainDevice | typeof NamelessDevice = PlainDevice,
): Promise<unknown> {
  const pdev = lab.pdev();
  const device = await allocDevice(lab.vfio, Type, pdev, pdev);
  setDrvdata(pdev, device);
  prepare(device, pdev);
  try {
    await registerDevice(device);
    return undefined;
  } catch (error) {
    expect(device.deviceSet).toBeUndefined();
    return error;
  } finally {
    await putDevice(device);
  }
}

const migOps = {
  getState: () => MigState.RUNNING,
  setState: () => undefined,
  getDataSize: () => 0n,
};

describe('registration refuses', () => {
  it('PCI-006 CORE-031 a bridge', async () => {
    await using lab = await CoreLab.create();
    expect(await registerBy(lab, (_, pdev) => (pdev.hdrType = 1))).toEqual(errno('EINVAL'));
    lab.pdev().hdrType = 0;
  });

  it('PCI-007 CORE-031 foreign driver data, with a warning and no effect', async () => {
    await using lab = await CoreLab.create();
    const before = lab.pdev().pm.usageCount;
    expect(await registerBy(lab, (_, pdev) => setDrvdata(pdev, {}))).toEqual(errno('EINVAL'));
    expect(lab.pdev().pm.usageCount).toBe(before);
    expect(lab.host.log.entries.filter(({ warn }) => warn).map(({ text }) => text)).toEqual([
      `${NAME}: driver data is not the device`,
    ]);
  });

  it('CORE-031 operations without a name', async () => {
    await using lab = await CoreLab.create();
    expect(await registerBy(lab, () => {}, NamelessDevice)).toEqual(errno('EINVAL'));
  });

  it('PCI-008 CORE-031 migration that does not tell its size', async () => {
    await using lab = await CoreLab.create();
    const incomplete = { ...migOps };
    Reflect.deleteProperty(incomplete, 'getDataSize');
    const prepare = (device: PciCoreDevice) => {
      device.migrationFlags = MigrationFlag.STOP_COPY;
      device.migOps = incomplete;
    };
    expect(await registerBy(lab, prepare)).toEqual(errno('EINVAL'));
  });

  it('PCI-009 CORE-031 migration without STOP_COPY', async () => {
    await using lab = await CoreLab.create();
    const prepare = (device: PciCoreDevice) => {
      device.migrationFlags = MigrationFlag.P2P;
      device.migOps = migOps;
    };
    expect(await registerBy(lab, prepare)).toEqual(errno('EINVAL'));
  });

  it.each(['start', 'stop', 'readAndClear'])('PCI-010 CORE-031 logging without %s', async (missing) => {
    await using lab = await CoreLab.create();
    const logOps = { start: () => 4096n, stop: () => {}, readAndClear: () => {} };
    Reflect.deleteProperty(logOps, missing);
    expect(await registerBy(lab, (device) => (device.logOps = logOps))).toEqual(errno('EINVAL'));
  });

  it.each([0x0435, 0x0443, 0x0b25, 0x0cfe, 0x19e2, 0x19e3, 0x37c8, 0x37c9])(
    'PCI-005 Intel %s, unless an administrator says otherwise',
    async (device) => {
      const functions = (): [number, ReturnType<typeof labEndpoint>][] => [
        [0x08, labEndpoint({ vendor: 0x8086, device })],
      ];
      await using lab = await CoreLab.create({ functions: functions() });
      await lab.root.writeFile('/sys/bus/pci/devices/0000:00:01.0/driver_override', 'vfio-pci');
      await expect(lab.root.writeFile('/sys/bus/pci/drivers/vfio-pci/bind', '0000:00:01.0')).rejects.toEqual(
        errno('EINVAL'),
      );
      await using allowed = await CoreLab.create({ functions: functions(), params: { disable_denylist: '1' } });
      await allowed.bind('0000:00:01.0');
      expect(allowed.host.log.entries.map(({ text }) => text)).toEqual(
        expect.arrayContaining([
          'device denylist disabled.',
          `device denylist disabled - allowing device [8086:${device.toString(16).padStart(4, '0')}].`,
        ]),
      );
      await allowed.unbind('0000:00:01.0');
    },
  );
});

describe('device sets', () => {
  it('PCI-016 are private on a root bus', async () => {
    await using lab = await CoreLab.create({
      functions: [
        [8, labEndpoint({ multifunction: true })],
        [9, labEndpoint()],
      ],
    });
    const names = ['0000:00:01.0', '0000:00:01.1'];
    for (const name of names) await lab.bind(name);
    const [first, second] = names.map((name) => lab.device(name));
    expect(first?.deviceSet?.setId).toBe(first);
    expect(second?.deviceSet?.setId).toBe(second);
    for (const name of names) await lab.unbind(name);
  });

  it('PCI-017 are shared by the functions of a slot that can be reset', async () => {
    await using lab = await CoreLab.create({
      functions: [
        [
          8,
          labBridge([
            [0, labEndpoint({ multifunction: true })],
            [1, labEndpoint()],
          ]),
        ],
      ],
    });
    const slot = createSlot(lab.pdev().pciBus, 0, '1', { resetSlot: () => {} });
    for (const name of [NAME, OTHER]) await lab.bind(name);
    expect(lab.device(NAME).deviceSet).toBe(lab.device(OTHER).deviceSet);
    expect(lab.device(NAME).deviceSet?.setId).toBe(slot);
    for (const name of [NAME, OTHER]) await lab.unbind(name);
  });

  it('PCI-018 are shared by the functions of a bus, whichever VFIO driver they have', async () => {
    await using lab = await CoreLab.create({
      functions: [
        [
          8,
          labBridge([
            [0, labEndpoint({ multifunction: true })],
            [1, labEndpoint()],
          ]),
        ],
      ],
    });
    const driver = await plainDriver(lab);
    await lab.bind(NAME);
    await lab.bind(OTHER, 'plain');
    expect(lab.device(NAME).deviceSet).toBe(lab.device(OTHER).deviceSet);
    expect(lab.device(NAME).deviceSet?.setId).toBe(lab.pdev().pciBus);
    for (const name of [NAME, OTHER]) await lab.unbind(name);
    await unregisterDriver(driver);
  });
});

describe('parameters', () => {
  it('PCI-019 are latched: a change does not reach a device that is bound, and debugfs shows what it has', async () => {
    await using lab = await CoreLab.create();
    await lab.bind();
    await lab.root.writeFile('/sys/module/vfio_pci/parameters/nointxmask', '1');
    await lab.root.writeFile('/sys/module/vfio_pci/parameters/disable_idle_d3', 'Y');
    expect(lab.device().options).toEqual({ nointxmask: false, disableIdleD3: false, disableVga: false });
    const debug = `/sys/kernel/debug/vfio/${NAME}/pci`;
    expect(await lab.root.readFile(`${debug}/nointxmask`)).toBe('N\n');
    await lab.unbind();
    expect(() => lab.root.readdir(debug)).toThrow(errno('ENOENT'));
    await lab.bind();
    expect(await lab.root.readFile(`${debug}/nointxmask`)).toBe('Y\n');
    expect(await lab.root.readFile(`${debug}/disable_idle_d3`)).toBe('Y\n');
    await lab.unbind();
  });

  it('stand in /sys/module, those of the load time not to be written', async () => {
    await using lab = await CoreLab.create();
    const modes = lab.root
      .readdir('/sys/module/vfio_pci/parameters')
      .map(({ name }) => [name, lab.root.stat(`/sys/module/vfio_pci/parameters/${name}`).mode & 0o777]);
    expect(Object.fromEntries(modes)).toEqual({
      nointxmask: 0o644,
      disable_vga: 0o444,
      disable_idle_d3: 0o644,
      enable_sriov: 0o644,
      disable_denylist: 0o444,
    });
  });

  it('module vfio_pci_core has the files that Linux shows, and is held by vfio_pci', async () => {
    await using lab = await CoreLab.create();
    const names = (path: string) => lab.root.readdir(path).map(({ name }) => name);
    expect(names('/sys/module/vfio_pci_core').sort()).toEqual([
      'coresize',
      'holders',
      'import_ns',
      'initsize',
      'initstate',
      'notes',
      'refcnt',
      'sections',
      'taint',
      'uevent',
    ]);
    expect(names('/sys/module/vfio_pci_core/holders')).toEqual(['vfio_pci']);
    expect(names('/sys/bus/pci/drivers/vfio-pci').sort()).toEqual([
      'bind',
      'module',
      'new_id',
      'remove_id',
      'uevent',
      'unbind',
    ]);
  });

  it('PCI-020 disable_idle_d3: the function is never let go', async () => {
    await using lab = await CoreLab.create({ params: { disable_idle_d3: '1' } });
    const { pm } = lab.pdev();
    const counts = [pm.usageCount];
    await lab.bind();
    counts.push(pm.usageCount);
    const open = await lab.open();
    counts.push(pm.usageCount);
    await open.close();
    counts.push(pm.usageCount);
    // The one of the administrator, who has not allowed it to sleep, became that of the driver core for the driver.
    expect(counts).toEqual([1, 1, 1, 1]);
    expect(pm.status).toBe('active');
    await lab.unbind();
    expect(pm.usageCount).toBe(1);
  });

  it('without disable_idle_d3 it sleeps while nobody has it open', async () => {
    await using lab = await CoreLab.create();
    await lab.bind();
    expect(lab.pdev().pm.status).toBe('suspended');
    const open = await lab.open();
    expect(lab.pdev().pm.status).toBe('active');
    await open.close();
    expect(lab.pdev().pm.status).toBe('suspended');
    await lab.unbind();
    expect(lab.pdev().pm.status).toBe('active');
  });
});

describe('the end', () => {
  it('PCI-014 asks the users again and again, and waits for them', async () => {
    await using lab = await CoreLab.create();
    await lab.bind();
    const open = await lab.open();
    const device = lab.device();
    const asked: number[] = [];
    device.request = (count) => void asked.push(count);
    const unbound = lab.unbind();
    await lab.clock.advance(0);
    expect(asked).toEqual([0]);
    await lab.clock.advance(10_000);
    await lab.clock.advance(10_000);
    expect(asked).toEqual([0, 1, 2]);
    expect(lab.pdev().driver?.name).toBe('vfio-pci');
    await open.close();
    await unbound;
    expect(lab.pdev().driver).toBeUndefined();
  });

  it('PCI-015 releases with the last reference', async () => {
    await using lab = await CoreLab.create();
    const pdev = lab.pdev();
    let released = 0;
    class Counted extends PlainDevice {
      override release(): void {
        released++;
        super.release();
      }
    }
    const device = await allocDevice(lab.vfio, Counted, pdev, pdev);
    setDrvdata(pdev, device);
    // what the bus does around a probe
    await pdev.pm.getSync();
    await registerDevice(device);
    const node = device.device.get();
    await unregisterDevice(device);
    await putDevice(device);
    expect(released).toBe(0);
    node.put();
    await lab.clock.advance(0);
    expect(released).toBe(1);
    pdev.pm.putNoidle();
  });

  it('a program that has it open keeps the module, and a second open finds it taken', async () => {
    await using lab = await CoreLab.create();
    await lab.bind();
    const open = await lab.open();
    await expect(lab.host.modules.rmmod('vfio_pci')).rejects.toEqual(errno('EAGAIN'));
    const other = lab.host.spawn();
    await expect(other.open(`/dev/vfio/${lab.pdev().iommuGroup?.id}`, O.RDWR)).rejects.toEqual(errno('EBUSY'));
    await open.close();
    await lab.host.modules.rmmod('vfio_pci');
    expect(getDrvdata(lab.pdev())).toBeUndefined();
  });
});

describe('every step fails once', { timeout: 120_000 }, () => {
  it('PCI-012 of probe and remove: counts of users, driver data and power are as before', async () => {
    const { steps } = await forEachFault({
      prepare: () => CoreLab.create(),
      scenario: async (lab) => {
        await lab.bind();
        await lab.unbind();
      },
      check: async (lab) => {
        const pdev = lab.pdev();
        if (pdev.driver) await lab.unbind();
        expect(pdev.pm.usageCount).toBe(1);
        expect(pdev.pm.allowed).toBe(false);
        expect(pdev.pm.status).toBe('active');
        expect(pdev.runtimeOps).toBeUndefined();
        expect(lab.vfio.devices()).toEqual([]);
        await lab.bind();
        await lab.unbind();
      },
    });
    expect(steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['vfio_alloc_device:memory', 'vfio_assign_device_set:set', 'pcim_p2pdma_init:p2p']),
    );
  });

  it('of open and close: the function is off and asleep', async () => {
    const { steps } = await forEachFault({
      prepare: async () => {
        const lab = await CoreLab.create();
        await lab.bind();
        // the IOMMU keeps its blocking domain from the first owner on
        await (await lab.open()).process.exit();
        const program = lab.host.spawn();
        return { lab, host: lab.host, program, [Symbol.asyncDispose]: () => lab[Symbol.asyncDispose]() };
      },
      scenario: async ({ lab, program }) => {
        try {
          const open = await lab.open(NAME, { process: program });
          await open.enableMemory();
          await open.read(0, 0, 4);
        } finally {
          await program.exit();
        }
      },
      check: async ({ lab }) => {
        const pdev = lab.pdev();
        expect(pdev.enableCnt).toBe(0);
        expect(pdev.pm.status).toBe('suspended');
        expect(lab.device().openCount).toBe(0);
        expect(lab.device().config).toBeUndefined();
        for (const resource of pdev.resource) expect(resource.children).toEqual([]);
        const again = await lab.open();
        await again.close();
        await lab.unbind();
      },
    });
    expect(steps.map(({ name }) => name)).toEqual(
      expect.arrayContaining(['__request_region:resource', 'pci_iomap:mapping', 'vfio_config_init:map']),
    );
  });
});
