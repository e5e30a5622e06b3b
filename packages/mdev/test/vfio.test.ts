/* What VFIO makes of a mediated device: a group of its own, an emulated IOMMU, and a life that ends in order. */
import {
  allocDevice,
  DmaMapFlag,
  Extension,
  getDevice,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  pinPages,
  putDevice,
  Request,
  registerGroupDev,
  unpinPages,
  unregisterGroupDev,
} from '@vfio/core';
import { Bus, Device, Driver, O, Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { OTHER_UUID, settled, UUID } from './lab.js';
import { createVfioLab, PinningDevice, TestDevice, type VfioLab } from './vfio-lab.js';

const PAGE = 4096n;
const IOVA = 0x10_0000n;

function failing(code: string) {
  return expect.objectContaining({ code });
}

async function map(lab: VfioLab, container: number): Promise<bigint> {
  const vaddr = lab.root.mm.mmap({ length: PAGE, prot: Prot.READ | Prot.WRITE });
  const flags = DmaMapFlag.READ | DmaMapFlag.WRITE;
  const argument = { argsz: iommuType1DmaMap.size, flags, vaddr, iova: IOVA, size: PAGE };
  await lab.root.ioctl(container, Request.IOMMU_MAP_DMA, iommuType1DmaMap.encode(argument, 'little'));
  return vaddr;
}

async function unmap(lab: VfioLab, container: number): Promise<void> {
  const argument = { argsz: iommuType1DmaUnmap.size, iova: IOVA, size: PAGE };
  await lab.root.ioctl(container, Request.IOMMU_UNMAP_DMA, iommuType1DmaUnmap.encode(argument, 'little'));
}

describe('probe', () => {
  it('MDEV-027 does not release a device whose init failed', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver(TestDevice, { initFails: 'ENOSPC' }) });
    await expect(card.create(UUID)).rejects.toThrow(failing('ENOSPC'));
    expect(lab.journal).toEqual(['init']);
  });

  it('MDEV-027 releases a device whose registration failed', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    using fault = lab.host.faults.failOn('__vfio_register_dev:name');
    await expect(card.create(UUID)).rejects.toThrow(failing('ENOMEM'));
    expect(fault.fired).toBe(true);
    expect(lab.journal).toEqual(['init', 'release']);
    expect(lab.names('/sys/bus/mdev/devices')).toEqual([]);
  });
});

describe('group', () => {
  it('MDEV-054 is made for the device, holds only it, and is named as if it had no IOMMU', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    await card.create(OTHER_UUID);
    const groups = [UUID, OTHER_UUID].map((uuid) => lab.root.readlink(`/sys/bus/mdev/devices/${uuid}/iommu_group`));
    expect(groups).toEqual(['../../../../../kernel/iommu_groups/0', '../../../../../kernel/iommu_groups/1']);
    expect(lab.names('/sys/kernel/iommu_groups/0/devices')).toEqual([UUID]);
    expect(await lab.root.readFile('/sys/kernel/iommu_groups/0/name')).toBe('vfio-noiommu\n');
    expect(await lab.root.readFile('/sys/kernel/iommu_groups/0/type')).toBe('unknown\n');
    await lab.remove(UUID);
    expect(lab.names('/sys/kernel/iommu_groups')).toEqual(['1']);
  });

  it('MDEV-055 has a node with a plain number, for which no capability is needed', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    expect(lab.names('/dev/vfio')).toEqual(['0', 'vfio']);
    lab.root.chown('/dev/vfio/0', 1000, 1000);
    const user = lab.host.spawn({ comm: 'user', uid: 1000 });
    expect(user.credentials.capable('SYS_RAWIO')).toBe(false);
    const { group } = await lab.openGroup(UUID, undefined, user);
    expect(await lab.getDeviceFd(group, UUID, user)).toBeGreaterThan(0);
    await user.exit();
  });

  it('MDEV-056 shares a container with a group of hardware', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const hardware = await addHardware(lab);
    const { group, container } = await lab.openGroup(UUID);
    const second = await lab.root.open(`/dev/vfio/${hardware.group}`, O.RDWR);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setInt32(0, container, true);
    expect(await lab.root.ioctl(second, Request.GROUP_SET_CONTAINER, bytes)).toBe(0);
    const fds = [await lab.getDeviceFd(group, UUID), await lab.getDeviceFd(second, 'hardware')];
    expect(lab.journal).toEqual(['init', 'init', 'open', 'open']);
    for (const fd of [...fds, second, group, container]) await lab.root.close(fd);
    await hardware.remove();
  });

  it('MDEV-057 has a container that can not update addresses', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const hardware = await addHardware(lab);
    const container = await lab.root.open('/dev/vfio/vfio', O.RDWR);
    const real = await lab.root.open(`/dev/vfio/${hardware.group}`, O.RDWR);
    const bytes = new Uint8Array(4);
    new DataView(bytes.buffer).setInt32(0, container, true);
    await lab.root.ioctl(real, Request.GROUP_SET_CONTAINER, bytes);
    await lab.root.ioctl(container, Request.SET_IOMMU, Extension.TYPE1v2_IOMMU);
    const canUpdate = () => lab.root.ioctl(container, Request.CHECK_EXTENSION, Extension.UPDATE_VADDR);
    expect(await canUpdate()).toBe(1);
    const { group } = await lab.openGroup(UUID, container);
    expect(await canUpdate()).toBe(0);
    await lab.root.close(group);
    expect(await canUpdate()).toBe(1);
    for (const fd of [real, container]) await lab.root.close(fd);
    await hardware.remove();
  });

  it('MDEV-062 knows its device by the UUID in lower case only', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID.toUpperCase());
    const { group } = await lab.openGroup(UUID);
    await expect(lab.getDeviceFd(group, UUID.toUpperCase())).rejects.toThrow(failing('ENODEV'));
    await lab.root.close(await lab.getDeviceFd(group, UUID));
  });
});

describe('pages of the user', () => {
  it('MDEV-058 can not be pinned by a device without dmaUnmap', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ name: 'plain', driver: lab.driver() });
    await using pinning = await lab.addParent({ name: 'pinning', driver: lab.driver(PinningDevice) });
    await card.create(UUID);
    await pinning.create(OTHER_UUID);
    const { group, container } = await lab.openGroup(UUID);
    const other = await lab.openGroup(OTHER_UUID, container);
    await map(lab, container);
    const fds = [await lab.getDeviceFd(group, UUID), await lab.getDeviceFd(other.group, OTHER_UUID)];
    const plainDevice = lab.vfioDevice(lab.device(UUID));
    await expect(pinPages(plainDevice, IOVA, 1, Prot.READ)).rejects.toThrow(failing('EINVAL'));
    const pinningDevice = lab.vfioDevice(lab.device(OTHER_UUID));
    expect(await pinPages(pinningDevice, IOVA, 1, Prot.READ)).toHaveLength(1);
    await unpinPages(pinningDevice, IOVA, 1);
    for (const fd of fds) await lab.root.close(fd);
  });

  it('MDEV-059 are taken away with a word to the device, while it is open', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver(UnpinningDevice) });
    await card.create(UUID);
    const { group, container } = await lab.openGroup(UUID);
    const fd = await lab.getDeviceFd(group, UUID);
    await map(lab, container);
    await pinPages(lab.vfioDevice(lab.device(UUID)), IOVA, 1, Prot.READ);
    await unmap(lab, container);
    expect(lab.journal).toEqual(['init', 'open', 'unmap 0x100000+0x1000']);
    await lab.root.close(fd);
    lab.journal.length = 0;
    await map(lab, container);
    await unmap(lab, container);
    expect(lab.journal).toEqual([]);
  });
});

describe('users', () => {
  it('MDEV-060 through one group open the device once and close it once', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const { group } = await lab.openGroup(UUID);
    const first = await lab.getDeviceFd(group, UUID);
    const second = await lab.getDeviceFd(group, UUID);
    await lab.root.close(first);
    expect(lab.journal).toEqual(['init', 'open']);
    await lab.root.close(second);
    expect(lab.journal).toEqual(['init', 'open', 'close']);
  });

  it('MDEV-041 make remove wait until the last of them is gone', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const { group } = await lab.openGroup(UUID);
    const fds = [await lab.getDeviceFd(group, UUID), await lab.getDeviceFd(group, UUID)];
    let written: number | undefined;
    const removing = lab.remove(UUID).then((count) => {
      written = count;
    });
    await lab.clock.advance(60_000);
    await settled();
    expect(written).toBeUndefined();
    await lab.root.close(fds[0]!);
    await settled();
    expect(written).toBeUndefined();
    await lab.root.close(fds[1]!);
    await removing;
    expect(written).toBe(1);
  });

  it('MDEV-042 get no new descriptor while remove waits', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const { group } = await lab.openGroup(UUID);
    const fd = await lab.getDeviceFd(group, UUID);
    const removing = lab.remove(UUID);
    await settled();
    await expect(lab.getDeviceFd(group, UUID)).rejects.toThrow(failing('ENODEV'));
    await lab.root.close(fd);
    await removing;
  });
});

describe('end of life', () => {
  it('MDEV-063 comes in order: remove, no users, release, freed', async () => {
    await using lab = await createVfioLab();
    await using card = await lab.addParent({ driver: lab.driver() });
    await card.create(UUID);
    const { group } = await lab.openGroup(UUID);
    const fd = await lab.getDeviceFd(group, UUID);
    const device = lab.vfioDevice(lab.device(UUID));
    const held = getDevice(device);
    lab.journal.length = 0;
    const removing = lab.remove(UUID);
    await settled();
    expect(lab.journal).toEqual(['remove']);
    await lab.root.close(fd);
    await removing;
    expect(lab.journal).toEqual(['remove', 'close', 'no users']);
    expect(held.journal).toBe(lab.journal); // not released: it can be touched
    await putDevice(held);
    expect(lab.journal).toEqual(['remove', 'close', 'no users', 'release']);
    expect(() => device.journal).toThrow(expect.objectContaining({ kind: 'use-after-free' }));
  });
});

/** Unpins what it is told to. */
class UnpinningDevice extends PinningDevice {
  override async dmaUnmap(iova: bigint, length: bigint): Promise<void> {
    super.dmaUnmap(iova, length);
    await unpinPages(this, iova, Number(length / PAGE));
  }
}

/** A device behind the IOMMU, registered with VFIO. */
async function addHardware(lab: VfioLab): Promise<{ group: number; remove(): Promise<void> }> {
  const { host, vfio, journal } = lab;
  const bus = new Bus({ name: 'test', match: () => false });
  await host.devices.busRegister(bus);
  const driver = new Driver({ name: 'test', bus, managesDma: true });
  await host.devices.driverRegister(driver);
  const dev = new Device({ name: 'hardware', bus });
  await host.devices.register(dev);
  host.iommu.probeDevice(dev);
  await host.devices.attachDriver(dev, driver);
  const device = await allocDevice(vfio, TestDevice, dev, { journal });
  await registerGroupDev(device);
  return {
    group: dev.iommuGroup!.id,
    async remove() {
      await unregisterGroupDev(device);
      await putDevice(device);
      host.iommu.removeDevice(dev);
      await host.devices.unregister(dev);
      await host.devices.driverUnregister(driver);
      await host.devices.busUnregister(bus);
    },
  };
}
