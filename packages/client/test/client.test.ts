import { Request, VfioError } from '@vfio/core';
import type { Process } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { ProcessTransport, VfioClient } from '../src/index.js';
import { createLab, failEveryStep, failureOf, type Lab } from './lab.js';

/** Writes down the calls that open and close, and makes one of them fail. */
class Failing extends ProcessTransport {
  readonly calls: string[] = [];
  /** Number of the call that fails, from 0. */
  failAt = -1;

  #step(call: string): void {
    this.calls.push(call);
    if (this.calls.length - 1 === this.failAt) throw new VfioError('EIO', 'told to fail', { syscall: call });
  }

  override async open(path: string): Promise<number> {
    this.#step(`open ${path}`);
    return await super.open(path);
  }

  override async close(fd: number): Promise<void> {
    await super.close(fd);
    this.#step(`close ${fd}`);
  }

  override async ioctl(fd: number, request: number, argument: number | bigint | Uint8Array): Promise<number> {
    const [name] = Object.entries(Request).find(([, number]) => number === request) ?? [];
    this.#step(`ioctl ${fd} ${name}`);
    return await super.ioctl(fd, request, argument);
  }

  override async readdir(path: string): Promise<string[]> {
    this.#step(`readdir ${path}`);
    return await super.readdir(path);
  }
}

const opening = [
  'readdir /sys/bus',
  'readdir /dev/vfio',
  'open /dev/vfio/vfio',
  'open /dev/vfio/0',
  'ioctl 1 GROUP_SET_CONTAINER',
  'ioctl 0 SET_IOMMU',
  'ioctl 1 GROUP_GET_DEVICE_FD',
];

function failing(lab: Lab): { transport: Failing; client: VfioClient; process: Process } {
  const process = lab.host.spawn();
  const transport = new Failing(process);
  return { transport, client: new VfioClient(transport), process };
}

describe('openDevice', () => {
  it('opens container, group and device, and closes them in reverse', async () => {
    await using lab = await createLab();
    const { transport, client, process } = failing(lab);
    const device = await client.openDevice('model0');
    expect(transport.calls).toEqual(opening);
    expect(device.name).toBe('model0');
    expect(device.group.subject).toBe('group 0');
    expect(device.container).toBe(device.group.container);
    expect(lab.model().openCount).toBe(1);
    await device.close();
    await device.close();
    expect(transport.calls.slice(opening.length)).toEqual(['close 2', 'close 1', 'close 0']);
    expect([lab.model().openCount, process.files.descriptors()]).toEqual([0, []]);
  });

  it.each(opening.map((step, i) => [step, i] as const))('leaves nothing behind when %s fails', async (step, i) => {
    await using lab = await createLab();
    const { transport, client, process } = failing(lab);
    transport.failAt = i;
    const [call, object, request] = step.split(' ');
    expect(await failureOf(client.openDevice('model0'))).toMatchObject({
      name: 'VfioError',
      code: 'EIO',
      syscall: request === undefined ? call : `VFIO_${request}`,
      subject: request === undefined ? object : object === '0' ? '/dev/vfio/vfio' : 'group 0',
    });
    expect([process.files.descriptors(), lab.model().openCount]).toEqual([[], 0]);
    transport.failAt = -1;
    await using _device = await client.openDevice('model0');
  });

  it('leaves nothing behind whichever step of the kernel fails', async () => {
    const steps = await failEveryStep(
      () => createLab(),
      (client) => client.openDevice('model0'),
    );
    expect(steps).toBeGreaterThan(10);
  });

  it('closes the rest when one of them does not close', async () => {
    await using lab = await createLab();
    const { transport, client, process } = failing(lab);
    const device = await client.openDevice('model0');
    transport.failAt = transport.calls.length; // the device
    expect(await failureOf(device.close())).toMatchObject({ code: 'EIO', syscall: 'close', subject: 'model0' });
    expect(process.files.descriptors()).toEqual([]);
  });

  it('joins a container of the caller, which stays open', async () => {
    await using lab = await createLab({ devices: 2 });
    await using first = await lab.client.openDevice('model0');
    const { container } = first;
    const second = await lab.client.openDevice('model1', { container });
    expect(second.container).toBe(container);
    await using memory = await container.dmaBuffer(0x10_0000n, 4096);
    // both reach the same mapping
    await lab.model('model0').dmaWrite(memory.iova, Uint8Array.of(1));
    await lab.model('model1').dmaWrite(memory.iova + 1n, Uint8Array.of(2));
    expect(memory.read(0, 2)).toEqual(Uint8Array.of(1, 2));
    await second.close();
    expect(container.isOpen).toBe(true);
    expect((await container.info()).dmaAvail).toBe(65534);
  });

  it('leaves a container of the caller open when it fails', async () => {
    await using lab = await createLab();
    const { client, process } = failing(lab);
    await using container = await client.openContainer();
    // nobody has set it to an IOMMU
    expect(await failureOf(client.openDevice('model0', { container }))).toMatchObject({ code: 'EINVAL' });
    expect([container.isOpen, process.files.descriptors()]).toEqual([true, [container.fd]]);
  });

  it('sets a container of its own as it is told', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0', { iommu: 'type1' });
    // version 1 has no log of dirty pages
    expect(await failureOf(device.container.startDirtyTracking())).toMatchObject({ code: 'EACCES' });
  });

  it('gives the options behind a name to the driver', async () => {
    await using lab = await createLab();
    expect(await failureOf(lab.client.openDevice('model0 vf_token=x'))).toMatchObject({
      code: 'ENODEV',
      syscall: 'VFIO_GROUP_GET_DEVICE_FD',
    });
  });

  it('says EBUSY of a group that somebody else has open', async () => {
    await using lab = await createLab();
    await using _device = await lab.client.openDevice('model0');
    const { client } = failing(lab);
    await expect(client.openDevice('model0')).rejects.toThrow(/^EBUSY: .*open '\/dev\/vfio\/0'$/);
  });
});

describe('groupOf', () => {
  it('finds the node of the group by the name of the device, on whatever bus', async () => {
    await using lab = await createLab({ devices: 2 });
    expect(await lab.client.groupOf('model0')).toBe('0');
    expect(await lab.client.groupOf('model1')).toBe('1');
  });

  it.each(['model7', '', '../../kernel', 'model0/power'])('knows no device %j', async (address) => {
    await using lab = await createLab();
    expect(await failureOf(lab.client.groupOf(address))).toMatchObject({ code: 'ENODEV', subject: address });
  });

  it('says of a device without a VFIO driver that it has none', async () => {
    await using lab = await createLab({ devices: 2 });
    await lab.unbind('model1');
    const error = await failureOf(lab.client.groupOf('model1'));
    expect(error.message).toBe("ENODEV: the device is not bound to a VFIO driver, 'model1'");
    await lab.bind('model1');
    expect(await lab.client.groupOf('model1')).toBe('1');
  });

  it('says so too before the first module is loaded, when there is no /dev/vfio', async () => {
    await using lab = await createLab();
    for (const module of ['model', 'vfio_iommu_type1', 'vfio']) await lab.host.modules.rmmod(module);
    expect(() => lab.host.init.readdir('/dev/vfio')).toThrow(expect.objectContaining({ code: 'ENOENT' }));
    expect(await failureOf(lab.client.groupOf('model0'))).toMatchObject({ code: 'ENODEV', subject: 'model0' });
  });

  it('does not take a failure to look for an absence', async () => {
    await using lab = await createLab();
    const { transport, client } = failing(lab);
    transport.readlink = async (path) => {
      throw new VfioError('EACCES', 'no', { syscall: 'readlink', subject: path });
    };
    expect(await failureOf(client.groupOf('model0'))).toMatchObject({ code: 'EACCES', syscall: 'readlink' });
  });
});
