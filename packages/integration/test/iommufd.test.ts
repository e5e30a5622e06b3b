// The same devices through an iommufd, which is how VMMs open them today.

import { Extension, isVfioError } from '@vfio/core';
import { VirtualClock } from '@vfio/host';
import { Machine, type MachineFile } from '@vfio/machine';
import { driverPackage } from '@vfio/mdev-samples/machine';
import { describe, expect, it } from 'vitest';

const [first, second] = ['83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'] as const;
const lab: MachineFile = {
  version: 1,
  vfio: { iommufd: true, deviceCdev: true },
  modules: ['vfio_iommu_type1'],
  'mdev-samples': {
    mtty: {
      devices: [
        { uuid: first, type: 'mtty-1' },
        { uuid: second, type: 'mtty-1' },
      ],
    },
  },
};
const load = (file = lab) => Machine.load(file, { drivers: [driverPackage], checked: true, clock: new VirtualClock() });

describe('the node of a mediated device', () => {
  it('MDEV-061 is there, and does all that the group does once it is bound', async () => {
    await using machine = await load();
    const client = machine.client();
    expect(await client.nodeOf(first)).toBe('/dev/vfio/devices/vfio0');
    await using device = await client.openCdev(first);
    expect(device.binding.id).toBe(1);
    expect((await device.info()).numRegions).toBe(9);
    await device.writeRegion(0, 0, new TextEncoder().encode('x'));
    expect([...(await device.readRegion(0, 0, 1))]).toEqual([0x78]);
    expect(await device.migration.state()).toBe('RUNNING');
    expect(() => device.group).toThrow('opened through its own node');
    await expect(client.openGroup(0)).rejects.toMatchObject({ code: 'EBUSY' });
    await expect(client.openCdev(first)).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('shares an iommufd and an address space with another one', async () => {
    await using machine = await load();
    const client = machine.client();
    await using iommufd = await client.openIommufd();
    const ioas = await iommufd.allocIoas();
    const one = await client.openCdev(first, { ioas });
    const two = await client.openCdev(second, { ioas });
    expect([one.binding.id, two.binding.id]).toEqual([2, 3]);
    expect(one.space).toBe(two.space);
    await expect(ioas.destroy()).rejects.toMatchObject({ code: 'EBUSY' });
    await one.detach();
    await two.close();
    await ioas.destroy();
    await one.close();
  });

  it('CORE-089 keeps the device until its last user is gone', async () => {
    await using machine = await load();
    const device = await machine.client().openCdev(first);
    let gone = false;
    const removal = (async () => {
      await machine.host.init.writeFile(`/sys/bus/mdev/devices/${first}/remove`, '1');
      gone = true;
    })();
    await new Promise((resolve) => setImmediate(resolve));
    expect(gone).toBe(false);
    expect(await device.migration.state()).toBe('RUNNING');
    await device.close();
    await removal;
    expect(gone).toBe(true);
  });
});

describe('an address space', () => {
  it('maps, copies, unmaps, and says where there is room', async () => {
    await using machine = await load();
    const client = machine.client();
    await using iommufd = await client.openIommufd();
    const ioas = await iommufd.allocIoas();
    expect(await ioas.info()).toMatchObject({ iovaRanges: [{ start: 0n, end: 2n ** 64n - 1n }], alignment: 1n });
    const memory = client.transport.allocate(8192);
    const mapping = { vaddr: memory.address, size: 8192n };
    await ioas.mapDma({ iova: 0x10000n, ...mapping });
    await expect(ioas.mapDma({ iova: 0x11000n, ...mapping })).rejects.toMatchObject({
      code: 'EEXIST',
      syscall: 'IOMMU_IOAS_MAP',
    });
    await ioas.allowIovas([{ start: 0x80000n, end: 0x8ffffn }]);
    expect(await ioas.mapAnywhere(mapping)).toBe(0x80000n);
    const other = await iommufd.allocIoas();
    await other.copyDma({ ioas, iova: 0x10000n, size: 8192n }, 0x4000n);
    expect(await ioas.unmapAll()).toBe(16384n);
    expect(await other.unmapDma({ iova: 0x4000n, size: 8192n })).toBe(8192n);
    {
      await using buffer = await other.dmaBuffer(0x4000n, 4096);
      buffer.write(0, Uint8Array.of(1));
    }
    expect(await other.unmapAll()).toBe(0n);
    memory.free();
  });

  it('stands in for a container', async () => {
    await using machine = await load();
    const client = machine.client();
    await using container = await client.openContainer('/dev/iommu');
    await using group = await client.openGroup(await client.groupOf(first));
    await group.setContainer(container);
    await container.setIommu('type1v2');
    expect(await container.checkExtension(Extension.TYPE1v2_IOMMU)).toBe(1);
    await using device = await group.getDevice(first);
    await using memory = await container.dmaBuffer(0x10000n, 4096);
    expect(memory.size).toBe(4096n);
    expect((await device.info()).numIrqs).toBe(5);
  });
});

describe('exercise', () => {
  it('goes through both doors', async () => {
    await using machine = await load();
    const steps = [];
    for await (const step of machine.exercise(first)) steps.push(step);
    expect(steps.filter(({ ok }) => !ok)).toEqual([]);
    expect(steps.map(({ name }) => name)).toEqual(expect.arrayContaining(['dma', 'iommufd dma', 'iommufd migration']));
  });

  it('knows no nodes where there are none', async () => {
    await using machine = await load({ ...lab, vfio: {} });
    await expect(machine.client().nodeOf(first)).rejects.toSatisfy((error) => isVfioError(error, 'ENODEV'));
    const steps = [];
    for await (const step of machine.exercise(first)) steps.push(step.name);
    expect(steps.some((name) => name.startsWith('iommufd'))).toBe(false);
  });
});
