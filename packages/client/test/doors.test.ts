import { describe, expect, it } from 'vitest';
import type { Device, VfioClient } from '../src/index.js';
import { createLab, failEveryStep, failureOf, type Lab } from './lab.js';
import { imageSize } from './model-migration.js';

const page = 4096n;
const iova = 0x20_0000n;

/** Opens a device through its group, which has an iommufd for a container. */
async function onIommufd(client: VfioClient): Promise<Device> {
  const iommufd = await client.openIommufd();
  try {
    const device = await client.openDevice('model0', { iommufd });
    device.closeWith([iommufd]);
    return device;
  } catch (error) {
    await iommufd.close();
    throw error;
  }
}

/** Opens a device through its own node, with an iommufd that it is given. */
async function onGivenIommufd(client: VfioClient): Promise<Device> {
  const iommufd = await client.openIommufd();
  try {
    const device = await client.openCdev('model0', { iommufd });
    device.closeWith([iommufd]);
    return device;
  } catch (error) {
    await iommufd.close();
    throw error;
  }
}

const doors: Readonly<Record<string, (client: VfioClient) => Promise<Device>>> = {
  'a group with a container': (client) => client.openDevice('model0'),
  'a group on an iommufd': onIommufd,
  'its own node': (client) => client.openCdev('model0'),
  'its own node, on an iommufd that is there': onGivenIommufd,
};

describe.each(Object.entries(doors))('a device behind %s', (_name, open) => {
  const lab = (): Promise<Lab> => createLab({ iommufd: true });

  it('shows the same regions and interrupts', async () => {
    await using on = await lab();
    await using device = await open(on.client);
    expect(await device.info()).toMatchObject({ numRegions: expect.any(Number) });
    const [first] = await device.regions();
    if (!first) throw new Error('a region');
    await device.writeRegion(first.index, 0, Uint8Array.of(1, 2, 3, 4));
    expect(await device.readRegion(first.index, 0, 4)).toEqual(Uint8Array.of(1, 2, 3, 4));
    const eventfd = device.transport.eventfd();
    await device.setTriggers(0, [eventfd]);
    await (await device.irq(0)).trigger();
    expect(device.transport.takeEvents(eventfd)).toBe(1n);
    await device.setTriggers(0, []);
    await device.transport.close(eventfd);
    await device.reset();
  });

  it('reaches memory where its space says', async () => {
    await using on = await lab();
    await using device = await open(on.client);
    await using memory = await device.space.dmaBuffer(iova, 4096);
    await on.model().dmaWrite(iova, Uint8Array.of(7));
    expect(memory.read(0, 1)).toEqual(Uint8Array.of(7));
    expect((await device.space.iovaRanges()).length).toBe(2);
    expect(await device.space.unmapAll()).toBe(page);
    await expect(on.model().dmaWrite(iova, Uint8Array.of(7))).rejects.toMatchObject({ code: 'EFAULT' });
  });

  it('migrates and logs its writes', async () => {
    await using on = await lab();
    await using device = await open(on.client);
    await using _memory = await device.space.dmaBuffer(iova, 4 * 4096);
    await device.dmaLogging.start([{ iova, length: 4n * page }], page);
    await on.model().dmaWrite(iova + 2n * page, Uint8Array.of(1));
    expect((await device.dmaLogging.report(iova, 4n * page, page))[0]).toBe(0b100);
    await device.dmaLogging.stop();
    const image = await device.migration.save();
    expect(image).toHaveLength(imageSize);
    await device.migration.load(image);
  });

  it('takes nothing that it does not give back', async () => {
    expect(await failEveryStep(lab, open)).toBeGreaterThan(4);
  });
});

describe('a group on an iommufd', () => {
  it('knows the address space of its devices, as long as it is on it', async () => {
    await using on = await createLab({ iommufd: true });
    await using iommufd = await on.client.openIommufd();
    await using group = await on.client.openGroup(0);
    await group.setContainer(iommufd);
    expect(group.ioas?.id).toBe((await iommufd.vfioIoas()).id);
    const device = await group.getDevice('model0');
    expect(device.space).toBe(group.ioas);
    expect(() => device.container).toThrow('in no container');
    await device.close();
    await group.unsetContainer();
    expect(group.ioas).toBeUndefined();
  });

  it('has none for a device without an IOMMU', async () => {
    await using on = await createLab({ iommufd: true, noiommu: true, withoutIommu: true });
    await using iommufd = await on.client.openIommufd();
    await using device = await on.client.openDevice('model0', { iommufd });
    expect(device.group.ioas).toBeUndefined();
    expect(await device.info()).toBeDefined();
    expect(await failureOf(iommufd.vfioIoas())).toMatchObject({ code: 'ENODEV' });
  });
});
