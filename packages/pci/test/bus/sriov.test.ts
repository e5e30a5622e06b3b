import { isSystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { removeBusDevice } from '../../src/bus/hotplug.js';
import type { PciDev } from '../../src/bus/pci-dev.js';
import { Command, ExpType, Reg, ResourceIndex, Sriov } from '../../src/bus/regs.js';
import { tryResetFunction } from '../../src/bus/reset.js';
import { disableSriov, enableSriov } from '../../src/bus/sriov.js';
import { FakeFunction } from './fake-function.js';
import {
  decode,
  expCap,
  type LabFunction,
  labBridge,
  labDriver,
  labEndpoint,
  labHost,
  sriovCap,
} from './service-lab.js';

const code = (value: string) => expect.objectContaining({ code: value });

function physical(total = 4, offset = 0x80, stride = 2): LabFunction {
  const fn = labEndpoint({
    device: 0x9999,
    extCaps: [sriovCap(total, offset, stride)],
    caps: [expCap(ExpType.ENDPOINT, true)],
  });
  for (let index = 0; index < total; index++) {
    const vf = new FakeFunction({ pcie: true, caps: [expCap(ExpType.ENDPOINT, true)], vendor: 0xffff, device: 0xffff });
    vf.memory.set(0, new Uint8Array(0x4000).fill(index));
    fn.vfs.push(vf);
  }
  return fn;
}

async function sriovLab(fn = physical()) {
  const bridge = labBridge([[0, fn]]);
  // Firmware has left room for buses behind it.
  bridge.set(0x18, 4, 0x02_0100, 0xff_ffff);
  const lab = await labHost([[0x08, bridge]]);
  const pf = lab.at(1, 0);
  const path = (name: string, of: PciDev = pf) => `${of.sysfs.path()}/${name}`;
  const read = async (name: string) => await lab.host.init.readFile(path(name));
  const write = async (name: string, text: string) => await lab.host.init.writeFile(path(name), text);
  return { ...lab, fn, pf, path, read, write };
}

const configure = {
  sriovConfigure: async (pdev: PciDev, count: number) => {
    if (count === 0) await disableSriov(pdev);
    else await enableSriov(pdev, count);
    return count;
  },
};

describe('a physical function', () => {
  it('has space for all virtual ones, and says how they are numbered', async () => {
    const { host, pf, read } = await sriovLab();
    await using _ = host;
    expect([pf.isPhysfn, pf.sriov?.totalVfs]).toEqual([true, 4]);
    const space = pf.resource[ResourceIndex.IOV];
    expect([space?.size, space?.flags]).toEqual([4 * 0x4000, 0x14_220c]);
    expect(space?.parent).toBeDefined();
    expect(await read('sriov_totalvfs')).toBe('4\n');
    expect(await read('sriov_numvfs')).toBe('0\n');
    expect(await read('sriov_offset')).toBe('128\n');
    expect(await read('sriov_stride')).toBe('2\n');
    expect(await read('sriov_vf_device')).toBe('10ca\n');
    expect(await read('sriov_drivers_autoprobe')).toBe('1\n');
    expect(await read('sriov_vf_total_msix')).toBe('0\n');
  });

  it('is an ordinary one when its capability makes no sense', async () => {
    const { host, pf } = await sriovLab(physical(4, 0, 0));
    await using _ = host;
    expect([pf.isPhysfn, pf.sriov, pf.sysfs.lookup('sriov_numvfs')]).toEqual([false, undefined, undefined]);
    await expect(enableSriov(pf, 1)).rejects.toEqual(code('ENOSYS'));
  });
});

describe('virtual functions', () => {
  it('appear with their ids, addresses and links, and go', async () => {
    const { host, bus, pf, path } = await sriovLab();
    await using _ = host;
    const seen: string[] = [];
    using _events = host.uevents.subscribe(({ action, devpath }) =>
      seen.push(`${action} ${devpath.split('/').at(-1)}`),
    );
    await enableSriov(pf, 2);
    const [first, second] = [bus.find(0, 1, 0x80), bus.find(0, 1, 0x82)];
    expect([first?.name, second?.name]).toEqual(['0000:01:10.0', '0000:01:10.2']);
    expect(first).toMatchObject({ vendor: 0x1234, deviceId: 0x10ca, isVirtfn: true, noCommandMemory: true, pin: 0 });
    expect(first).toMatchObject({ physfn: pf, subsystemVendor: 0x1af4, subsystemDevice: 0x1100, multifunction: false });
    const space = pf.resource[ResourceIndex.IOV];
    expect(second?.resource[0]).toMatchObject({ start: (space?.start ?? 0) + 0x4000, size: 0x4000, parent: space });
    expect(await host.init.readlink(path('virtfn1'))).toBe('../0000:01:10.2');
    expect(await host.init.readlink(`${second?.sysfs.path()}/physfn`)).toBe('../0000:01:00.0');
    expect(second?.resetMethods).toEqual(['flr']);
    expect(seen).toEqual([
      'add 0000:01:10.0',
      'change 0000:01:10.0',
      'add 0000:01:10.2',
      'change 0000:01:10.2',
      'change 0000:01:00.0',
    ]);
    await disableSriov(pf);
    expect([bus.find(0, 1, 0x80), pf.sysfs.lookup('virtfn0'), pf.sriov?.numVfs]).toEqual([undefined, undefined, 0]);
    expect(pf.hw.readConfig((pf.sriov?.cap ?? 0) + Sriov.CTRL, 2) & (Sriov.CTRL_VFE | Sriov.CTRL_MSE)).toBe(0);
    await disableSriov(pf);
  });

  it('answer at their addresses, also on a bus of their own', async () => {
    const { host, bus, pf } = await sriovLab(physical(3, 0x100, 1));
    await using _ = host;
    await enableSriov(pf, 3);
    const third = bus.find(0, 2, 2);
    expect(third?.name).toBe('0000:02:00.2');
    expect(third?.sysfs.path().startsWith(pf.pciBus.self?.sysfs.path() ?? '?')).toBe(true);
    decode(pf.pciBus.self ?? pf, Command.MEMORY);
    if (third) decode(third);
    const bytes = new Uint8Array(4);
    host.memory.read(third?.resource[0]?.start ?? 0, bytes);
    expect([...bytes]).toEqual([2, 2, 2, 2]);
    await disableSriov(pf);
    expect(pf.pciBus.domain.busAt(2)).toBeUndefined();
  });

  it('are as many as there can be, and none while there are some', async () => {
    const { host, pf } = await sriovLab();
    await using _ = host;
    await expect(enableSriov(pf, 5)).rejects.toEqual(code('EINVAL'));
    await enableSriov(pf, 1);
    await expect(enableSriov(pf, 2)).rejects.toEqual(code('EINVAL'));
    await disableSriov(pf);
  });

  it('need addresses and bus numbers', async () => {
    const far = await sriovLab(physical(4, 0x300, 1));
    await using _far = far.host;
    await expect(enableSriov(far.pf, 1)).rejects.toEqual(code('ENOMEM'));
    const { host, pf } = await sriovLab();
    await using _ = host;
    const space = pf.resource[ResourceIndex.IOV];
    if (space) pf.pciBus.domain.release(space);
    await expect(enableSriov(pf, 1)).rejects.toEqual(code('ENOMEM'));
  });

  it('come back after a reset of the physical one', async () => {
    const { host, fn, pf } = await sriovLab();
    await using _ = host;
    await enableSriov(pf, 2);
    const cap = pf.sriov?.cap ?? 0;
    const registers = () =>
      [Sriov.CTRL, Sriov.NUM_VF, Sriov.BAR, Sriov.SYS_PGSIZE].map((at) => fn.readConfig(cap + at, 2));
    const before = registers();
    await tryResetFunction(pf);
    expect(fn.kinds).toEqual(['flr']);
    expect(registers()).toEqual(before);
    await disableSriov(pf);
  });

  it('may be removed one by one before they are switched off', async () => {
    const { host, bus, pf } = await sriovLab();
    await using _ = host;
    await enableSriov(pf, 2);
    const first = bus.find(0, 1, 0x80);
    if (first) await removeBusDevice(first);
    await disableSriov(pf);
    expect(bus.find(0, 1, 0x82)).toBeUndefined();
  });

  it('leave nothing behind whichever step of making them fails', async () => {
    const { host, bus, pf } = await sriovLab(physical(2, 0x100, 1));
    await using _ = host;
    using recording = host.faults.record();
    await enableSriov(pf, 2);
    recording.stop();
    await disableSriov(pf);
    expect(recording.steps.length).toBeGreaterThan(10);
    let failed = 0;
    for (let step = 0; step < recording.steps.length; step++) {
      using arm = host.faults.failAt(step);
      try {
        await enableSriov(pf, 2);
        await disableSriov(pf);
      } catch (error) {
        if (!isSystemError(error)) throw error;
        failed++;
      }
      expect(arm.fired).toBe(true);
      expect([bus.find(0, 2, 0), bus.find(0, 2, 1), pf.sriov?.numVfs]).toEqual([undefined, undefined, 0]);
      expect([pf.pciBus.domain.busAt(2), pf.sysfs.lookup('virtfn0')]).toEqual([undefined, undefined]);
      expect(pf.resource[ResourceIndex.IOV]?.children).toEqual([]);
      expect(pf.hw.readConfig((pf.sriov?.cap ?? 0) + Sriov.CTRL, 2) & Sriov.CTRL_VFE).toBe(0);
    }
    expect(failed).toBeGreaterThan(10);
  });
});

describe('sriov_numvfs', () => {
  it('is refused without a driver that knows', async () => {
    const { host, bus, write } = await sriovLab();
    await using _ = host;
    await expect(write('sriov_numvfs', '1')).rejects.toEqual(code('ENOENT'));
    await write('sriov_numvfs', '0');
    await labDriver(bus, {
      idTable: [
        { vendor: 0x1234, device: 0x9999, subvendor: 0xffff_ffff, subdevice: 0xffff_ffff, class: 0, classMask: 0 },
      ],
    });
    await expect(write('sriov_numvfs', '1')).rejects.toEqual(code('ENOENT'));
  });

  it('has the errors of the recorded machine', async () => {
    const { host, bus, write, read } = await sriovLab();
    await using _ = host;
    await labDriver(bus, {
      ...configure,
      idTable: [
        { vendor: 0x1234, device: 0x9999, subvendor: 0xffff_ffff, subdevice: 0xffff_ffff, class: 0, classMask: 0 },
      ],
    });
    for (const [text, errno] of [
      ['x', 'EINVAL'],
      ['-1', 'EINVAL'],
      ['70000', 'EINVAL'],
      ['5', 'ERANGE'],
    ] as const) {
      await expect(write('sriov_numvfs', text)).rejects.toEqual(code(errno));
      expect(await read('sriov_numvfs')).toBe('0\n');
    }
    for (const text of ['4', '0', '0', '2']) {
      await write('sriov_numvfs', text);
      expect(await read('sriov_numvfs')).toBe(`${text}\n`);
    }
    await expect(write('sriov_numvfs', '1')).rejects.toEqual(code('EBUSY'));
    await write('sriov_numvfs', '2');
    await write('sriov_numvfs', '0');
  });

  it('offers them to drivers unless the physical one says otherwise', async () => {
    const { host, bus, pf, write } = await sriovLab();
    await using _ = host;
    await labDriver(bus, {
      idTable: [
        { vendor: 0x1234, device: 0x10ca, subvendor: 0xffff_ffff, subdevice: 0xffff_ffff, class: 0, classMask: 0 },
      ],
    });
    await enableSriov(pf, 1);
    expect(bus.find(0, 1, 0x80)?.driver?.name).toBe('lab');
    await disableSriov(pf);
    await write('sriov_drivers_autoprobe', '0');
    await enableSriov(pf, 1);
    expect(bus.find(0, 1, 0x80)?.driver).toBeUndefined();
    await disableSriov(pf);
    expect(pf.hw.readConfig(Reg.VENDOR_ID, 2)).toBe(0x1234);
  });
});
