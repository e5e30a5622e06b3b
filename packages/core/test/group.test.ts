import { KvmVmFile, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { runDeferred } from '../src/device-open.js';
import {
  allocDevice,
  fileSetKvm,
  groupStatus,
  iommuType1DmaMap,
  putDevice,
  Request,
  regionInfo,
  registerGroupDev,
  unregisterGroupDev,
  VfioDevice,
  VfioError,
} from '../src/index.js';
import { benchForEach, closePath, code, openPath, register, type TestBench, TestDevice } from './harness.js';

let on: TestBench;
benchForEach((made) => {
  on = made;
});

describe('the group file', () => {
  it('CORE-113 GET_STATUS: argsz, viable, attached, owned elsewhere', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    const short = groupStatus.encode({ argsz: 7 }, 'little');
    await expect(on.process.ioctl(group, Request.GROUP_GET_STATUS, short)).rejects.toEqual(code('EINVAL'));
    expect(await on.status(group)).toBe(1);
    const container = await on.openContainer();
    await on.setContainer(group, container);
    expect(await on.status(group)).toBe(3);
    await on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER);
    const owner = {};
    one.parent.iommuGroup!.claimDmaOwner(owner);
    expect(await on.status(group)).toBe(0);
    one.parent.iommuGroup!.releaseDmaOwner();
    await on.process.close(group);
    await on.process.close(container);
  });

  it('CORE-109 SET_CONTAINER: null, closed descriptor, foreign file, set already', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    const container = await on.openContainer();
    const stranger = await on.process.open('/dev/null', O.RDWR);
    const set = (fd: number) => on.setContainer(group, fd);
    await expect(on.process.ioctl(group, Request.GROUP_SET_CONTAINER, 0)).rejects.toEqual(code('EFAULT'));
    await expect(set(-1)).rejects.toEqual(code('EBADF'));
    await expect(set(999)).rejects.toEqual(code('EBADF'));
    await expect(set(stranger)).rejects.toEqual(code('EBADFD'));
    await expect(set(group)).rejects.toEqual(code('EBADFD'));
    await set(container);
    await expect(set(container)).rejects.toEqual(code('EINVAL'));
    await on.process.close(group);
    await on.process.close(container);
  });

  it('CORE-110 SET_CONTAINER of a group that a host driver uses: EPERM', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    const container = await on.openContainer();
    one.parent.iommuGroup!.useDefaultDomain();
    await expect(on.setContainer(group, container)).rejects.toEqual(code('EPERM'));
    expect(await on.status(group)).toBe(0);
    one.parent.iommuGroup!.unuseDefaultDomain();
    await on.setContainer(group, container);
    await on.process.close(group);
    await on.process.close(container);
  });

  it('CORE-114, CORE-115 and CORE-116: UNSET without container EINVAL, second open EBUSY, unknown request ENOTTY', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    await expect(on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER)).rejects.toEqual(code('EINVAL'));
    await expect(on.openGroup(one.device)).rejects.toEqual(code('EBUSY'));
    await expect(on.process.ioctl(group, Request.DEVICE_GET_INFO)).rejects.toEqual(code('ENOTTY'));
    await on.process.close(group);
    await on.process.close(await on.openGroup(one.device));
  });
});

describe('GET_DEVICE_FD', () => {
  it('CORE-032 without a container: EINVAL', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    // without this check the open would fail later, for want of an IOMMU driver: the reason tells them apart
    const failure = {
      code: 'EINVAL',
      message: expect.stringContaining(`group ${one.device.group?.name} has no container`),
    };
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(expect.objectContaining(failure));
    await on.process.close(group);
  });

  it('CORE-033 before SET_IOMMU: EINVAL, and nothing is kept', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    const container = await on.openContainer();
    await on.setContainer(group, container);
    const files = on.host.tracker.leaks().length;
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('EINVAL'));
    expect(on.host.tracker.leaks().length).toBe(files);
    expect([one.device.openCount, one.device.group?.containerUsers]).toEqual([0, 1]);
    await on.process.close(group);
    await on.process.close(container);
  });

  it('CORE-034 unknown name ENODEV, unterminated EINVAL, bad pointer EFAULT', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const request = (argument: number | bigint | Uint8Array) =>
      on.process.ioctl(path.group, Request.GROUP_GET_DEVICE_FD, argument);
    await expect(on.getDeviceFd(path.group, 'nonesuch')).rejects.toEqual(code('ENODEV'));
    await expect(request(new Uint8Array(5000).fill(0x61))).rejects.toEqual(code('EINVAL'));
    await expect(request(new Uint8Array(10).fill(0x61))).rejects.toEqual(code('EFAULT'));
    await expect(request(0)).rejects.toEqual(code('EFAULT'));
    await closePath(on, path);
  });

  it('CORE-036 compares the name byte for byte when the device has no match', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    for (const name of ['DEV0', 'dev', 'dev00', 'dev0 ', '']) {
      await expect(on.getDeviceFd(path.group, name)).rejects.toEqual(code('ENODEV'));
    }
    await closePath(on, path);
  });

  it('CORE-035 a negative match ends the search although a later device would match', async () => {
    class Strict extends VfioDevice {
      override match(): boolean {
        throw new VfioError('EACCES', 'wrong token');
      }
    }
    await using one = await register(on, 'dev0');
    const strict = await allocDevice(on.vfio, Strict, await on.addParent('dev1', one.parent.iommuGroup!), undefined);
    const path = await openPath(on, one.device);
    await registerGroupDev(strict);
    await expect(on.getDeviceFd(path.group, 'dev0')).rejects.toEqual(code('EACCES'));
    await unregisterGroupDev(strict);
    await putDevice(strict);
    await on.process.close(await on.getDeviceFd(path.group, 'dev0'));
    await closePath(on, path);
  });

  it('CORE-037 first open: module, IOMMU, open_device, with open_count 1', async () => {
    const seen: unknown[] = [];
    class Watches extends VfioDevice {
      override openDevice(): void {
        seen.push([this.dev.driver?.module?.refcount, this.group?.containerUsers, this.openCount]);
      }
    }
    const parent = await on.addParent('dev0');
    const device = await allocDevice(on.vfio, Watches, parent, undefined);
    await registerGroupDev(device);
    const before = on.driver.module!.refcount;
    await closePath(on, await openPath(on, device));
    expect(seen).toEqual([[before + 1, 2, 1]]);
    expect(on.driver.module!.refcount).toBe(before);
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('holds module vfio once for a container and for each device file, and twice for a group', async () => {
    await using one = await register(on, 'dev0');
    const refcnt = async () => Number(await on.process.readFile('/sys/module/vfio/refcnt'));
    const before = await refcnt();
    const container = await on.openContainer();
    expect(await refcnt()).toBe(before + 1);
    const group = await on.openGroup(one.device);
    expect(await refcnt()).toBe(before + 3);
    await on.setContainer(group, container);
    await on.process.ioctl(container, Request.SET_IOMMU, 3);
    const files = [await on.getDeviceFd(group, 'dev0'), await on.getDeviceFd(group, 'dev0')];
    expect(await refcnt()).toBe(before + 5);
    on.process.dup(files[0]!);
    expect(await refcnt()).toBe(before + 5);
    for (const fd of on.process.files.descriptors()) await on.process.close(fd);
    expect(await refcnt()).toBe(before);
  });

  it('CORE-038, CORE-041, CORE-042 and CORE-043 (H01, H03): operations at the first open and the last close only', async () => {
    const counts: number[] = [];
    class Counts extends TestDevice {
      override closeDevice(): void {
        counts.push(this.openCount);
        super.closeDevice();
      }
    }
    const device = await allocDevice(on.vfio, Counts, await on.addParent('dev0'), {});
    await registerGroupDev(device);
    const path = await openPath(on, device);
    const second = await on.getDeviceFd(path.group, 'dev0');
    expect([device.openCount, device.journal]).toEqual([2, ['init', 'openDevice']]);
    await on.process.close(path.device);
    expect([device.openCount, device.journal]).toEqual([1, ['init', 'openDevice']]);
    const info = regionInfo.encode({ argsz: regionInfo.size }, 'little');
    expect(await on.process.ioctl(second, Request.DEVICE_GET_REGION_INFO, info)).toBe(0);
    await on.process.close(second);
    expect([device.openCount, counts, device.journal]).toEqual([0, [1], ['init', 'openDevice', 'closeDevice']]);
    await on.process.close(await on.getDeviceFd(path.group, 'dev0'));
    expect(device.journal.slice(3)).toEqual(['openDevice', 'closeDevice']);
    await on.process.close(path.group);
    await on.process.close(path.container);
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('CORE-039 (H26) a failing open_device undoes container use, module, registration and descriptor', async () => {
    const fail: { openDevice?: 'EIO' } = { openDevice: 'EIO' };
    await using one = await register(on, 'dev0', { fail });
    const group = await on.openGroup(one.device);
    const container = await on.openContainer();
    await on.setContainer(group, container);
    await on.process.ioctl(container, Request.SET_IOMMU, 3);
    await on.host.modules.modprobe('kvm');
    const kvm = await on.process.open('/dev/kvm', O.RDWR);
    const vm = await on.process.ioctl(kvm, 0xae01);
    const vmFile = on.process.files.get(vm);
    if (!(vmFile instanceof KvmVmFile)) throw new TypeError('no machine');
    fileSetKvm(on.process.files.get(group), vmFile.vm);
    const state = () => [
      one.device.openCount,
      one.device.group?.containerUsers,
      on.driver.module!.refcount,
      one.device.record?.registration.value,
      one.device.kvm,
    ];
    const before = [0, 1, on.driver.module!.refcount, 1, undefined];
    expect(state()).toEqual(before);
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('EIO'));
    expect(state()).toEqual(before);
    delete fail.openDevice;
    const fd = await on.getDeviceFd(group, 'dev0');
    expect([fd, one.device.kvm]).toEqual([vm + 1, vmFile.vm]);
    for (const open of [fd, group, container, vm, kvm]) await on.process.close(open);
  });

  it('CORE-040 takes a missing open_device for success', async () => {
    class Bare extends VfioDevice {}
    const device = await allocDevice(on.vfio, Bare, await on.addParent('dev0'), undefined);
    await registerGroupDev(device);
    await closePath(on, await openPath(on, device));
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('CORE-044 the descriptor is close-on-exec, takes pread and pwrite and refuses lseek', async () => {
    class Echo extends VfioDevice {
      override read(buffer: { bytes: Uint8Array }, position: number): number {
        buffer.bytes.fill(position);
        return buffer.bytes.length;
      }
      override write(buffer: { length: number }): number {
        return buffer.length;
      }
    }
    const device = await allocDevice(on.vfio, Echo, await on.addParent('dev0'), undefined);
    await registerGroupDev(device);
    const path = await openPath(on, device);
    const bytes = new Uint8Array(2);
    expect([await on.process.pread(path.device, bytes, 7), bytes[0]]).toEqual([2, 7]);
    expect(await on.process.pwrite(path.device, bytes, 7)).toBe(2);
    expect(() => on.process.lseek(path.device, 0, 0)).toThrow(code('ESPIPE'));
    expect(on.process.files.isCloexec(path.device)).toBe(true);
    await closePath(on, path);
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('CORE-045 with a full descriptor table: EMFILE, and the device was not opened', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    await on.process.close(path.device);
    on.process.setrlimit('nofile', path.device);
    const journal = one.device.journal.length;
    await expect(on.getDeviceFd(path.group, 'dev0')).rejects.toEqual(code('EMFILE'));
    expect(one.device.journal.length).toBe(journal);
    for (const fd of [path.group, path.container]) await on.process.close(fd);
  });

  it('gives everything back although close_device throws, and shows the bug', async () => {
    class Breaks extends VfioDevice {
      override closeDevice(): void {
        throw new TypeError('a bug of the driver');
      }
    }
    const device = await allocDevice(on.vfio, Breaks, await on.addParent('dev0'), undefined);
    await registerGroupDev(device);
    const path = await openPath(on, device);
    await expect(on.process.close(path.device)).rejects.toThrow('a bug of the driver');
    expect([device.openCount, device.group?.containerUsers, on.driver.module!.refcount]).toEqual([0, 1, 0]);
    await on.process.close(path.group);
    await on.process.close(path.container);
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('gives everything back although the IOMMU driver throws, when a device and when the group is closed', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const { group } = one.device;
    const backend = group?.container?.backend;
    if (!group || !backend?.unregisterDevice) throw new TypeError('no container');
    const [detachGroup, unregisterDevice] = [backend.detachGroup.bind(backend), backend.unregisterDevice.bind(backend)];
    backend.unregisterDevice = async (device) => {
      await unregisterDevice(device);
      throw new TypeError('a device is gone');
    };
    backend.detachGroup = async (iommuGroup) => {
      await detachGroup(iommuGroup);
      throw new TypeError('a group is gone');
    };
    const { refcount } = on.host.modules.get('vfio') ?? {};
    const users = on.host.modules.get('vfio_iommu_type1')?.refcount;
    await expect(on.process.close(path.device)).rejects.toThrow('a device is gone');
    expect([one.device.openCount, group.containerUsers, on.driver.module!.refcount]).toEqual([0, 1, 0]);
    await expect(on.process.close(path.group)).rejects.toThrow('a group is gone');
    expect([group.container, group.containerUsers, group.openedFile]).toEqual([undefined, 0, undefined]);
    expect(group.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    expect(on.host.modules.get('vfio')?.refcount).toBe((refcount ?? 0) - 3);
    expect(on.host.modules.get('vfio_iommu_type1')?.refcount).toBe((users ?? 0) - 1);
    await on.process.close(path.container);
    await closePath(on, await openPath(on, one.device));
  });

  it('gives everything back when any step fails, also after open_device (H27)', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    await on.process.close(path.device);
    const state = () => [
      one.device.openCount,
      one.device.group?.containerUsers,
      on.driver.module!.refcount,
      one.device.record?.registration.value,
      on.host.tracker.leaks().length,
    ];
    const before = state();
    const recording = on.host.faults.record();
    await on.process.close(await on.getDeviceFd(path.group, 'dev0'));
    recording.stop();
    expect(recording.steps.length).toBeGreaterThan(1);
    for (const index of recording.steps.keys()) {
      const arm = on.host.faults.failAt(index);
      await expect(on.getDeviceFd(path.group, 'dev0')).rejects.toThrow();
      expect([arm.fired, state()]).toEqual([true, before]);
      expect(one.device.journal.at(-1)).not.toBe('openDevice');
    }
    for (const fd of [path.group, path.container]) await on.process.close(fd);
  });
});

describe('runDeferred', () => {
  it('does every step once, in order, also when one throws', async () => {
    const done: string[] = [];
    const step = (name: string, failure?: Error) => async () => {
      done.push(name);
      if (failure) throw failure;
    };
    const deferred = [step('first'), step('second', new TypeError('a bug')), step('third')];
    await expect(runDeferred(deferred)).rejects.toThrow('a bug');
    await runDeferred(deferred);
    expect(done).toEqual(['first', 'second', 'third']);
  });
});

describe('containers and open devices', () => {
  it('CORE-046 and CORE-047 one container user for each open device, not for each descriptor', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const second = await on.getDeviceFd(path.group, 'dev0');
    expect(one.device.group?.containerUsers).toBe(2);
    const unset = () => on.process.ioctl(path.group, Request.GROUP_UNSET_CONTAINER);
    await expect(unset()).rejects.toEqual(code('EBUSY'));
    await on.process.close(second);
    await expect(unset()).rejects.toEqual(code('EBUSY'));
    await on.process.close(path.device);
    expect(await unset()).toBe(0);
    await on.process.close(path.group);
    await on.process.close(path.container);
  });

  it('CORE-048 (H24) an open device keeps the group file: reopening the group is EBUSY until it is closed', async () => {
    await using one = await register(on, 'dev0');
    const { group } = one.device;
    const path = await openPath(on, one.device);
    const vaddr = on.process.mm.mmap({ length: 4096, prot: 3 });
    on.process.mm.copyTo(vaddr, Uint8Array.of(7));
    const map = iommuType1DmaMap.encode({ argsz: 32, flags: 3, vaddr, iova: 0n, size: 4096n }, 'little');
    await on.process.ioctl(path.container, Request.IOMMU_MAP_DMA, map);
    const { container } = group ?? {};
    const files = on.host.tracker.count('file');
    await on.process.close(path.group);
    await on.process.close(path.container);
    // the file of the container went, that of the group did not, and neither did the mappings
    expect(on.host.tracker.count('file')).toBe(files - 1);
    expect(container?.groups).toEqual([group]);
    expect([group?.container, group?.containerUsers]).toEqual([container, 2]);
    const dma = on.host.iommu.dma(one.device.dev);
    const seen = new Uint8Array(1);
    await dma.read(0n, seen);
    expect([...seen]).toEqual([7]);
    expect(on.host.modules.get('vfio_iommu_type1')?.refcount).toBe(1);
    await expect(on.openGroup(one.device)).rejects.toEqual(code('EBUSY'));
    await on.process.close(path.device);
    expect([group?.container, container?.groups, container?.backend]).toEqual([undefined, [], undefined]);
    expect(on.host.tracker.count('file')).toBe(files - 3);
    expect(on.host.modules.get('vfio_iommu_type1')?.refcount).toBe(0);
    expect(group?.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    await expect(async () => dma.read(0n, seen)).rejects.toThrow();
    await on.process.close(await on.openGroup(one.device));
  });

  it('CORE-051 container, group and device may be closed in any order', async () => {
    await using one = await register(on, 'dev0');
    const orders = [
      ['container', 'group', 'device'],
      ['container', 'device', 'group'],
      ['group', 'container', 'device'],
      ['group', 'device', 'container'],
      ['device', 'container', 'group'],
      ['device', 'group', 'container'],
    ] as const;
    for (const order of orders) {
      const path = await openPath(on, one.device);
      for (const which of order) await on.process.close(path[which]);
      expect([one.device.openCount, one.device.group?.container]).toEqual([0, undefined]);
    }
    expect(on.host.log.warnings()).toEqual([]);
  });

  it('CORE-206 the driver module cannot be unloaded while the device is open', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const second = await on.getDeviceFd(path.group, 'dev0');
    expect(on.driver.module!.refcount).toBe(1);
    await expect(on.host.modules.rmmod('test_driver')).rejects.toEqual(code('EAGAIN'));
    await on.process.close(second);
    await closePath(on, path);
    expect(on.driver.module!.refcount).toBe(0);
  });
});
