import { isVfioError, VfioError } from '@vfio/core';
import { SystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { asVfioError } from '../src/call.js';
import { ProcessTransport, VfioClient } from '../src/index.js';
import { createLab, failureOf } from './lab.js';

describe('errors', () => {
  it('carry code, errno, the request and what it was made on, in the shape of Node', async () => {
    await using lab = await createLab();
    await using container = await lab.client.openContainer();
    const error = await failureOf(container.setIommu('type1v2'));
    expect(error).toMatchObject({ code: 'EINVAL', errno: -22, syscall: 'VFIO_SET_IOMMU', subject: '/dev/vfio/vfio' });
    expect(error.message).toMatch(/^EINVAL: .+, VFIO_SET_IOMMU '\/dev\/vfio\/vfio'$/);
    expect(isVfioError(error, 'EINVAL')).toBe(true);
  });

  it('name the part of a device that was used', async () => {
    await using lab = await createLab();
    await using device = await lab.client.openDevice('model0');
    const region = await device.region(2);
    expect(await failureOf(region.write(0, Uint8Array.of(1)))).toMatchObject({
      code: 'EINVAL',
      syscall: 'pwrite',
      subject: 'model0 region 2',
    });
  });

  it('keep what the kernel said as their cause', () => {
    const cause = new SystemError('EBUSY', 'two users', { syscall: 'ioctl', subject: '7' });
    const error = asVfioError(cause, 'VFIO_DEVICE_RESET', 'model0');
    expect(error).toBeInstanceOf(VfioError);
    expect(error).toMatchObject({ message: "EBUSY: two users, VFIO_DEVICE_RESET 'model0'", cause });
  });

  it('understand those of a transport that knows nothing of this one', () => {
    const cause = Object.assign(new Error("EACCES: permission denied, open '/dev/vfio/2'"), {
      code: 'EACCES',
      errno: -13,
      syscall: 'open',
    });
    expect(asVfioError(cause, 'open', '/dev/vfio/2')).toMatchObject({
      name: 'VfioError',
      code: 'EACCES',
      errno: -13,
      message: "EACCES: permission denied, open '/dev/vfio/2'",
    });
  });

  it('take a reason with a comma and the name of the call in it as it is', () => {
    const cause = Object.assign(new Error('EIO: no, ioctl, no'), { code: 'EIO' });
    expect(asVfioError(cause, 'ioctl', 'x')).toMatchObject({ message: "EIO: no, ioctl, no, ioctl 'x'" });
  });

  it('leave bugs alone: what has no errno is no answer of a kernel', () => {
    for (const bug of [new TypeError('x'), Object.assign(new Error('x'), { code: 'ERR_ASSERTION' }), 'x', undefined]) {
      expect(asVfioError(bug, 'ioctl', 'x')).toBe(bug);
    }
  });

  it('are not wrapped twice', () => {
    const error = new VfioError('EIO', 'x', { syscall: 'ioctl', subject: 'y' });
    expect(asVfioError(error, 'ioctl', 'y')).toBe(error);
  });
});

describe('a descriptor', () => {
  it('is closed once, however often somebody says so', async () => {
    await using lab = await createLab();
    const process = lab.host.spawn();
    const client = new VfioClient(new ProcessTransport(process));
    const container = await client.openContainer();
    expect(container.isOpen).toBe(true);
    const both = [container.close(), container.close()];
    expect(container.isOpen).toBe(false);
    await Promise.all(both);
    // the number is somebody else's now
    const other = await client.openContainer();
    expect(other.fd).toBe(container.fd);
    await container.close();
    await container[Symbol.asyncDispose]();
    expect(process.files.descriptors()).toEqual([other.fd]);
    await other.close();
  });

  it('that was closed is EBADF, and does not reach whoever has its number by then', async () => {
    await using lab = await createLab();
    const device = await lab.client.openDevice('model0');
    const region = await device.region(0);
    const [irq] = await device.irqs();
    await device.close();
    await using again = await lab.client.openDevice('model0');
    expect(again.fd).toBe(device.fd);
    const error = await failureOf(region.write(0, Uint8Array.of(1)));
    expect(error).toMatchObject({ code: 'EBADF', syscall: 'pwrite', subject: 'model0 region 0' });
    await expect(device.reset()).rejects.toThrow("EBADF: it was closed, VFIO_DEVICE_RESET 'model0'");
    await expect(irq?.disable()).rejects.toThrow(expect.objectContaining({ code: 'EBADF' }));
    expect(lab.model().registers(0, 1)).toEqual(Uint8Array.of(0));
  });

  it('that fails to close says so to everybody who waits for it', async () => {
    await using lab = await createLab();
    const process = lab.host.spawn();
    const container = await new VfioClient(new ProcessTransport(process)).openContainer();
    await process.close(container.fd);
    const closed = "EBADF: descriptor 0 is not open, close '/dev/vfio/vfio'";
    await expect(container.close()).rejects.toThrow(closed);
    await expect(container.close()).rejects.toThrow(closed);
  });

  it('is given back by `await using`', async () => {
    await using lab = await createLab();
    const process = lab.host.spawn();
    {
      await using container = await new VfioClient(new ProcessTransport(process)).openContainer();
      expect(process.files.descriptors()).toEqual([container.fd]);
    }
    expect(process.files.descriptors()).toEqual([]);
  });
});
