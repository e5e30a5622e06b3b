// Stories across packages: what somebody does with a machine in a day.

import { isVfioError } from '@vfio/core';
import { VirtualClock } from '@vfio/host';
import { Machine, type MachineFile } from '@vfio/machine';
import { driverPackage } from '@vfio/mdev-samples/machine';
import { describe, expect, it } from 'vitest';

const [first, second] = ['83b8f4f2-509f-382f-3c1e-e6bfe0fa1001', '83b8f4f2-509f-382f-3c1e-e6bfe0fa1002'] as const;
const lab: MachineFile = {
  version: 1,
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
const load = () => Machine.load(lab, { drivers: [driverPackage], checked: true, clock: new VirtualClock() });
const remove = (machine: Machine, uuid: string) =>
  machine.host.init.writeFile(`/sys/bus/mdev/devices/${uuid}/remove`, '1');

describe('a lab', () => {
  it('has two devices in one container, which share its mappings', async () => {
    await using machine = await load();
    const client = machine.client();
    await using one = await client.openDevice(first);
    await using two = await client.openDevice(second, { container: one.container });
    expect(two.container).toBe(one.container);
    await using memory = await one.container.dmaBuffer(0x10000n, 4096);
    expect(memory.size).toBe(4096n);
    await expect(two.container.mapDma({ iova: 0x10000n, vaddr: 0x1000n, size: 4096n })).rejects.toMatchObject({
      code: 'EEXIST',
      syscall: 'VFIO_IOMMU_MAP_DMA',
    });
  });

  it('moves a serial card with bytes in its FIFO from one machine to another', async () => {
    await using source = await load();
    await using target = await load();
    await using from = await source.client().openDevice(first);
    await using to = await target.client().openDevice(second);
    const text = new TextEncoder().encode('on its way');
    for (const byte of text) await from.writeRegion(0, 0, Uint8Array.of(byte));
    await to.migration.load(await from.migration.save());
    await to.migration.setState('RUNNING');
    const arrived: number[] = [];
    while ((await to.readRegion(0, 5, 1))[0] === 0x01) arrived.push(...(await to.readRegion(0, 0, 1)));
    expect(arrived).toEqual([...text]);
  });

  it('removes a device only when its last user is gone', async () => {
    await using machine = await load();
    const device = await machine.client().openDevice(first);
    let gone = false;
    const removal = (async () => {
      await remove(machine, first);
      gone = true;
    })();
    for (let turn = 0; turn < 10; turn++) await new Promise((resolve) => setImmediate(resolve));
    expect(gone).toBe(false);
    await device.close();
    await removal;
    expect((await machine.devices()).map(({ address }) => address)).toEqual([second]);
  });

  it('keeps the devices of an unprivileged user apart from those of root', async () => {
    await using machine = await load();
    const { ProcessTransport, VfioClient } = await import('@vfio/client');
    const user = new VfioClient(new ProcessTransport(machine.process({ comm: 'user', uid: 1000 })));
    await expect(user.openDevice(first)).rejects.toSatisfy((error) => isVfioError(error, 'EACCES'));
    const node = (await machine.devices()).find(({ address }) => address === first)?.node ?? '';
    machine.host.init.chmod(node, 0o666);
    await using device = await user.openDevice(first);
    expect((await device.info()).numRegions).toBe(9);
  });

  it('exercises every device without a failing step', async () => {
    await using machine = await load();
    for (const { address } of await machine.devices()) {
      for await (const step of machine.exercise(address))
        expect(step, `${address} ${step.name}: ${step.detail}`).toMatchObject({ ok: true });
    }
  });
});
