import { PciHotResetFlag, Request } from '@vfio/core';
import { O } from '@vfio/host';
import { describe, expect, it, vi } from 'vitest';
import { PciDriver, registerDriver, unregisterDriver } from '../../src/bus/pci-driver.js';
import { PowerState } from '../../src/bus/power-state.js';
import { ExpType, Reg } from '../../src/bus/regs.js';
import { setPowerState } from '../../src/core/power.js';
import type { FakeFunction } from '../bus/fake-function.js';
import { acsCap } from '../bus/fake-function.js';
import { CoreLab, errno, everyBar, isolatingPort, labBridge, NAME, OpenFunction, OTHER, physical } from './core-lab.js';

/** Two functions of one device behind a port, in one group. */
function pair(first: FakeFunction = everyBar(), second: FakeFunction = everyBar()): [number, FakeFunction][] {
  first.set(Reg.HEADER_TYPE, 1, 0x80);
  return [
    [
      0x08,
      labBridge([
        [0, first],
        [1, second],
      ]),
    ],
  ];
}

/** Two functions of one device, each in its own group: they have ACS. */
function isolated(): [number, FakeFunction][] {
  const first = everyBar({ multifunction: true, extCaps: [acsCap] });
  return [
    [
      0x08,
      isolatingPort([
        [0, first],
        [1, everyBar({ extCaps: [acsCap] })],
      ]),
    ],
  ];
}

/** What they have seen of resets of their bus. */
const busResets = (fn: FakeFunction): number => fn.resets;

describe('information', () => {
  it('PCI-054 needs room for its head', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME] });
    const open = await lab.open();
    expect((await open.hotResetInfo(0, 11)).failed).toEqual(errno('EINVAL'));
    await open.close();
  });

  it('PCI-055 CORE-133 tells the count when there is no room', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME] });
    const open = await lab.open();
    for (const room of [0, 1]) {
      expect(await open.hotResetInfo(room)).toMatchObject({ failed: errno('ENOSPC'), count: 2, flags: 0 });
    }
    await open.close();
  });

  it('PCI-056 there is none on a root bus', async () => {
    const name = '0000:00:01.0';
    await using lab = await CoreLab.create({ functions: [[8, everyBar()]], bind: [name] });
    const open = await lab.open(name);
    expect((await open.hotResetInfo(8)).failed).toEqual(errno('ENODEV'));
    await open.close();
  });

  it('PCI-057 CORE-134 lists groups, and what is behind bridges', async () => {
    const below = everyBar();
    const bridge = labBridge([[0, below]], ExpType.PCI_BRIDGE);
    await using lab = await CoreLab.create({
      functions: [
        [
          8,
          labBridge([
            [0, everyBar({ multifunction: true })],
            [1, bridge],
          ]),
        ],
      ],
      bind: [NAME],
    });
    const open = await lab.open();
    const { devices, flags, failed } = await open.hotResetInfo(8);
    expect(failed).toBeUndefined();
    expect(flags).toBe(0);
    expect(devices.map(({ segment, bus, devfn }) => [segment, bus, devfn])).toEqual([
      [0, 1, 0],
      [0, 1, 1],
      [0, 2, 0],
    ]);
    expect(devices[0]?.groupId).toBe(lab.pdev().iommuGroup?.id);
    expect(devices[2]?.groupId).toBe(lab.pdev('0000:02:00.0').iommuGroup?.id);
    await open.close();
  });

  it('PCI-058 a function without a group ends it', async () => {
    await using lab = await CoreLab.create({ functions: isolated(), bind: [NAME] });
    const open = await lab.open();
    const other = lab.pdev(OTHER);
    const group = other.iommuGroup;
    other.iommuGroup = undefined;
    expect((await open.hotResetInfo(8)).failed).toEqual(errno('EPERM'));
    other.iommuGroup = group;
    await open.close();
  });
});

describe('reset by groups', () => {
  it('PCI-061 PCI-062 CORE-135 CORE-136 refuses flags, and no groups at all', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    await expect(open.hotReset([open.group], 1)).rejects.toEqual(errno('EINVAL'));
    await expect(open.hotReset([], 0, 11)).rejects.toEqual(errno('EINVAL'));
    await expect(open.hotReset([])).rejects.toEqual(errno('EINVAL'));
    await open.close();
  });

  it('PCI-063 CORE-136 refuses more groups than there are functions', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    const groups = [open.group, open.group, open.group];
    await expect(open.hotReset(groups)).rejects.toEqual(errno('EINVAL'));
    await open.close();
  });

  it('PCI-064 CORE-136 refuses a closed descriptor, and one that is no group', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    await expect(open.hotReset([999])).rejects.toEqual(errno('EBADF'));
    await expect(open.hotReset([open.group, open.container])).rejects.toEqual(errno('EINVAL'));
    await expect(open.hotReset([open.fd])).rejects.toEqual(errno('EINVAL'));
    await open.close();
  });

  it('PCI-066 CORE-137 resets all with the group of all, which may come twice', async () => {
    const [first, second] = [everyBar(), everyBar()];
    await using lab = await CoreLab.create({ functions: pair(first, second), bind: [NAME, OTHER] });
    const open = await lab.open();
    const before = [busResets(first), busResets(second)];
    expect(await open.hotReset([open.group, open.group])).toBe(0);
    expect([busResets(first), busResets(second)]).toEqual(before.map((count) => count + 1));
    await open.close();
  });

  it('PCI-065 CORE-137 H19 refuses without the group of one, and no lock is left', async () => {
    await using lab = await CoreLab.create({ functions: isolated(), bind: [NAME, OTHER] });
    expect(lab.pdev(NAME).iommuGroup).not.toBe(lab.pdev(OTHER).iommuGroup);
    const open = await lab.open();
    const other = await lab.openBeside(open, OTHER);
    await expect(open.hotReset([open.group])).rejects.toEqual(errno('EINVAL'));
    for (const name of [NAME, OTHER]) {
      expect(lab.device(name).memoryLock.locked).toBe(false);
      expect(lab.device(name).deviceSet?.lock.locked).toBe(false);
    }
    expect(await open.hotReset([open.group, other.group])).toBe(0);
    await open.process.exit();
  });

  it('CORE-137 H18 refuses with a function of a foreign driver on the bus, and nothing is reset', async () => {
    const [first, second] = [everyBar(), everyBar()];
    await using lab = await CoreLab.create({ functions: pair(first, second), bind: [NAME] });
    const driver = new PciDriver({ name: 'foreign', bus: lab.bus, managesDma: true, probe: () => {} });
    await registerDriver(driver);
    await lab.root.writeFile(`/sys/bus/pci/devices/${OTHER}/driver_override`, 'foreign');
    await lab.root.writeFile('/sys/bus/pci/drivers/foreign/bind', OTHER);
    const open = await lab.open();
    const before = busResets(first);
    await expect(open.hotReset([open.group])).rejects.toEqual(errno('EINVAL'));
    expect(busResets(first)).toBe(before);
    await open.close();
    await unregisterDriver(driver);
  });

  it('PCI-067 H21 refuses while somebody accesses a member, and lets go of the others', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    await lab.openBeside(open, OTHER);
    const reader = lab.device(OTHER).memoryLock.tryRead();
    await expect(open.hotReset([open.group])).rejects.toEqual(errno('EBUSY'));
    expect(lab.device(NAME).memoryLock.locked).toBe(false);
    reader?.release();
    expect(await open.hotReset([open.group])).toBe(0);
    await open.process.exit();
  });

  it('PCI-068 takes the mappings of every member away, and they come back', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    const other = await lab.openBeside(open, OTHER);
    const { mm } = open.process;
    const addresses: bigint[] = [];
    for (const one of [open, other]) {
      await one.enableMemory();
      const address = await one.mmap(0, 0, 0x4000);
      mm.store(address, 4, 0x1234n);
      addresses.push(address);
    }
    // Pages that are there do not ask again whether they may be.
    const sleep = (engaged: boolean) => {
      for (const name of [NAME, OTHER]) lab.device(name).pmRuntimeEngaged = engaged;
    };
    sleep(true);
    for (const address of addresses) expect(mm.load(address, 4)).toBe(0x1234n);
    sleep(false);
    await open.hotReset([open.group]);
    sleep(true);
    for (const address of addresses) expect(() => mm.load(address, 4)).toThrow('SIGBUS');
    sleep(false);
    for (const address of addresses) expect(mm.load(address, 4)).toBe(0x1234n);
    await open.process.exit();
  });

  it('PCI-070 gives buffers again only of members that are open with memory enabled', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    await open.enableMemory();
    const moves = [NAME, OTHER].map((name) => vi.spyOn(lab.device(name).dmabufs, 'move'));
    await open.hotReset([open.group]);
    expect(moves.map(({ mock }) => mock.calls.flat())).toEqual([[true, false], [true]]);
    await open.command(0);
    for (const move of moves) move.mockClear();
    await open.hotReset([open.group]);
    expect(moves.map(({ mock }) => mock.calls.flat())).toEqual([[true], [true]]);
    await open.close();
  });

  it('PCI-069 wakes members that are in D3 before', async () => {
    const [first, second] = [everyBar(), everyBar()];
    await using lab = await CoreLab.create({ functions: pair(first, second), bind: [NAME, OTHER] });
    const open = await lab.open();
    await lab.openBeside(open, OTHER);
    await setPowerState(lab.device(OTHER), PowerState.D3hot);
    expect(lab.pdev(OTHER).currentState).toBe(PowerState.D3hot);
    const states: unknown[] = [];
    const reset = second.busReset.bind(second);
    second.busReset = () => {
      states.push(lab.pdev(OTHER).currentState);
      reset();
    };
    await open.hotReset([open.group]);
    expect(states).toEqual([PowerState.D0]);
    await open.process.exit();
  });

  it('members need not be open, but owned; who sleeps is woken for it and sleeps again', async () => {
    await using lab = await CoreLab.create({ functions: isolated(), bind: [NAME, OTHER] });
    const open = await lab.open();
    expect(lab.pdev(OTHER).pm.status).toBe('suspended');
    await expect(open.hotReset([open.group])).rejects.toEqual(errno('EINVAL'));
    const group = await open.process.open(`/dev/vfio/${lab.pdev(OTHER).iommuGroup?.id}`, O.RDWR);
    expect(await open.hotReset([open.group, group])).toBe(0);
    expect(lab.pdev(OTHER).pm.status).toBe('suspended');
    await open.process.exit();
  });

  it('EAGAIN while somebody has the lock of a function', async () => {
    await using lab = await CoreLab.create({ functions: pair(), bind: [NAME, OTHER] });
    const open = await lab.open();
    const held = await lab.pdev(OTHER).lock.lock();
    await expect(open.hotReset([open.group])).rejects.toEqual(errno('EAGAIN'));
    held.release();
    expect(lab.device(NAME).memoryLock.locked).toBe(false);
    await open.close();
  });
});

describe('with iommufd', () => {
  const vfio = { iommufd: true, deviceCdev: true, container: false } as const;

  /** Opens a function through its node and binds it. */
  async function bindCdev(lab: CoreLab, name: string, process = lab.host.spawn(), iommufd?: number) {
    const context = iommufd ?? (await process.open('/dev/iommu', O.RDWR));
    const fd = await process.open(`/dev/vfio/devices/${lab.device(name).name}`, O.RDWR);
    const bind = new Uint8Array(24);
    const view = new DataView(bytesOf(bind));
    view.setUint32(0, 24, true);
    view.setInt32(8, context, true);
    await process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, bind);
    return { open: new OpenFunction(process, fd, -1, context), devid: view.getUint32(12, true), context };
  }

  it('PCI-059 CORE-134 tells ids of what is bound, and 0 of what the group brings', async () => {
    await using lab = await CoreLab.create({ functions: pair(), vfio, bind: [NAME, OTHER] });
    const { open, devid } = await bindCdev(lab, NAME);
    const { devices, flags } = await open.hotResetInfo(8);
    expect(flags).toBe(PciHotResetFlag.DEV_ID | PciHotResetFlag.DEV_ID_OWNED);
    expect(devid).toBeGreaterThan(0);
    expect(devices.map((one) => one.groupId)).toEqual([devid, 0]);
    await open.process.exit();
  });

  it('PCI-060 CORE-134 tells of what is not owned', async () => {
    await using lab = await CoreLab.create({ functions: isolated(), vfio, bind: [NAME] });
    const { open, devid } = await bindCdev(lab, NAME);
    const { devices, flags } = await open.hotResetInfo(8);
    expect(flags).toBe(PciHotResetFlag.DEV_ID);
    expect(devices.map((one) => one.groupId)).toEqual([devid, 0xffff_ffff]);
    await open.process.exit();
  });

  it('PCI-062 CORE-135 resets without descriptors only', async () => {
    const [first, second] = [everyBar(), everyBar()];
    await using lab = await CoreLab.create({ functions: pair(first, second), vfio, bind: [NAME, OTHER] });
    const { open } = await bindCdev(lab, NAME);
    await expect(open.hotReset([open.fd])).rejects.toEqual(errno('EINVAL'));
    const before = busResets(second);
    expect(await open.hotReset([])).toBe(0);
    expect(busResets(second)).toBe(before + 1);
    await open.process.exit();
  });

  it('PCI-071 refuses with a member of another iommufd, or of none', async () => {
    await using lab = await CoreLab.create({ functions: isolated(), vfio, bind: [NAME, OTHER] });
    const mine = await bindCdev(lab, NAME);
    await expect(mine.open.hotReset([])).rejects.toEqual(errno('EINVAL'));
    const other = await bindCdev(lab, OTHER);
    await expect(mine.open.hotReset([])).rejects.toEqual(errno('EINVAL'));
    await other.open.process.exit();
    const same = await bindCdev(lab, OTHER, mine.open.process, mine.context);
    expect(await mine.open.hotReset([])).toBe(0);
    expect(same.devid).not.toBe(mine.devid);
    await mine.open.process.exit();
  });
});

describe('with virtual functions', () => {
  it('PCI-071 a physical function that has some is never reset by its bus', async () => {
    await using lab = await CoreLab.create({
      functions: [[8, labBridge([[0, physical()]])]],
      params: { enable_sriov: '1' },
      bind: [NAME],
    });
    await lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/sriov_numvfs`, '1');
    const open = await lab.open();
    await expect(open.hotReset([open.group])).rejects.toEqual(errno('EINVAL'));
    await open.close();
    await lab.root.writeFile(`/sys/bus/pci/devices/${NAME}/sriov_numvfs`, '0');
    const again = await lab.open();
    expect(await again.hotReset([again.group])).toBe(0);
    await again.close();
  });
});

function bytesOf(bytes: Uint8Array<ArrayBuffer>): ArrayBuffer {
  return bytes.buffer;
}
