import { describe, expect, it } from 'vitest';
import { createLab, failureOf } from './lab.js';

describe('a group', () => {
  it('tells its status, and knows the container that it was put into', async () => {
    await using lab = await createLab();
    await using container = await lab.client.openContainer();
    await using group = await lab.client.openGroup(0);
    expect(await group.status()).toEqual({ viable: true, containerSet: false });
    await group.setContainer(container);
    expect(await group.status()).toEqual({ viable: true, containerSet: true });
    expect(group.container).toBe(container);
    await group.unsetContainer();
    expect(await group.status()).toEqual({ viable: true, containerSet: false });
    expect(group.container).toBeUndefined();
  });

  it('forgets and learns nothing from requests that fail', async () => {
    await using lab = await createLab();
    await using container = await lab.client.openContainer();
    await using other = await lab.client.openContainer();
    await using group = await lab.client.openGroup('0');
    expect(await failureOf(group.unsetContainer())).toMatchObject({
      code: 'EINVAL',
      syscall: 'VFIO_GROUP_UNSET_CONTAINER',
      subject: 'group 0',
    });
    await group.setContainer(container);
    expect(await failureOf(group.setContainer(other))).toMatchObject({ code: 'EINVAL' });
    expect(group.container).toBe(container);
    await container.setIommu('type1v2');
    await using _device = await group.getDevice('model0');
    expect(await failureOf(group.unsetContainer())).toMatchObject({ code: 'EBUSY' });
    expect(group.container).toBe(container);
  });

  it('opens its devices by name', async () => {
    await using lab = await createLab({ devices: 2, oneGroup: true });
    await using container = await lab.client.openContainer();
    await using group = await lab.client.openGroup(0);
    await group.setContainer(container);
    await container.setIommu('type1v2');
    await using first = await group.getDevice('model0');
    await using second = await group.getDevice('model1');
    await using again = await group.getDevice('model1');
    expect([first.name, second.name, again.name]).toEqual(['model0', 'model1', 'model1']);
    expect([lab.model('model0').openCount, lab.model('model1').openCount]).toEqual([1, 2]);
    expect(await failureOf(group.getDevice('model2'))).toMatchObject({
      code: 'ENODEV',
      syscall: 'VFIO_GROUP_GET_DEVICE_FD',
    });
  });

  it('is told of when its node is not there', async () => {
    await using lab = await createLab();
    expect(await failureOf(lab.client.openGroup(99))).toMatchObject({ code: 'ENOENT', subject: '/dev/vfio/99' });
  });

  it('says of its devices that they are in no container before it is in one', async () => {
    await using lab = await createLab();
    await using container = await lab.client.openContainer();
    await using group = await lab.client.openGroup(0);
    await group.setContainer(container);
    await container.setIommu('type1v2');
    await using device = await group.getDevice('model0');
    expect(device.container).toBe(container);
    group.container = undefined;
    expect(() => device.container).toThrow('group 0 is in no container of this client');
  });
});
