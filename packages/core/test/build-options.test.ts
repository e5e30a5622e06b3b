import { type Device, Host, KvmVmFile, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  allocDevice,
  Extension,
  fileEnforcedCoherent,
  fileHasDev,
  fileIsGroup,
  fileIsValid,
  fileSetKvm,
  IommufdFile,
  IommufdRequest,
  iommuType1DmaMap,
  KVM_DEV_TYPE_VFIO,
  optionConflict,
  pinPages,
  putDevice,
  Request,
  registerGroupDev,
  unpinPages,
  Vfio,
  type VfioOptions,
} from '../src/index.js';
import {
  attach,
  bind,
  EmulatedDevice,
  mapAt,
  openCdev,
  openIommufd,
  PhysicalDevice,
  registerAs,
} from './cdev-harness.js';
import { bench, code, iommu, register, type TestBench } from './harness.js';

const names = (on: TestBench, path: string) => on.process.readdir(path).map(({ name }) => name);
/** A physical device on this parent is not registered. */
async function isRefused(on: TestBench, parent: Device): Promise<void> {
  const device = await allocDevice(on.vfio, PhysicalDevice, parent, {});
  await expect(registerGroupDev(device)).rejects.toEqual(code('EINVAL'));
  await putDevice(device);
}
const CREATE_VM = 0xae01;
const CREATE_DEVICE = 0xc00caee0;

describe('switches that do not go together', () => {
  it.each<[keyof VfioOptions, VfioOptions]>([
    ['group', { group: false }],
    ['group', { group: false, iommufd: true, deviceCdev: false }],
    ['container', { group: false, iommufd: true, container: true }],
    ['noiommu', { group: false, iommufd: true, noiommu: true }],
    ['deviceCdev', { deviceCdev: true }],
    ['container', { container: false }],
    ['iommufdVfioContainer', { iommufdVfioContainer: true }],
    ['iommufdVfioContainer', { iommufdVfioContainer: true, iommufd: true }],
    ['iommufdVfioContainer', { iommufdVfioContainer: true, iommufd: true, group: false }],
  ])('are refused for %s: %o', async (option, options) => {
    expect(optionConflict(options)?.option).toBe(option);
    await expect(bench(options)).rejects.toThrow(new RegExp(`^${option}: .+: (add|remove)`));
    await expect(bench(options)).rejects.toThrow(TypeError);
  });

  it.each<VfioOptions>([
    {},
    { iommufd: true },
    { iommufd: true, deviceCdev: true, noiommu: true },
    { iommufd: true, container: false },
    { iommufd: true, container: false, iommufdVfioContainer: false },
    { iommufd: true, group: false },
    { kvm: false, debugfs: false, iovaBitmap: false },
  ])('and those that do are not: %o', (options) => {
    expect(optionConflict(options)).toBeUndefined();
  });

  it('have their defaults from each other', async () => {
    const of = (options: VfioOptions) => new Vfio(new Host(), options).options;
    expect(of({})).toEqual({
      group: true,
      container: true,
      iommufd: false,
      iommufdVfioContainer: false,
      deviceCdev: false,
      noiommu: false,
      kvm: true,
      debugfs: true,
      iovaBitmap: true,
    });
    expect(of({ iommufd: true, container: false }).iommufdVfioContainer).toBe(true);
    expect(of({ iommufd: true, group: false })).toMatchObject({ container: false, deviceCdev: true });
  });
});

describe('GROUP off', () => {
  const ungrouped = { group: false, iommufd: true, type1: false } as const;

  it('leaves neither nodes nor a class of groups, nor a container', async () => {
    await using on = await bench(ungrouped);
    expect(on.vfio.options).toMatchObject({ container: false, deviceCdev: true, iommufdVfioContainer: false });
    await using physical = await registerAs(on, PhysicalDevice, 'dev0');
    await using emulated = await registerAs(on, EmulatedDevice, 'dev1');
    expect(names(on, '/dev/vfio')).toEqual(expect.not.arrayContaining(['vfio', '0', '1']));
    expect(names(on, '/dev/vfio/devices')).toEqual(expect.arrayContaining(['vfio0', 'vfio1']));
    expect(names(on, '/sys/class')).not.toContain('vfio');
    expect(names(on, '/sys/class')).toContain('vfio-dev');
    const devices = await on.process.readFile('/proc/devices');
    expect(devices).toContain(' vfio-dev\n');
    expect(devices).not.toMatch(/ vfio\n/);
    expect(await on.process.readFile('/proc/misc')).not.toContain('196');
    for (const { device } of [physical, emulated]) expect(device.group).toBeUndefined();
    // no IOMMU group is made for what has none
    expect([physical.parent.iommuGroup?.id, emulated.parent.iommuGroup]).toEqual([0, undefined]);
    expect(on.vfio.devices()).toEqual([physical.device, emulated.device]);
    expect(() => on.vfio.groupClass).toThrow(TypeError);
  });

  it('opens devices through their nodes, and never finds a group in the way', async () => {
    await using on = await bench(ungrouped);
    const { process } = on;
    for (const Type of [PhysicalDevice, EmulatedDevice] as const) {
      await using held = await registerAs<PhysicalDevice | EmulatedDevice>(on, Type, Type.name);
      const [fd, iommufd] = [await openCdev(held.device, process), await openIommufd(process)];
      expect(await bind(process, fd, iommufd)).toBe(1);
      const ioas = new Uint8Array(12);
      ioas[0] = 12;
      await process.ioctl(iommufd, IommufdRequest.IOAS_ALLOC, ioas);
      expect(await attach(process, fd, 2)).toBe(Type === PhysicalDevice ? 3 : 2);
      await mapAt(process, iommufd, 2, 0x10000n);
      if (Type === PhysicalDevice) await on.host.iommu.dma(held.parent).read(0x10000n, new Uint8Array(1));
      else {
        expect(await pinPages(held.device, 0x10000n, 1, 3)).toHaveLength(1);
        await unpinPages(held.device, 0x10000n, 1);
      }
      const file = process.files.get(fd);
      expect([fileIsValid(file), fileIsGroup(file), fileHasDev(file, held.device)]).toEqual([true, false, false]);
      expect(await fileEnforcedCoherent(file)).toBe(Type === PhysicalDevice);
      await process.close(fd);
      await process.close(iommufd);
      expect(held.device.openCount).toBe(0);
    }
    expect(on.vfio.devices()).toEqual([]);
  });

  it('still wants coherent DMA, and an IOMMU group to bind', async () => {
    await using on = await bench({ ...ungrouped, host: { iommu: { ...iommu, coherent: false } } });
    await isRefused(on, await on.addParent('dev0'));
    await isRefused(on, await on.addParent('dev1', null));
    expect(on.vfio.devices()).toEqual([]);
  });
});

describe('CONTAINER off', () => {
  it('has iommufd serve /dev/vfio/vfio, charged to the process', async () => {
    await using on = await bench({ container: false, iommufd: true, type1: false });
    const { process, host } = on;
    expect(on.vfio.iommufd?.options.vfioContainer).toBe(true);
    expect(host.modules.get('vfio_iommu_type1')).toBeUndefined();
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const container = await on.openContainer();
    expect(process.files.get(container)).toBeInstanceOf(IommufdFile);
    expect(host.log.entries.at(-1)?.text).toBe('iommufd: IOMMUFD is providing /dev/vfio/vfio, not VFIO.');
    const group = await on.openGroup(held.device);
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('EINVAL'));
    const other = await process.open('/dev/null', O.RDWR);
    await expect(on.setContainer(group, other)).rejects.toEqual(code('EBADFD'));
    await on.setContainer(group, container);
    await process.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const fd = await on.getDeviceFd(group, 'dev0');
    process.credentials.capabilities.delete('IPC_LOCK');
    const vaddr = process.mm.mmap({ length: 4096, prot: 3 });
    const map = iommuType1DmaMap.encode({ argsz: 32, flags: 3, vaddr, iova: 0n, size: 4096n }, 'little');
    await process.ioctl(container, Request.IOMMU_MAP_DMA, map);
    expect(process.mm.lockedVm).toBe(1);
    expect(on.vfio.iommufd?.lockedByUser.of(0)).toBe(0);
    for (const end of [fd, group, container, other]) await process.close(end);
  });

  it('leaves no container at all when iommufd does not serve it', async () => {
    await using on = await bench({ container: false, iommufd: true, iommufdVfioContainer: false, type1: false });
    await expect(on.openContainer()).rejects.toEqual(code('ENOENT'));
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const [group, iommufd] = [await on.openGroup(held.device), await openIommufd(on.process)];
    await on.setContainer(group, iommufd);
    const fd = await on.getDeviceFd(group, 'dev0');
    for (const end of [fd, group, iommufd]) await on.process.close(end);
  });

  it('has no driver for devices without an IOMMU, but the parameter', async () => {
    await using on = await bench({ container: false, iommufd: true, noiommu: true, type1: false });
    expect(on.vfio.noiommuDriver).toBeUndefined();
    expect(await on.process.readFile('/sys/module/vfio/parameters/enable_unsafe_noiommu_mode')).toBe('N\n');
  });
});

describe('DEVICE_CDEV and IOMMUFD off', () => {
  it('gives devices no nodes, and knows no BIND', async () => {
    await using on = await bench();
    // the operations for an iommufd may be missing
    await using held = await register(on, 'dev0');
    expect(held.device.device.devt).toBeUndefined();
    expect(names(on, `${held.device.device.sysfs.path()}`)).not.toContain('dev');
    expect(names(on, '/dev/vfio')).not.toContain('devices');
    await expect(openIommufd(on.process)).rejects.toEqual(code('ENOENT'));
    const [group, container] = [await on.openGroup(held.device), await on.openContainer()];
    await on.setContainer(group, container);
    await on.process.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const fd = await on.getDeviceFd(group, 'dev0');
    await expect(on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, new Uint8Array(16))).rejects.toEqual(code('ENOTTY'));
    for (const end of [fd, group, container]) await on.process.close(end);
  });
});

describe('NOIOMMU off', () => {
  it('knows no parameter, and refuses devices without an IOMMU', async () => {
    await using on = await bench();
    expect(names(on, '/sys/module/vfio')).not.toContain('parameters');
    await isRefused(on, await on.addParent('dev0', null));
  });
});

describe('KVM off', () => {
  it('never tells a device of a virtual machine', async () => {
    await using on = await bench({ kvm: false, iommufd: true, deviceCdev: true });
    const { process, host } = on;
    await host.modules.modprobe('kvm');
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const kvm = await process.open('/dev/kvm', O.RDWR);
    const vm = await process.ioctl(kvm, CREATE_VM, 0);
    const create = new Uint8Array(12);
    new DataView(create.buffer).setUint32(0, KVM_DEV_TYPE_VFIO, true);
    await expect(process.ioctl(vm, CREATE_DEVICE, create)).rejects.toEqual(code('ENODEV'));
    const [fd, iommufd] = [await openCdev(held.device, process), await openIommufd(process)];
    const file = process.files.get(fd);
    const machine = process.files.get(vm);
    if (!(machine instanceof KvmVmFile)) throw new TypeError('no machine');
    fileSetKvm(file, machine.vm);
    await bind(process, fd, iommufd);
    expect(held.device.kvm).toBeUndefined();
    for (const end of [fd, iommufd, vm, kvm]) await process.close(end);
    expect(host.log.warnings()).toEqual([]);
  });
});
