import { describe, expect, it } from 'vitest';
import { allDevices, findDevice } from '../src/naming.js';
import { createLab, uuids } from './lab.js';

describe('findDevice', () => {
  it.each(['vfio1', uuids[1], uuids[1].toUpperCase()])('finds a device by %s', async (name) => {
    const machine = await createLab();
    expect(findDevice(machine.process(), name)).toEqual({
      address: uuids[1],
      bus: 'mdev',
      directory: `/sys/bus/mdev/devices/${uuids[1]}`,
      driver: 'mtty',
    });
  });

  it('finds what is in a group and on no bus', async () => {
    const machine = await createLab();
    const found = findDevice(machine.process(), '0000:00:1f.0');
    expect(found).toEqual({
      address: '0000:00:1f.0',
      directory: '/sys/kernel/iommu_groups/0/devices/0000:00:1f.0',
      driver: undefined,
    });
  });

  it.each(['nosuch', 'vfio7', '', '..', '1f.0'])('says where to look for %j', async (name) => {
    const machine = await createLab();
    expect(() => findDevice(machine.process(), name)).toThrow(`no device '${name}': see vfio ls`);
  });
});

describe('allDevices', () => {
  it('lists the devices of all buses', async () => {
    const machine = await createLab();
    expect(allDevices(machine.process()).map(({ address }) => address)).toEqual([...uuids]);
  });
});
