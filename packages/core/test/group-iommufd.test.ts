import { describe, expect, it } from 'vitest';
import { allocDevice, Extension, putDevice, Request, registerGroupDev, unregisterGroupDev } from '../src/index.js';
import {
  allocIoas,
  attach,
  bind,
  destroy,
  EmulatedDevice,
  mapAt,
  openCdev,
  openIommufd,
  PhysicalDevice,
  registerAs,
} from './cdev-harness.js';
import { bench, benchForEach, code, type TestBench } from './harness.js';

let on: TestBench;
benchForEach(
  (made) => {
    on = made;
  },
  { iommufd: true, deviceCdev: true },
);

/** IOMMU_VFIO_IOAS GET. */
async function compatIoas(iommufd: number): Promise<number> {
  const bytes = new Uint8Array(12);
  new DataView(bytes.buffer).setUint32(0, 12, true);
  await on.process.ioctl(iommufd, 0x3b88, bytes);
  return new DataView(bytes.buffer).getUint32(4, true);
}

describe('a group with an iommufd for a container', () => {
  it('CORE-053 binds its devices and attaches them to the compat IOAS', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    expect(await on.status(group)).toBe(1);
    await expect(compatIoas(iommufd)).rejects.toEqual(code('ENODEV'));
    await on.setContainer(group, iommufd);
    expect(await on.status(group)).toBe(3);
    await expect(on.setContainer(group, iommufd)).rejects.toEqual(code('EINVAL'));
    const ioas = await compatIoas(iommufd);
    expect(await on.process.ioctl(iommufd, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU)).toBe(0);
    const fd = await on.getDeviceFd(group, 'dev0');
    expect(held.device.journal).toEqual(['init', 'bind', 'openDevice']);
    const userVa = await mapAt(on.process, iommufd, ioas, 0x1000n);
    on.process.mm.copyTo(userVa, Uint8Array.of(9));
    const seen = new Uint8Array(1);
    await on.host.iommu.dma(held.device.dev).read(0x1000n, seen);
    expect(seen[0]).toBe(9);
    // a second user shares what the first one bound
    const second = await on.getDeviceFd(group, 'dev0');
    expect(held.device.openCount).toBe(2);
    await on.process.close(fd);
    expect(held.device.journal).toEqual(['init', 'bind', 'openDevice']);
    await on.process.close(second);
    expect(held.device.journal).toEqual(['init', 'bind', 'openDevice', 'closeDevice', 'unbind']);
    await on.process.close(group);
    await on.process.close(iommufd);
  });

  it('CORE-041 lets go of the driver last: closed, unbound, and only then may its module be unloaded', async () => {
    const held: number[] = [];
    class Watches extends PhysicalDevice {
      override async unbindIommufd(): Promise<void> {
        await super.unbindIommufd();
        held.push(this.dev.driver?.module?.refcount ?? -1);
      }
    }
    await using one = await registerAs(on, Watches, 'dev0');
    const unused = one.device.dev.driver?.module?.refcount ?? -1;
    const [group, iommufd] = [await on.openGroup(one.device), await openIommufd(on.process)];
    await on.setContainer(group, iommufd);
    await on.process.close(await on.getDeviceFd(group, 'dev0'));
    expect(one.device.journal.slice(-2)).toEqual(['closeDevice', 'unbind']);
    expect([held, one.device.dev.driver?.module?.refcount]).toEqual([[unused + 1], unused]);
    for (const fd of [group, iommufd]) await on.process.close(fd);
  });

  it('CORE-053 closes the device when it can not be attached', async () => {
    await using held = await registerAs(on, EmulatedDevice, 'dev0');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    await on.setContainer(group, iommufd);
    await destroy(on.process, iommufd, await compatIoas(iommufd));
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('ENODEV'));
    expect(held.device.journal).toEqual(['init', 'bind', 'openDevice', 'closeDevice', 'unbind']);
    expect(held.device.openCount).toBe(0);
    await on.process.close(group);
    await on.process.close(iommufd);
  });

  it('CORE-049 is not held by its devices', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    await on.setContainer(group, iommufd);
    const fd = await on.getDeviceFd(group, 'dev0');
    await on.process.close(group);
    const again = await on.openGroup(held.device);
    // what the file knew is gone with it
    expect(await on.status(again)).toBe(0);
    await on.process.close(fd);
    expect(await on.status(again)).toBe(1);
    await on.process.close(again);
    await on.process.close(iommufd);
  });

  it('CORE-050 can be taken from it although devices are open', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    await on.setContainer(group, iommufd);
    const fd = await on.getDeviceFd(group, 'dev0');
    await on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER);
    await expect(on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER)).rejects.toEqual(code('EINVAL'));
    const info = new Uint8Array(32);
    new DataView(info.buffer).setUint32(0, 32, true);
    expect(await on.process.ioctl(fd, Request.DEVICE_GET_REGION_INFO, info)).toBe(0);
    for (const end of [fd, group, iommufd]) await on.process.close(end);
    expect(held.device.journal.at(-1)).toBe('unbind');
  });

  it('CORE-052 and H31: the last close undoes what the first open did, whatever the group is set to', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    await on.setContainer(group, iommufd);
    const first = await on.getDeviceFd(group, 'dev0');
    await on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER);
    const container = await on.openContainer();
    // the iommufd owns the group as long as the device is bound to it
    await expect(on.setContainer(group, container)).rejects.toEqual(code('EPERM'));
    await on.process.close(first);
    expect(held.device.journal.at(-1)).toBe('unbind');
    await on.setContainer(group, container);
    await on.process.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const second = await on.getDeviceFd(group, 'dev0');
    expect(held.device.journal.filter((step) => step === 'bind')).toHaveLength(1);
    for (const fd of [second, group, container, iommufd]) await on.process.close(fd);
    expect(on.host.log.entries.filter(({ text }) => text.includes('WARNING'))).toEqual([]);
  });

  it('CORE-052 and H31 with an emulated device, which both backends take at once', async () => {
    await using held = await registerAs(on, EmulatedDevice, 'dev0');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    await on.setContainer(group, iommufd);
    const first = await on.getDeviceFd(group, 'dev0');
    await on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER);
    const container = await on.openContainer();
    await on.setContainer(group, container);
    await on.process.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const second = await on.getDeviceFd(group, 'dev0');
    expect(held.device.openCount).toBe(2);
    await on.process.close(first);
    await on.process.close(second);
    expect(held.device.journal.filter((step) => step === 'unbind')).toHaveLength(1);
    // the container has no user left
    await on.process.ioctl(group, Request.GROUP_UNSET_CONTAINER);
    for (const fd of [group, container, iommufd]) await on.process.close(fd);
    expect(on.host.log.entries.filter(({ text }) => text.includes('WARNING'))).toEqual([]);
  });

  it('refuses other files as before', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const group = await on.openGroup(held.device);
    await expect(on.setContainer(group, group)).rejects.toEqual(code('EBADFD'));
    await expect(on.setContainer(group, 99)).rejects.toEqual(code('EBADF'));
    await on.process.close(group);
  });

  it('shares an iommufd with devices that come through their own nodes', async () => {
    const left = await registerAs(on, PhysicalDevice, 'left');
    const right = await registerAs(on, PhysicalDevice, 'right');
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(left.device);
    await on.setContainer(group, iommufd);
    const fd = await on.getDeviceFd(group, 'left');
    const cdev = await openCdev(right.device, on.process);
    await bind(on.process, cdev, iommufd);
    const ioas = await compatIoas(iommufd);
    await attach(on.process, cdev, ioas);
    await mapAt(on.process, iommufd, ioas, 0x1000n);
    for (const { device } of [left, right]) await on.host.iommu.dma(device.dev).read(0x1000n, new Uint8Array(1));
    await expect(destroy(on.process, iommufd, ioas)).rejects.toEqual(code('EBUSY'));
    for (const end of [fd, group, cdev, iommufd]) await on.process.close(end);
    await left[Symbol.asyncDispose]();
    await right[Symbol.asyncDispose]();
  });
});

describe('a device without an IOMMU and an iommufd', () => {
  it('CORE-212 has no node of its own, is not bound, and wants an iommufd without an IOAS for VFIO', async () => {
    await using here = await bench({
      iommufd: true,
      deviceCdev: true,
      noiommu: true,
      parameters: { enable_unsafe_noiommu_mode: '1' },
    });
    const { process } = here;
    const device = await allocDevice(here.vfio, PhysicalDevice, await here.addParent('dev0', null), {});
    await registerGroupDev(device);
    expect(process.readdir('/dev/vfio').map(({ name }) => name)).not.toContain('devices');
    const iommufd = await openIommufd(process);
    const group = await here.openGroup(device);
    await here.setContainer(group, iommufd);
    expect(await process.ioctl(iommufd, Request.SET_IOMMU, Extension.NOIOMMU_IOMMU)).toBe(0);
    const fd = await here.getDeviceFd(group, 'dev0');
    expect(device.journal).toEqual(['init', 'openDevice']);
    await process.close(fd);
    expect(device.journal).toEqual(['init', 'openDevice', 'closeDevice']);
    const ioas = await allocIoas(process, iommufd);
    const set = new Uint8Array(12);
    const view = new DataView(set.buffer);
    view.setUint32(0, 12, true);
    view.setUint32(4, ioas, true);
    view.setUint16(8, 1, true);
    await process.ioctl(iommufd, 0x3b88, set);
    await expect(here.getDeviceFd(group, 'dev0')).rejects.toEqual(code('EPERM'));
    await process.close(group);
    const other = await here.openGroup(device);
    await expect(here.setContainer(other, iommufd)).rejects.toEqual(code('EINVAL'));
    for (const end of [other, iommufd]) await process.close(end);
    await unregisterGroupDev(device);
    await putDevice(device);
  });
});
