import { Host, KvmVmFile, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  fileEnforcedCoherent,
  fileHasDev,
  fileIsGroup,
  fileIsValid,
  fileSetKvm,
  KVM_DEV_TYPE_VFIO,
  putDevice,
  registerGroupDev,
  unregisterGroupDev,
} from '../src/index.js';
import {
  bench,
  benchForEach,
  closePath,
  code,
  iommu,
  openPath,
  register,
  type TestBench,
  TestDevice,
} from './harness.js';

const Request = { createVm: 0xae01, createDevice: 0xc00caee0, setAttr: 0x4018aee1, hasAttr: 0x4018aee3 };
const [add, del] = [1n, 2n];

let on: TestBench;
benchForEach(async (made) => {
  on = made;
  await on.host.modules.modprobe('kvm');
});

/** A virtual machine with a kvm-vfio device. */
async function makeVm(): Promise<{ fd: number; device: number; vm: KvmVmFile['vm'] }> {
  const kvm = await on.process.open('/dev/kvm', O.RDWR);
  const fd = await on.process.ioctl(kvm, Request.createVm);
  await on.process.close(kvm);
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setUint32(0, KVM_DEV_TYPE_VFIO, true);
  await on.process.ioctl(fd, Request.createDevice, bytes);
  const file = on.process.files.get(fd);
  if (!(file instanceof KvmVmFile)) throw new TypeError('no machine');
  return { fd, device: new DataView(bytes.buffer).getUint32(4, true), vm: file.vm };
}

/** KVM_SET_DEVICE_ATTR with a descriptor as value. */
async function attr(device: number, which: bigint, fd: number, group = 1, request = Request.setAttr): Promise<number> {
  const address = on.process.mm.mmap({ length: 4096, prot: 3 });
  const bytes = new Uint8Array(24);
  const view = new DataView(bytes.buffer);
  const value = new Uint8Array(4);
  new DataView(value.buffer).setInt32(0, fd, true);
  on.process.mm.copyTo(address, value);
  view.setUint32(4, group, true);
  view.setBigUint64(8, which, true);
  view.setBigUint64(16, fd === -2 ? 8n : address, true);
  try {
    return await on.process.ioctl(device, request, bytes);
  } finally {
    await on.process.munmap(address, 4096);
  }
}

describe('kvm-vfio', () => {
  it('adds and removes files with the kernel’s errnos', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    const vm = await makeVm();
    const stranger = await on.process.open('/dev/null', O.RDWR);
    expect(await attr(vm.device, add, group, 1, Request.hasAttr)).toBe(0);
    await expect(attr(vm.device, 3n, group, 1, Request.hasAttr)).rejects.toEqual(code('ENXIO'));
    await expect(attr(vm.device, add, group, 2)).rejects.toEqual(code('ENXIO'));
    await expect(attr(vm.device, 3n, group)).rejects.toEqual(code('ENXIO'));
    await expect(attr(vm.device, add, -2)).rejects.toEqual(code('EFAULT'));
    await expect(attr(vm.device, add, 999)).rejects.toEqual(code('EBADF'));
    await expect(attr(vm.device, add, stranger)).rejects.toEqual(code('EINVAL'));
    await attr(vm.device, add, group);
    await expect(attr(vm.device, add, group)).rejects.toEqual(code('EEXIST'));
    await attr(vm.device, del, group);
    await expect(attr(vm.device, del, group)).rejects.toEqual(code('ENOENT'));
    for (const fd of [vm.device, vm.fd, group, stranger]) await on.process.close(fd);
  });

  it('keeps the files that it was given, and lets them go when it is closed', async () => {
    await using one = await register(on, 'dev0');
    const group = await on.openGroup(one.device);
    const vm = await makeVm();
    await attr(vm.device, add, group);
    await on.process.close(group);
    await expect(on.openGroup(one.device)).rejects.toEqual(code('EBUSY'));
    await on.process.close(vm.device);
    expect(one.device.group?.kvm).toBeUndefined();
    await on.process.close(await on.openGroup(one.device));
    await on.process.close(vm.fd);
  });

  it('holds a file from the start of a request, so that nobody closes it in the middle', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1');
    const files = [await on.openGroup(one.device), await on.openGroup(two.device)];
    const vm = await makeVm();
    // the second waits for the first; its descriptor goes meanwhile
    const requests = files.map((file) => attr(vm.device, add, file));
    await Promise.all(files.map((file) => on.process.close(file)));
    await Promise.all(requests);
    await expect(on.openGroup(two.device)).rejects.toEqual(code('EBUSY'));
    for (const fd of [vm.device, vm.fd]) await on.process.close(fd);
    expect([one, two].map(({ device }) => device.group?.openedFile)).toEqual([undefined, undefined]);
  });

  it('has the files of several groups at once', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1');
    const files = [await on.openGroup(one.device), await on.openGroup(two.device)];
    const vm = await makeVm();
    for (const file of files) await attr(vm.device, add, file);
    for (const { device } of [one, two]) expect(device.group?.kvm).toBe(vm.vm);
    for (const file of files) await attr(vm.device, del, file);
    for (const fd of [...files, vm.device, vm.fd]) await on.process.close(fd);
  });

  it('tells the machine of DMA that does not snoop', async () => {
    await using other = await bench({ host: { iommu: { ...iommu, enforceCoherency: false } } });
    await using one = await register(other, 'dev0');
    const group = other.process.files.get(await other.openGroup(one.device));
    expect(await fileEnforcedCoherent(group)).toBe(false);
    await using mine = await register(on, 'dev0');
    const fd = await on.openGroup(mine.device);
    const vm = await makeVm();
    await attr(vm.device, add, fd);
    expect(vm.vm.hasNoncoherentDma).toBe(false);
    for (const open of [vm.device, vm.fd, fd]) await on.process.close(open);
    await other.process.exit(0);
  });
});

describe('the machine of a device', () => {
  it('CORE-207 is there before open_device when the group has one, and gone after the last close', async () => {
    const seen: unknown[] = [];
    class Watches extends TestDevice {
      override openDevice(): void {
        seen.push(this.kvm);
      }
    }
    const device = await allocDevice(on.vfio, Watches, await on.addParent('dev0'), {});
    await registerGroupDev(device);
    await closePath(on, await openPath(on, device));
    const { fd, vm, device: kvmVfio } = await makeVm();
    const path = await openPath(on, device);
    await on.process.close(path.device);
    const users = vm.users;
    await attr(kvmVfio, add, path.group);
    expect(vm.users).toBe(users);
    const open = await on.getDeviceFd(path.group, 'dev0');
    expect([seen, device.kvm, vm.users]).toEqual([[undefined, undefined, vm], vm, users + 1]);
    await on.process.close(open);
    expect([device.kvm, vm.users]).toEqual([undefined, users]);
    for (const one of [kvmVfio, fd, path.group, path.container]) await on.process.close(one);
    await unregisterGroupDev(device);
    await putDevice(device);
  });

  it('CORE-208 stays what it was at the first open, whatever the file is told meanwhile', async () => {
    await using one = await register(on, 'dev0');
    const path = await openPath(on, one.device);
    const { fd, vm, device: kvmVfio } = await makeVm();
    await attr(kvmVfio, add, path.group);
    const second = await on.getDeviceFd(path.group, 'dev0');
    expect(one.device.kvm).toBeUndefined();
    await on.process.close(second);
    await on.process.close(path.device);
    const again = await on.getDeviceFd(path.group, 'dev0');
    expect(one.device.kvm).toBe(vm);
    await attr(kvmVfio, del, path.group);
    expect(one.device.kvm).toBe(vm);
    for (const each of [again, kvmVfio, fd, path.group, path.container]) await on.process.close(each);
  });

  it('is not taken when it is on its way out, and given back when the open fails', async () => {
    await using one = await register(on, 'dev0', { fail: { openDevice: 'EIO' } });
    const group = await on.openGroup(one.device);
    const container = await on.openContainer();
    await on.setContainer(group, container);
    await on.process.ioctl(container, 0x3b66, 3);
    const { fd, vm, device: kvmVfio } = await makeVm();
    await attr(kvmVfio, add, group);
    const users = vm.users;
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('EIO'));
    expect([one.device.kvm, vm.users]).toEqual([undefined, users]);
    for (const each of [kvmVfio, fd, group, container]) await on.process.close(each);
  });
});

describe('the file helpers', () => {
  it('CORE-209 know their own files, and nothing else', async () => {
    await using one = await register(on, 'dev0');
    await using two = await register(on, 'dev1');
    const path = await openPath(on, one.device);
    const { files } = on.process;
    const [group, device] = [files.get(path.group), files.get(path.device)];
    const stranger = files.get(await on.process.open('/dev/null', O.RDWR));
    expect([group, device, stranger].map(fileIsGroup)).toEqual([true, false, false]);
    expect([group, device, stranger].map(fileIsValid)).toEqual([true, true, false]);
    expect([fileHasDev(group, one.device), fileHasDev(group, two.device), fileHasDev(device, one.device)]).toEqual([
      true,
      false,
      false,
    ]);
    expect(await Promise.all([group, device, stranger].map(fileEnforcedCoherent))).toEqual([true, true, true]);
    fileSetKvm(stranger, undefined);
    await closePath(on, path);
    await on.process.exit(0);
  });

  it('takes an empty group for coherent', async () => {
    const one = await register(on, 'dev0');
    const fd = await on.openGroup(one.device);
    const group = on.process.files.get(fd);
    await unregisterGroupDev(one.device);
    expect(await fileEnforcedCoherent(group)).toBe(true);
    await on.process.close(fd);
    await putDevice(one.device);
  });
});

it('needs no KVM', async () => {
  await using host = new Host({ checked: true });
  expect(host.modules.get('kvm')).toBeUndefined();
});
