// What other subsystems have to do with devices: virtual machines behind every door, coherency, and devices without an IOMMU
// on an iommufd.

import { KvmVmFile, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  Extension,
  fileEnforcedCoherent,
  fileSetKvm,
  KVM_DEV_TYPE_VFIO,
  putDevice,
  Request,
  registerGroupDev,
  unregisterGroupDev,
  type VfioDevice,
} from '../src/index.js';
import { bind, EmulatedDevice, openCdev, openIommufd, PhysicalDevice, registerAs } from './cdev-harness.js';
import { bench, closePath, code, iommu, openPath, type TestBench } from './harness.js';

const kvmRequest = { createVm: 0xae01, createDevice: 0xc00caee0, setAttr: 0x4018aee1 };

/** A machine for tests with KVM on it. */
async function kvmBench(options: Parameters<typeof bench>[0] = {}): Promise<TestBench> {
  const on = await bench({ iommufd: true, deviceCdev: true, ...options });
  await on.host.modules.modprobe('kvm');
  return on;
}

/** A virtual machine with a kvm-vfio device. */
async function makeVm({ process }: TestBench) {
  const kvm = await process.open('/dev/kvm', O.RDWR);
  const fd = await process.ioctl(kvm, kvmRequest.createVm);
  await process.close(kvm);
  const create = new Uint8Array(12);
  const view = new DataView(create.buffer);
  view.setUint32(0, KVM_DEV_TYPE_VFIO, true);
  await process.ioctl(fd, kvmRequest.createDevice, create);
  const file = process.files.get(fd);
  if (!(file instanceof KvmVmFile)) throw new TypeError('no machine');
  return { fd, device: view.getUint32(4, true), vm: file.vm };
}

/** KVM_DEV_VFIO_FILE: 1 adds, 2 deletes. */
async function fileAttr({ process }: TestBench, device: number, attr: bigint, fd: number): Promise<void> {
  const address = process.mm.mmap({ length: 4096, prot: 3 });
  const value = new Uint8Array(4);
  new DataView(value.buffer).setInt32(0, fd, true);
  process.mm.copyTo(address, value);
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  view.setUint32(4, 1, true);
  view.setBigUint64(8, attr, true);
  view.setBigUint64(16, address, true);
  await process.ioctl(device, kvmRequest.setAttr, bytes);
  await process.munmap(address, 4096);
}

describe('a virtual machine', () => {
  it('CORE-207 is found by a device that is opened through its own node, from BIND to close', async () => {
    await using on = await kvmBench();
    const seen: unknown[] = [];
    class Watches extends PhysicalDevice {
      override openDevice(): void {
        seen.push(this.kvm);
      }
    }
    await using held = await registerAs(on, Watches, 'dev0');
    const { fd, device, vm } = await makeVm(on);
    const [cdev, iommufd] = [await openCdev(held.device, on.process), await openIommufd(on.process)];
    const users = vm.users;
    await fileAttr(on, device, 1n, cdev);
    // the file only remembers it
    expect([held.device.kvm, vm.users]).toEqual([undefined, users]);
    await bind(on.process, cdev, iommufd);
    expect([seen, held.device.kvm, vm.users]).toEqual([[vm], vm, users + 1]);
    // CORE-208
    await fileAttr(on, device, 2n, cdev);
    expect(held.device.kvm).toBe(vm);
    await on.process.close(cdev);
    expect([held.device.kvm, vm.users]).toEqual([undefined, users]);
    for (const end of [iommufd, device, fd]) await on.process.close(end);
  });

  it('CORE-207 is found by a device behind a group on an iommufd, physical or emulated', async () => {
    await using on = await kvmBench();
    for (const Type of [PhysicalDevice, EmulatedDevice] as const) {
      await using held = await registerAs<PhysicalDevice | EmulatedDevice>(on, Type, Type.name);
      const { fd, device, vm } = await makeVm(on);
      const [group, iommufd] = [await on.openGroup(held.device), await openIommufd(on.process)];
      await on.setContainer(group, iommufd);
      await fileAttr(on, device, 1n, group);
      const open = await on.getDeviceFd(group, Type.name);
      expect(held.device.kvm).toBe(vm);
      await on.process.close(open);
      expect(held.device.kvm).toBeUndefined();
      for (const end of [group, iommufd, device, fd]) await on.process.close(end);
    }
  });

  it('CORE-207 is not taken when it is on its way out', async () => {
    await using on = await kvmBench();
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const { fd, device, vm } = await makeVm(on);
    const [cdev, iommufd] = [await openCdev(held.device, on.process), await openIommufd(on.process)];
    fileSetKvm(on.process.files.get(cdev), vm);
    for (const end of [device, fd]) await on.process.close(end);
    expect(vm.users).toBe(0);
    await bind(on.process, cdev, iommufd);
    expect(held.device.kvm).toBeUndefined();
    for (const end of [cdev, iommufd]) await on.process.close(end);
    // the same through the group
    const path = await openPath(on, held.device);
    await on.process.close(path.device);
    fileSetKvm(on.process.files.get(path.group), vm);
    const again = await on.getDeviceFd(path.group, 'dev0');
    expect(held.device.kvm).toBeUndefined();
    await closePath(on, { ...path, device: again });
  });

  it('is told of DMA that does not snoop, by files of groups and of devices, as long as it has them', async () => {
    await using on = await kvmBench({ host: { iommu: { ...iommu, enforceCoherency: false } } });
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const { fd, device, vm } = await makeVm(on);
    for (const file of [await on.openGroup(held.device), await openCdev(held.device, on.process)]) {
      expect(await fileEnforcedCoherent(on.process.files.get(file))).toBe(false);
      await fileAttr(on, device, 1n, file);
      expect(vm.hasNoncoherentDma).toBe(true);
      await fileAttr(on, device, 2n, file);
      expect(vm.hasNoncoherentDma).toBe(false);
      await on.process.close(file);
    }
    const cdev = await openCdev(held.device, on.process);
    await fileAttr(on, device, 1n, cdev);
    await on.process.close(device);
    expect(vm.hasNoncoherentDma).toBe(false);
    for (const end of [cdev, fd]) await on.process.close(end);
  });
});

describe('a device without an IOMMU on an iommufd', () => {
  it('CORE-210 CORE-212 needs CAP_SYS_RAWIO for its first open, and is neither bound nor attached', async () => {
    await using on = await bench({
      iommufd: true,
      deviceCdev: true,
      noiommu: true,
      parameters: { enable_unsafe_noiommu_mode: '1' },
    });
    const calls: string[] = [];
    class Watches extends PhysicalDevice {
      override async bindIommufd(): Promise<number> {
        calls.push('bind');
        return 0;
      }
      override async attachIoas(): Promise<number> {
        calls.push('attach');
        return 0;
      }
    }
    const device: VfioDevice = await allocDevice(on.vfio, Watches, await on.addParent('dev0', null), {});
    await registerGroupDev(device);
    expect(device.device.devt).toBeUndefined();
    const [group, iommufd] = [await on.openGroup(device), await openIommufd(on.process)];
    await on.setContainer(group, iommufd);
    const user = on.process.fork('user');
    user.setuid(1000);
    await expect(user.ioctl(iommufd, Request.SET_IOMMU, Extension.NOIOMMU_IOMMU)).rejects.toEqual(code('EPERM'));
    await expect(on.getDeviceFd(group, 'dev0', user)).rejects.toEqual(code('EPERM'));
    expect(device.openCount).toBe(0);
    const first = await on.getDeviceFd(group, 'dev0');
    // the right is asked for once
    const second = await on.getDeviceFd(group, 'dev0', user);
    expect([device.openCount, calls]).toEqual([2, []]);
    const warnings = on.host.log.entries.filter(({ text }) => text.includes('vfio-noiommu device opened by user'));
    expect(warnings).toHaveLength(2);
    expect(device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    await user.close(second);
    await user.exit(0);
    for (const end of [first, group, iommufd]) await on.process.close(end);
    await unregisterGroupDev(device);
    await putDevice(device);
  });
});

describe('an emulated device', () => {
  it('has a group of its own with a plain number, whose DMA nobody claims', async () => {
    await using on = await bench({ iommufd: true, deviceCdev: true });
    await using physical = await registerAs(on, PhysicalDevice, 'dev0');
    await using emulated = await registerAs(on, EmulatedDevice, 'dev1');
    expect([physical.device.group?.name, emulated.device.group?.name]).toEqual(['0', '1']);
    expect(emulated.device.dev.iommuGroup?.name).toBe('vfio-noiommu');
    const [cdev, iommufd] = [await openCdev(emulated.device, on.process), await openIommufd(on.process)];
    await bind(on.process, cdev, iommufd);
    expect(emulated.device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    await on.process.close(cdev);
    const path = await openPath(on, emulated.device);
    expect(emulated.device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    await closePath(on, path);
    const other = await openPath(on, physical.device);
    expect(physical.device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(true);
    await closePath(on, other);
    await on.process.close(iommufd);
  });
});
