import { describe, expect, it } from 'vitest';
import type { IommuBackend, IommuDriver } from '../src/index.js';
import { Extension, Request, VfioError } from '../src/index.js';
import { benchForEach, closePath, code, openPath, register, type TestBench } from './harness.js';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

const ioctl = (fd: number, request: number, argument: number | bigint = 0) => on.process.ioctl(fd, request, argument);

/** An IOMMU driver that notes what is asked of it, and refuses groups as told. */
function fakeDriver(
  journal: string[],
  options: { kind?: number; refuseGroup?: number; refuseOpen?: boolean; refuseDevice?: boolean } = {},
): IommuDriver {
  const { kind = 77, refuseGroup, refuseOpen = false, refuseDevice = false } = options;
  let attached = 0;
  const backend: IommuBackend = {
    checkExtension: (arg) => (arg === kind ? 1 : 0),
    async ioctl() {
      throw new VfioError('ENOTTY', 'none');
    },
    async attachGroup(group) {
      if (attached++ === refuseGroup) throw new VfioError('EINVAL', 'refused');
      journal.push(`attach ${group.id}`);
    },
    async detachGroup(group) {
      journal.push(`detach ${group.id}`);
    },
    async release() {
      journal.push('release');
    },
    registerDevice() {
      if (refuseDevice) throw new VfioError('ENOMEM', 'refused');
    },
    unregisterDevice() {},
  };
  return {
    name: 'fake',
    checkExtension: (arg) => (arg === kind ? 1 : 0),
    open: () => {
      if (refuseOpen) throw new VfioError('ENOMEM', 'refused');
      journal.push('open');
      attached = 0;
      return backend;
    },
  };
}

describe('the container file', () => {
  it('CORE-101 GET_API_VERSION is 0 without a group', async () => {
    const container = await on.openContainer();
    expect(await ioctl(container, Request.GET_API_VERSION, 1234)).toBe(0);
    await on.process.close(container);
  });

  it('CORE-105 SET_IOMMU without group EINVAL, twice EINVAL, unsupported ENODEV', async () => {
    await using one = await register(on, 'dev0');
    const container = await on.openContainer();
    await expect(ioctl(container, Request.SET_IOMMU, 3)).rejects.toEqual(code('EINVAL'));
    const group = await on.openGroup(one.device);
    await on.setContainer(group, container);
    for (const kind of [0, 2, 6, 8, 99]) {
      await expect(ioctl(container, Request.SET_IOMMU, kind)).rejects.toEqual(code('ENODEV'));
    }
    // a number of an extension that is no IOMMU
    await expect(ioctl(container, Request.SET_IOMMU, Extension.UNMAP_ALL)).rejects.toEqual(code('EINVAL'));
    await ioctl(container, Request.SET_IOMMU, 3);
    await expect(ioctl(container, Request.SET_IOMMU, 3)).rejects.toEqual(code('EINVAL'));
    for (const fd of [group, container]) await on.process.close(fd);
  });

  it('CORE-105 takes the whole argument of 64 bits: nothing far above 2^32 is an extension or an IOMMU', async () => {
    await using one = await register(on, 'dev0');
    const { container, group } = await openGroupOnly(one.device);
    for (const high of [2n ** 32n, 2n ** 53n, 2n ** 63n, 2n ** 64n - 2n ** 16n]) {
      expect(await ioctl(container, Request.CHECK_EXTENSION, high + 1n)).toBe(0);
      await expect(ioctl(container, Request.SET_IOMMU, high + 3n)).rejects.toEqual(code('ENODEV'));
    }
    await ioctl(container, Request.SET_IOMMU, 3);
    expect(await ioctl(container, Request.CHECK_EXTENSION, 2n ** 53n + 1n)).toBe(0);
    for (const fd of [group, container]) await on.process.close(fd);
  });

  it('CORE-106 anything else before SET_IOMMU EINVAL, unknown requests after ENOTTY', async () => {
    await using one = await register(on, 'dev0');
    const container = await on.openContainer();
    await expect(ioctl(container, Request.IOMMU_GET_INFO)).rejects.toEqual(code('EINVAL'));
    await expect(ioctl(container, 0x3bff)).rejects.toEqual(code('EINVAL'));
    await on.process.close(container);
    const path = await openPath(on, one.device);
    await expect(ioctl(path.container, 0x3bff)).rejects.toEqual(code('ENOTTY'));
    await closePath(on, path);
  });

  it('CORE-107 SET_IOMMU attaches all groups, or none and stays unset', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1');
    const journal: string[] = [];
    const refusing = fakeDriver(journal, { refuseGroup: 1 });
    await on.vfio.registerIommuDriver(refusing);
    const container = await on.openContainer();
    const groups: number[] = [];
    for (const { device } of [one, two]) {
      const group = await on.openGroup(device);
      await on.setContainer(group, container);
      groups.push(group);
    }
    const [a, b] = [one, two].map(({ parent }) => parent.iommuGroup?.id);
    await expect(ioctl(container, Request.SET_IOMMU, 77)).rejects.toEqual(code('EINVAL'));
    expect(journal).toEqual(['open', `attach ${b}`, `detach ${b}`, 'release']);
    await expect(ioctl(container, Request.IOMMU_GET_INFO)).rejects.toEqual(code('EINVAL'));
    await on.vfio.unregisterIommuDriver(refusing);
    const willing = fakeDriver(journal);
    await on.vfio.registerIommuDriver(willing);
    journal.length = 0;
    await ioctl(container, Request.SET_IOMMU, 77);
    // the container lists its groups newest first
    expect(journal).toEqual(['open', `attach ${b}`, `attach ${a}`]);
    for (const fd of [...groups, container]) await on.process.close(fd);
    expect(journal.slice(3)).toEqual([`detach ${a}`, `detach ${b}`, 'release']);
    await on.vfio.unregisterIommuDriver(willing);
  });

  it('asks drivers newest first, goes on after a failure and returns the last errno', async () => {
    await using one = await register(on, 'dev0');
    const journal: string[] = [];
    const older = fakeDriver(journal);
    const newer = fakeDriver(journal, { refuseOpen: true });
    await on.vfio.registerIommuDriver(older);
    await on.vfio.registerIommuDriver(newer);
    await expect(on.vfio.registerIommuDriver(newer)).rejects.toEqual(code('EINVAL'));
    const container = await on.openContainer();
    const group = await on.openGroup(one.device);
    await on.setContainer(group, container);
    await ioctl(container, Request.SET_IOMMU, 77);
    expect(journal[0]).toBe('open');
    for (const fd of [group, container]) await on.process.close(fd);
    await on.vfio.unregisterIommuDriver(older);
    const again = await openGroupOnly(one.device);
    await expect(ioctl(again.container, Request.SET_IOMMU, 77)).rejects.toEqual(code('ENOMEM'));
    for (const fd of [again.group, again.container]) await on.process.close(fd);
    await on.vfio.unregisterIommuDriver(newer);
  });

  it('has no user more after an open that the IOMMU driver refused', async () => {
    await using one = await register(on, 'dev0');
    const driver = fakeDriver([], { refuseDevice: true });
    await on.vfio.registerIommuDriver(driver);
    const { container, group } = await openGroupOnly(one.device);
    await ioctl(container, Request.SET_IOMMU, 77);
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('ENOMEM'));
    expect([one.device.openCount, one.device.group?.containerUsers]).toEqual([0, 1]);
    await on.process.close(group);
    // the group's file went with its descriptor
    await on.process.close(await on.openGroup(one.device));
    await on.process.close(container);
    await on.vfio.unregisterIommuDriver(driver);
  });

  async function openGroupOnly(device: Parameters<TestBench['openGroup']>[0]) {
    const container = await on.openContainer();
    const group = await on.openGroup(device);
    await on.setContainer(group, container);
    return { container, group };
  }

  it('CORE-108 the last group resets the container', async () => {
    await using one = await register(on, 'dev0');
    const { container, group } = await openGroupOnly(one.device);
    await ioctl(container, Request.SET_IOMMU, 3);
    await ioctl(group, Request.GROUP_UNSET_CONTAINER);
    await expect(ioctl(container, Request.IOMMU_GET_INFO)).rejects.toEqual(code('EINVAL'));
    await on.setContainer(group, container);
    expect(await ioctl(container, Request.SET_IOMMU, 1)).toBe(0);
    for (const fd of [group, container]) await on.process.close(fd);
  });

  it('CORE-111 a group is in one container; two groups in one share it', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1');
    const { container, group } = await openGroupOnly(one.device);
    const other = await on.openContainer();
    await expect(on.setContainer(group, other)).rejects.toEqual(code('EINVAL'));
    await on.process.close(other);
    await ioctl(container, Request.SET_IOMMU, 3);
    const second = await on.openGroup(two.device);
    await on.setContainer(second, container);
    expect(two.device.group?.container).toBe(one.device.group?.container);
    const a = await on.getDeviceFd(group, 'dev0');
    const b = await on.getDeviceFd(second, 'dev1');
    for (const fd of [a, b, group, second, container]) await on.process.close(fd);
  });

  it('undoes the claim of a group when its attach fails at any step', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1');
    const { container, group } = await openGroupOnly(one.device);
    await ioctl(container, Request.SET_IOMMU, 3);
    const second = await on.openGroup(two.device);
    const recording = on.host.faults.record();
    await on.setContainer(second, container);
    recording.stop();
    await ioctl(second, Request.GROUP_UNSET_CONTAINER);
    for (const index of recording.steps.keys()) {
      const arm = on.host.faults.failAt(index);
      const state = () => [arm.fired, two.device.group?.container, two.parent.iommuGroup?.dmaOwnerClaimed()];
      try {
        await on.setContainer(second, container);
      } catch {
        expect(state()).toEqual([true, undefined, false]);
        continue;
      }
      // a step without which it goes on
      await ioctl(second, Request.GROUP_UNSET_CONTAINER);
      expect(state()).toEqual([true, undefined, false]);
    }
    await on.setContainer(second, container);
    for (const fd of [second, group, container]) await on.process.close(fd);
  });

  it('lives on without its file while a group is attached', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    await on.process.close(path.container);
    expect(await on.status(path.group)).toBe(3);
    await on.process.close(path.device);
    await on.process.close(path.group);
  });
});
