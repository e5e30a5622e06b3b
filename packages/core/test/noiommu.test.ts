import { Host, VirtualClock } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  Extension,
  putDevice,
  Request,
  registerGroupDev,
  unregisterGroupDev,
  Vfio,
} from '../src/index.js';
import { PhysicalDevice, registerAs } from './cdev-harness.js';
import { bench, benchForEach, closePath, code, openPath, register, type TestBench, TestDevice } from './harness.js';

const parameter = 'enable_unsafe_noiommu_mode';

let on: TestBench;
benchForEach(
  (made) => {
    on = made;
  },
  { noiommu: true, parameters: { [parameter]: '1' } },
);

/** A registered device whose parent is in no IOMMU group. */
async function withDevice(run: (device: TestDevice) => Promise<void>): Promise<void> {
  const device = await allocDevice(on.vfio, TestDevice, await on.addParent('dev0', null), {});
  await registerGroupDev(device);
  try {
    await run(device);
  } finally {
    await unregisterGroupDev(device);
    await putDevice(device);
  }
}

describe('no-IOMMU mode', () => {
  it('CORE-025 makes noiommu-<gid>, taints and warns', async () => {
    await withDevice(async (device) => {
      expect(device.group?.name).toBe(`noiommu-${device.dev.iommuGroup?.id}`);
      expect(on.host.log.taints.has('U')).toBe(true);
      expect(on.host.log.entries.some(({ level, text }) => level === 'warn' && text.includes('taint'))).toBe(true);
      expect(
        on.process
          .readdir('/dev/vfio')
          .map(({ name }) => name)
          .sort(),
      ).toEqual([device.group?.name, 'vfio']);
    });
  });

  it('CORE-025 makes no node for a device without an IOMMU, where others have one', async () => {
    const switches = { noiommu: true, iommufd: true, deviceCdev: true, parameters: { [parameter]: '1' } };
    await using both = await bench(switches);
    await using behind = await registerAs(both, PhysicalDevice, 'dev0');
    await using bare = await registerAs(both, PhysicalDevice, 'dev1', { group: null });
    expect(bare.device.group?.kind).toBe('no-iommu');
    expect(both.process.readdir('/dev/vfio/devices').map(({ name }) => name)).toEqual([behind.device.name]);
    const files = [behind, bare].map(({ device }) => both.process.readdir(`/sys/class/vfio-dev/${device.name}/`));
    expect(files.map((entries) => entries.some(({ name }) => name === 'dev'))).toEqual([true, false]);
  });

  it('CORE-210 wants CAP_SYS_RAWIO at each door, and warns at every open', async () => {
    await withDevice(async (device) => {
      const path = await openPath(on, device, Extension.NOIOMMU_IOMMU);
      const opened = () => on.host.log.entries.filter(({ text }) => text.includes('opened by user (test:')).length;
      expect(opened()).toBe(1);
      await on.process.close(await on.getDeviceFd(path.group, 'dev0'));
      expect(opened()).toBe(2);
      await on.process.close(path.device);
      // the descriptors stay, the rights go
      const user = on.process.fork('user');
      user.setuid(1000);
      await expect(on.getDeviceFd(path.group, 'dev0', user)).rejects.toEqual(code('EPERM'));
      await user.exit(0);
      await on.process.ioctl(path.group, Request.GROUP_UNSET_CONTAINER);
      const other = on.process.fork('other');
      other.setuid(1000);
      await expect(on.setContainer(path.group, path.container, other)).rejects.toEqual(code('EPERM'));
      await on.setContainer(path.group, path.container);
      await expect(other.ioctl(path.container, Request.SET_IOMMU, Extension.NOIOMMU_IOMMU)).rejects.toEqual(
        code('EPERM'),
      );
      await other.exit(0);
      await on.process.close(path.group);
      on.process.chmod(`/dev/vfio/${device.group?.name}`, 0o666);
      const third = on.host.spawn({ comm: 'third', uid: 1000 });
      await expect(on.openGroup(device, third)).rejects.toEqual(code('EPERM'));
      await third.exit(0);
      await on.process.close(path.container);
    });
  });

  it('CORE-211 maps nothing; extension 8 follows the parameter', async () => {
    await withDevice(async (device) => {
      const path = await openPath(on, device, Extension.NOIOMMU_IOMMU);
      const ask = (request: number, argument = 0) => on.process.ioctl(path.container, request, argument);
      await expect(ask(Request.IOMMU_MAP_DMA)).rejects.toEqual(code('ENOTTY'));
      await expect(ask(Request.IOMMU_GET_INFO)).rejects.toEqual(code('ENOTTY'));
      expect(await ask(Request.CHECK_EXTENSION, Extension.NOIOMMU_IOMMU)).toBe(1);
      expect(await ask(Request.CHECK_EXTENSION, Extension.TYPE1_IOMMU)).toBe(0);
      await on.process.writeFile(`/sys/module/vfio/parameters/${parameter}`, 'N');
      expect(await ask(Request.CHECK_EXTENSION, Extension.NOIOMMU_IOMMU)).toBe(0);
      await closePath(on, path);
      // what is registered stays; it can no longer be chosen
      await expect(openPath(on, device, Extension.NOIOMMU_IOMMU)).rejects.toEqual(code('ENODEV'));
      await on.process.exit(0);
    });
  });

  it('CORE-112 does not mix with other groups in a container', async () => {
    await using behind = await register(on, 'dev1');
    await withDevice(async (device) => {
      const container = await on.openContainer();
      const without = await on.openGroup(device);
      const with1 = await on.openGroup(behind.device);
      await on.setContainer(without, container);
      await expect(on.setContainer(with1, container)).rejects.toEqual(code('EPERM'));
      await on.process.ioctl(without, Request.GROUP_UNSET_CONTAINER);
      await on.setContainer(with1, container);
      await expect(on.setContainer(without, container)).rejects.toEqual(code('EPERM'));
      // type1 serves groups with an IOMMU only, the no-IOMMU driver the others
      await expect(on.process.ioctl(container, Request.SET_IOMMU, Extension.NOIOMMU_IOMMU)).rejects.toEqual(
        code('ENODEV'),
      );
      for (const fd of [with1, without, container]) await on.process.close(fd);
    });
  });

  it('has no parameter in a kernel without it', async () => {
    await using host = new Host({ checked: true, clock: new VirtualClock() });
    new Vfio(host);
    await host.modules.modprobe('vfio');
    expect(() => host.init.readdir('/sys/module/vfio/parameters')).toThrow(code('ENOENT'));
  });
});
