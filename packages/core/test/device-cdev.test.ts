import { KvmVmFile, O, PAGE_SIZE, Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import {
  dmaRw,
  fileSetKvm,
  type IommufdContext,
  IommuHwptAllocFlag,
  pinPages,
  putDevice,
  Request,
  unpinPages,
  unregisterGroupDev,
  VfioError,
} from '../src/index.js';
import {
  allocHwpt,
  allocIoas,
  attach,
  bind,
  destroy,
  detach,
  EmulatedDevice,
  mapAt,
  openCdev,
  openIommufd,
  PasidDevice,
  PhysicalDevice,
  registerAs,
  unmapAt,
} from './cdev-harness.js';
import { benchForEach, code, type Journal, pending, type TestBench } from './harness.js';

let on: TestBench;
benchForEach(
  (made) => {
    on = made;
  },
  { iommufd: true, deviceCdev: true, pasids: 16 },
);

/** What was thrown, each error that hides others taken apart. Node 20 knows `SuppressedError` by its shape only. */
function messages(error: unknown): string[] {
  if (!(error instanceof Error)) return [];
  if ('suppressed' in error && 'error' in error) return [error.error, error.suppressed].flatMap(messages).sort();
  return error instanceof AggregateError ? error.errors.flatMap(messages).sort() : [error.message];
}

/** Requests that a device answers once access is granted. */
const requests = [
  ['GET_INFO', Request.DEVICE_GET_INFO, 24],
  ['GET_REGION_INFO', Request.DEVICE_GET_REGION_INFO, 32],
  ['FEATURE', Request.DEVICE_FEATURE, 8],
  ['RESET', Request.DEVICE_RESET, 0],
  ['ATTACH', Request.DEVICE_ATTACH_IOMMUFD_PT, 12],
  ['DETACH', Request.DEVICE_DETACH_IOMMUFD_PT, 8],
] as const;

describe('the node of a device', () => {
  it('has the numbers that sysfs tells, and goes when the device is unregistered', async () => {
    const { device, ...rest } = await registerAs(on, PhysicalDevice, 'dev0');
    const path = `/dev/vfio/devices/${device.name}`;
    const dev = await on.process.readFile(`${device.device.sysfs.path()}/dev`);
    expect(dev).toBe(`${on.vfio.deviceMajor}:${device.index}\n`);
    expect(on.process.stat(path)).toMatchObject({ mode: expect.any(Number) });
    await rest[Symbol.asyncDispose]();
    expect(() => on.process.stat(path)).toThrow(code('ENOENT'));
  });

  it('CORE-054 opens any number of times without a user of the device', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fds = [await openCdev(held.device, on.process), await openCdev(held.device, on.process)];
    expect(held.device.openCount).toBe(0);
    expect(held.device.journal).toEqual(['init']);
    // the group is not touched either
    await on.process.close(await on.openGroup(held.device));
    for (const fd of fds) await on.process.close(fd);
    expect(held.device.journal).toEqual(['init']);
  });

  it('CORE-029 is ENODEV between its appearance and the registration', async () => {
    let early: unknown;
    const { devices } = on.host;
    const add = devices.add.bind(devices);
    devices.add = async (dev) => {
      await add(dev);
      if (dev.name === 'vfio0')
        early = await on.process.open('/dev/vfio/devices/vfio0', O.RDWR).catch((error) => error);
    };
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    expect(early).toEqual(code('ENODEV'));
    await on.process.close(await openCdev(held.device, on.process));
  });

  it('CORE-055 does nothing before it is bound', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fd = await openCdev(held.device, on.process);
    for (const [name, number, size] of requests) {
      const bytes = new Uint8Array(size);
      if (size > 0) new DataView(bytes.buffer).setUint32(0, size, true);
      await expect(on.process.ioctl(fd, number, bytes), name).rejects.toEqual(code('EINVAL'));
    }
    await expect(async () => on.process.pread(fd, new Uint8Array(4), 0)).rejects.toEqual(code('EINVAL'));
    await expect(async () => on.process.pwrite(fd, new Uint8Array(4), 0)).rejects.toEqual(code('EINVAL'));
    await expect(on.process.mmap(fd, { length: 4096, prot: 3, offset: 0 })).rejects.toEqual(code('EINVAL'));
    await on.process.close(fd);
  });

  it('H33 an open node keeps the device registered though it was never bound', async () => {
    const held = await registerAs(on, PhysicalDevice, 'dev0');
    const asked: number[] = [];
    held.device.request = (count) => asked.push(count);
    const fd = await openCdev(held.device, on.process);
    const gone = unregisterGroupDev(held.device);
    expect([await pending(gone), asked]).toEqual([true, [0]]);
    await on.clock.advance(10_000);
    expect(asked).toEqual([0, 1]);
    await expect(openCdev(held.device, on.process)).rejects.toEqual(code('ENOENT'));
    await on.process.close(fd);
    await gone;
    await putDevice(held.device);
  });
});

describe('VFIO_DEVICE_BIND_IOMMUFD', () => {
  it('CORE-056 and CORE-066 opens the device on an iommufd, and closing the node undoes it all', async () => {
    await on.host.modules.modprobe('kvm');
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const { device } = held;
    const kvm = await on.process.open('/dev/kvm', O.RDWR);
    const vmFd = await on.process.ioctl(kvm, 0xae01);
    const vmFile = on.process.files.get(vmFd);
    if (!(vmFile instanceof KvmVmFile)) throw new TypeError('no machine');
    const fd = await openCdev(device, on.process);
    const iommufd = await openIommufd(on.process);
    const alone = [vmFile.vm.users, on.host.tracker.count('file')];
    fileSetKvm(on.process.files.get(fd), vmFile.vm);
    const id = await bind(on.process, fd, iommufd);
    expect(id).toBe(1);
    expect(device.openCount).toBe(1);
    const info = new Uint8Array(32);
    new DataView(info.buffer).setUint32(0, 32, true);
    expect(await on.process.ioctl(fd, Request.DEVICE_GET_REGION_INFO, info)).toBe(0);
    await expect(destroy(on.process, iommufd, id)).rejects.toEqual(code('EBUSY'));
    // the device keeps the iommufd when its file is closed first
    await on.process.close(iommufd);
    expect(device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(true);
    expect([device.kvm, vmFile.vm.users, on.host.tracker.count('file')]).toEqual([vmFile.vm, alone[0]! + 1, alone[1]!]);
    await expect(on.openGroup(device)).rejects.toEqual(code('EBUSY'));
    await on.process.close(fd);
    expect(device.journal).toEqual(['init', 'bind', 'openDevice', 'closeDevice', 'unbind']);
    expect(device.openCount).toBe(0);
    // the machine is given back, and the file of the iommufd ends with that of the node
    expect([device.kvm, vmFile.vm.users, on.host.tracker.count('file')]).toEqual([undefined, alone[0]!, alone[1]! - 2]);
    expect(device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    await on.process.close(await on.openGroup(device));
    for (const open of [vmFd, kvm]) await on.process.close(open);
  });

  it('gives everything back although every step of closing throws, and shows all of it', async () => {
    class Breaks extends PhysicalDevice {
      context: IommufdContext | undefined;
      override async bindIommufd(context: IommufdContext): Promise<number> {
        this.context = context;
        return await super.bindIommufd(context);
      }
      override closeDevice(): void {
        throw new TypeError('close');
      }
      override async unbindIommufd(): Promise<void> {
        await super.unbindIommufd();
        const { context } = this;
        if (!context) throw new TypeError('not bound');
        // what is left is the reference of the file
        const put = context.put.bind(context);
        context.put = async () => {
          await put();
          throw new TypeError('put');
        };
        throw new TypeError('unbind');
      }
    }
    await on.host.modules.modprobe('kvm');
    await using held = await registerAs(on, Breaks, 'dev0');
    const { device } = held;
    const kvm = await on.process.open('/dev/kvm', O.RDWR);
    const vmFd = await on.process.ioctl(kvm, 0xae01);
    const vmFile = on.process.files.get(vmFd);
    if (!(vmFile instanceof KvmVmFile)) throw new TypeError('no machine');
    const fd = await openCdev(device, on.process);
    const iommufd = await openIommufd(on.process);
    fileSetKvm(on.process.files.get(fd), vmFile.vm);
    await bind(on.process, fd, iommufd);
    await on.process.close(iommufd);
    const failure: unknown = await on.process.close(fd).catch((error: unknown) => error);
    expect(messages(failure)).toEqual(['close', 'put', 'unbind']);
    expect([device.openCount, device.kvm, on.driver.module?.refcount]).toEqual([0, undefined, 0]);
    expect(device.record?.cdevOpened).toBe(false);
    expect(device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    // the group is free again
    await on.process.close(await on.openGroup(device));
    for (const open of [vmFd, kvm]) await on.process.close(open);
  });

  it('CORE-057 takes a structure of 16 bytes or more, if it knows what is in it', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fd = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    for (const argsz of [0, 4, 15]) {
      await expect(bind(on.process, fd, iommufd, { argsz })).rejects.toEqual(code('EINVAL'));
    }
    const long = new Uint8Array(32);
    const view = new DataView(long.buffer);
    view.setUint32(0, 32, true);
    view.setInt32(8, iommufd, true);
    view.setUint8(31, 1);
    await expect(on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, long)).rejects.toEqual(code('E2BIG'));
    await expect(on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, 0)).rejects.toEqual(code('EFAULT'));
    // what is not 0 counts before what is not there
    const { mm } = on.process;
    const page = mm.mmap({ length: PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    const atEnd = page + BigInt(PAGE_SIZE - long.length);
    view.setUint32(0, 2 * PAGE_SIZE, true);
    mm.copyTo(atEnd, long);
    await expect(on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, atEnd)).rejects.toEqual(code('E2BIG'));
    view.setUint8(31, 0);
    mm.copyTo(atEnd, long);
    await expect(on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, atEnd)).rejects.toEqual(code('EFAULT'));
    view.setUint32(0, 32, true);
    expect(await on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, long)).toBe(0);
    expect(view.getUint32(12, true)).toBe(1);
    await on.process.close(fd);
    await on.process.close(iommufd);
  });

  it('CORE-058 and CORE-062 refuses descriptors and flags, and leaves nothing behind', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fd = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    await expect(bind(on.process, fd, -1)).rejects.toEqual(code('EINVAL'));
    await expect(bind(on.process, fd, iommufd, { flags: 2 })).rejects.toEqual(code('EINVAL'));
    await expect(bind(on.process, fd, 999)).rejects.toEqual(code('EBADF'));
    await expect(bind(on.process, fd, fd)).rejects.toEqual(code('EBADFD'));
    expect(held.device.openCount).toBe(0);
    await on.process.close(await on.openGroup(held.device));
    await on.process.close(fd);
    await on.process.close(iommufd);
  });

  it('CORE-062 and H26: what the driver refuses is undone', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0', { fail: { openDevice: 'EIO' } });
    const fd = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    await expect(bind(on.process, fd, iommufd)).rejects.toEqual(code('EIO'));
    expect(held.device.journal).toEqual(['init', 'bind', 'openDevice', 'unbind']);
    expect(held.device.openCount).toBe(0);
    expect(held.device.dev.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    await on.process.close(await on.openGroup(held.device));
    await on.process.close(fd);
    await on.process.close(iommufd);
  });

  it('CORE-059, CORE-075 and CORE-060: a group and a node exclude each other', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const cdev = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    const group = await on.openGroup(held.device);
    await expect(bind(on.process, cdev, iommufd)).rejects.toEqual(code('EBUSY'));
    await on.setContainer(group, iommufd);
    const fd = await on.getDeviceFd(group, 'dev0');
    await expect(bind(on.process, fd, iommufd)).rejects.toEqual(code('EINVAL'));
    // the driver's own requests are asked: it has none
    await expect(attach(on.process, fd, 1)).rejects.toEqual(code('ENOTTY'));
    await expect(detach(on.process, fd)).rejects.toEqual(code('ENOTTY'));
    await on.process.close(fd);
    await on.process.close(group);
    await bind(on.process, cdev, iommufd);
    await expect(on.openGroup(held.device)).rejects.toEqual(code('EBUSY'));
    await on.process.close(cdev);
    await on.process.close(await on.openGroup(held.device));
    await on.process.close(iommufd);
  });

  it('CORE-061 and H29: a second bind fails and leaves the first one its virtual machine', async () => {
    await on.host.modules.modprobe('kvm');
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const kvm = await on.process.open('/dev/kvm', O.RDWR);
    const vmFd = await on.process.ioctl(kvm, 0xae01);
    const otherFd = await on.process.ioctl(kvm, 0xae01);
    const [vmFile, other] = [on.process.files.get(vmFd), on.process.files.get(otherFd)];
    if (!(vmFile instanceof KvmVmFile && other instanceof KvmVmFile)) throw new TypeError('no machine');
    const first = await openCdev(held.device, on.process);
    const second = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    fileSetKvm(on.process.files.get(first), vmFile.vm);
    fileSetKvm(on.process.files.get(second), other.vm);
    await bind(on.process, first, iommufd);
    expect(held.device.kvm).toBe(vmFile.vm);
    await expect(bind(on.process, first, iommufd)).rejects.toEqual(code('EINVAL'));
    await expect(bind(on.process, second, iommufd)).rejects.toEqual(code('EINVAL'));
    expect(held.device.kvm).toBe(vmFile.vm);
    expect(held.device.openCount).toBe(1);
    for (const fd of [second, first, iommufd, otherFd, vmFd, kvm]) await on.process.close(fd);
    expect(held.device.kvm).toBeUndefined();
  });

  it('CORE-063 and CORE-064 presents a token, or none, to a driver that asks for one', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fd = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    const address = on.process.mm.mmap({ length: 4096, prot: 3 });
    const token = Uint8Array.from({ length: 16 }, (_, at) => at);
    on.process.mm.copyTo(address, token);
    const withToken = { argsz: 24, flags: 1, tokenUuidPtr: address };
    await expect(bind(on.process, fd, iommufd, withToken)).rejects.toEqual(code('EINVAL'));
    const asked: (Uint8Array | undefined)[] = [];
    held.device.matchTokenUuid = (uuid) => {
      asked.push(uuid);
      if (!uuid) throw new VfioError('EACCES', 'a token is needed');
    };
    await expect(bind(on.process, fd, iommufd)).rejects.toEqual(code('EACCES'));
    await expect(bind(on.process, fd, iommufd, { ...withToken, tokenUuidPtr: 8n })).rejects.toEqual(code('EFAULT'));
    // a structure without room for the token has none
    await expect(bind(on.process, fd, iommufd, { flags: 1 })).rejects.toEqual(code('EFAULT'));
    expect(await bind(on.process, fd, iommufd, withToken)).toBe(1);
    expect(asked).toEqual([undefined, token]);
    await on.process.close(fd);
    await on.process.close(iommufd);
  });

  it('CORE-065 and H28: an answer that can not be written closes the device again', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fd = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    const address = on.process.mm.mmap({ length: 4096, prot: 3 });
    const bytes = new Uint8Array(16);
    new DataView(bytes.buffer).setUint32(0, 16, true);
    new DataView(bytes.buffer).setInt32(8, iommufd, true);
    on.process.mm.copyTo(address, bytes);
    await on.process.mprotect(address, 4096, 1);
    await expect(on.process.ioctl(fd, Request.DEVICE_BIND_IOMMUFD, address)).rejects.toEqual(code('EFAULT'));
    expect(held.device.journal).toEqual(['init', 'bind', 'openDevice', 'closeDevice', 'unbind']);
    await on.process.close(await on.openGroup(held.device));
    expect(await bind(on.process, fd, iommufd)).toBe(1);
    await on.process.close(fd);
    await on.process.close(iommufd);
  });

  it('CORE-067 leaves a group to the context that owns it', async () => {
    const group = on.host.iommu.allocGroup('two');
    const left = await registerAs(on, PhysicalDevice, 'left', { group });
    const right = await registerAs(on, PhysicalDevice, 'right', { group });
    const [mine, other] = [await openIommufd(on.process), await openIommufd(on.process)];
    const [a, b] = [await openCdev(left.device, on.process), await openCdev(right.device, on.process)];
    await bind(on.process, a, mine);
    await expect(bind(on.process, b, other)).rejects.toEqual(code('EPERM'));
    expect(await bind(on.process, b, mine)).toBe(2);
    for (const fd of [a, b, mine, other]) await on.process.close(fd);
    await left[Symbol.asyncDispose]();
    await right[Symbol.asyncDispose]();
    group.put();
  });

  it('names the file by its node, and tells the device', async () => {
    await using held = await registerAs(on, PhysicalDevice, 'dev0');
    const fd = await openCdev(held.device, on.process);
    expect(on.process.files.get(fd).label).toBe('/dev/vfio/devices/vfio0');
    expect(on.process.files.get(fd).fdinfo?.()).toEqual([`vfio-device-syspath: ${held.device.dev.sysfs.path()}`]);
    await on.process.close(fd);
  });
});

describe('VFIO_DEVICE_ATTACH_IOMMUFD_PT and DETACH', () => {
  /** A bound device with an IOAS. */
  async function bound<D extends PhysicalDevice | EmulatedDevice>(Type: new (options: object) => D, journal?: Journal) {
    const held = await registerAs(on, Type, 'dev0', journal ? { journal } : {});
    const fd = await openCdev(held.device, on.process);
    const iommufd = await openIommufd(on.process);
    const devid = await bind(on.process, fd, iommufd);
    const ioas = await allocIoas(on.process, iommufd);
    const end = async () => {
      await on.process.close(fd);
      await on.process.close(iommufd);
      await held[Symbol.asyncDispose]();
    };
    return { ...held, fd, iommufd, devid, ioas, [Symbol.asyncDispose]: end };
  }

  it('CORE-068 checks its arguments', async () => {
    await using its = await bound(PhysicalDevice);
    const { fd, ioas } = its;
    for (const argsz of [0, 11]) await expect(attach(on.process, fd, ioas, { argsz })).rejects.toEqual(code('EINVAL'));
    await expect(attach(on.process, fd, ioas, { flags: 2 })).rejects.toEqual(code('EINVAL'));
    await expect(attach(on.process, fd, ioas, { flags: 1, argsz: 16 })).rejects.toEqual(code('EOPNOTSUPP'));
    await expect(detach(on.process, fd, 1)).rejects.toEqual(code('EOPNOTSUPP'));
    await expect(on.process.ioctl(fd, Request.DEVICE_ATTACH_IOMMUFD_PT, 8)).rejects.toEqual(code('EFAULT'));
    await expect(on.process.ioctl(fd, Request.DEVICE_DETACH_IOMMUFD_PT, 8)).rejects.toEqual(code('EFAULT'));
  });

  it('CORE-068 wants room for a PASID', async () => {
    await using its = await bound(PasidDevice);
    await expect(attach(on.process, its.fd, its.ioas, { flags: 1, argsz: 12 })).rejects.toEqual(code('EINVAL'));
    await expect(attach(on.process, its.fd, its.ioas, { flags: 1, argsz: 16, pasid: 17 })).rejects.toEqual(
      code('EINVAL'),
    );
    await expect(attach(on.process, its.fd, its.ioas, { flags: 1, argsz: 16, pasid: 2 ** 31 })).rejects.toEqual(
      code('ENOSPC'),
    );
  });

  it('CORE-069, CORE-070 and CORE-071: hardware gets a page table, and moves', async () => {
    await using its = await bound(PhysicalDevice);
    const { fd, iommufd, ioas, devid, device } = its;
    const first = await attach(on.process, fd, ioas);
    expect(first).not.toBe(ioas);
    expect(await attach(on.process, fd, ioas)).toBe(first);
    const userVa = await mapAt(on.process, iommufd, ioas, 0x10000n);
    on.process.mm.copyTo(userVa, Uint8Array.of(1, 2, 3, 4));
    const dma = on.host.iommu.dma(device.dev);
    const seen = new Uint8Array(4);
    await dma.read(0x10000n, seen);
    expect([...seen]).toEqual([1, 2, 3, 4]);
    const other = await allocIoas(on.process, iommufd);
    const second = await attach(on.process, fd, other);
    expect(second).not.toBe(first);
    await expect(async () => dma.read(0x10000n, seen)).rejects.toThrow();
    await expect(attach(on.process, fd, 999)).rejects.toEqual(code('ENOENT'));
    await expect(attach(on.process, fd, devid)).rejects.toEqual(code('EINVAL'));
    // what failed changed nothing
    await expect(destroy(on.process, iommufd, other)).rejects.toEqual(code('EBUSY'));
    await destroy(on.process, iommufd, ioas);
  });

  it('CORE-069, CORE-070 and CORE-071: an emulated device keeps the id, and hears what goes', async () => {
    const journal: Journal = [];
    await using its = await bound(EmulatedDevice, journal);
    const { fd, iommufd, ioas, devid } = its;
    expect(await attach(on.process, fd, ioas)).toBe(ioas);
    await mapAt(on.process, iommufd, ioas, 0x10000n);
    const { device } = its;
    const [page] = await pinPages(device, 0x10123n, 1, 3);
    expect(page?.iova).toBe(0x10000n);
    await unpinPages(device, 0x10000n, 1);
    await expect(pinPages(device, 0x10000n, -1, 3)).rejects.toEqual(code('EOVERFLOW'));
    await dmaRw(device, 0x10010n, Uint8Array.of(7, 8), true);
    const back = new Uint8Array(2);
    await dmaRw(device, 0x10010n, back, false);
    expect([...back]).toEqual([7, 8]);
    await expect(pinPages(device, 0x90000n, 1, 3)).rejects.toEqual(code('ENOENT'));
    journal.length = 0;
    await pinPages(device, 0x10000n, 1, 3);
    device.dmaUnmap = async (iova, length) => {
      journal.push(`unmap ${iova.toString(16)} ${length.toString(16)}`);
      await unpinPages(device, 0x10000n, 1);
    };
    await unmapAt(on.process, iommufd, ioas, 0x10000n);
    expect(journal).toEqual(['unmap 10000 1000']);
    await expect(attach(on.process, fd, 999)).rejects.toEqual(code('ENOENT'));
    await expect(attach(on.process, fd, devid)).rejects.toEqual(code('ENOENT'));
    const other = await allocIoas(on.process, iommufd);
    expect(await attach(on.process, fd, other)).toBe(other);
    await destroy(on.process, iommufd, ioas);
    await expect(destroy(on.process, iommufd, other)).rejects.toEqual(code('EBUSY'));
  });

  it('detaches and unbinds an emulated device that throws when it hears what goes', async () => {
    await using its = await bound(EmulatedDevice);
    const { fd, iommufd, ioas, device } = its;
    device.dmaUnmap = () => {
      throw new TypeError('a bug of the driver');
    };
    await attach(on.process, fd, ioas);
    await expect(detach(on.process, fd)).rejects.toThrow('a bug of the driver');
    // nothing is attached: the next attach is a first one, not a move
    await destroy(on.process, iommufd, ioas);
    const other = await allocIoas(on.process, iommufd);
    await attach(on.process, fd, other);
    await expect(on.process.close(fd)).rejects.toThrow('a bug of the driver');
    expect([device.openCount, device.record?.emulated]).toEqual([0, undefined]);
    await destroy(on.process, iommufd, other);
    const again = await openCdev(device, on.process);
    expect(again).toBe(fd);
    await bind(on.process, again, iommufd);
  });

  it('CORE-072 and H30: an answer that can not be written detaches what was attached', async () => {
    await using its = await bound(PasidDevice);
    const { fd, iommufd, ioas } = its;
    const address = on.process.mm.mmap({ length: 4096, prot: 3 });
    const hwpt = await allocHwpt(on.process, iommufd, its.devid, ioas, IommuHwptAllocFlag.PASID);
    const attachUnwritable = async (flags: number) => {
      const bytes = new Uint8Array(16);
      const view = new DataView(bytes.buffer);
      view.setUint32(0, 16, true);
      view.setUint32(4, flags, true);
      view.setUint32(8, hwpt, true);
      view.setUint32(12, 3, true);
      await on.process.mprotect(address, 4096, 3);
      on.process.mm.copyTo(address, bytes);
      await on.process.mprotect(address, 4096, 1);
      await expect(on.process.ioctl(fd, Request.DEVICE_ATTACH_IOMMUFD_PT, address)).rejects.toEqual(code('EFAULT'));
    };
    await attachUnwritable(0);
    expect(its.device.record?.physical).toMatchObject({ attached: false });
    await attach(on.process, fd, hwpt);
    await attachUnwritable(1);
    expect(its.device.record?.physical).toMatchObject({ attached: true, pasids: new Set() });
    await expect(destroy(on.process, iommufd, hwpt)).rejects.toEqual(code('EBUSY'));
    await detach(on.process, fd);
    await destroy(on.process, iommufd, hwpt);
  });

  it.each([
    ['physical', PasidDevice],
    ['emulated', EmulatedDevice],
  ] as const)('CORE-073 detaches a %s device that is not attached', async (_name, Type) => {
    await using its = await bound<PasidDevice | EmulatedDevice>(Type);
    await detach(on.process, its.fd);
    await attach(on.process, its.fd, its.ioas);
    await detach(on.process, its.fd);
    await detach(on.process, its.fd);
    await destroy(on.process, its.iommufd, its.ioas);
    if (Type === PasidDevice) await detach(on.process, its.fd, 3);
  });

  it('CORE-074 closing detaches the device and every PASID', async () => {
    await using its = await bound(PasidDevice);
    const { fd, iommufd, ioas } = its;
    const hwpt = await allocHwpt(on.process, iommufd, its.devid, ioas, IommuHwptAllocFlag.PASID);
    await attach(on.process, fd, hwpt);
    for (const pasid of [3, 5]) await attach(on.process, fd, hwpt, { flags: 1, argsz: 16, pasid });
    const userVa = await mapAt(on.process, iommufd, ioas, 0x10000n);
    on.process.mm.copyTo(userVa, Uint8Array.of(1, 2, 3, 4));
    const engine = on.host.iommu.dma(its.device.dev);
    const seen = new Uint8Array(4);
    for (const dma of [engine, engine.tagged(3), engine.tagged(5)]) {
      seen.fill(0);
      await dma.read(0x10000n, seen);
      expect([...seen]).toEqual([1, 2, 3, 4]);
    }
    await expect(async () => engine.tagged(4).read(0x10000n, seen)).rejects.toEqual(code('EFAULT'));
    await detach(on.process, fd, 5);
    await expect(async () => engine.tagged(5).read(0x10000n, seen)).rejects.toEqual(code('EFAULT'));
    await expect(destroy(on.process, iommufd, hwpt)).rejects.toEqual(code('EBUSY'));
    await on.process.close(fd);
    await expect(async () => engine.tagged(3).read(0x10000n, seen)).rejects.toEqual(code('EFAULT'));
    await destroy(on.process, iommufd, hwpt);
    const again = await openCdev(its.device, on.process);
    expect(again).toBe(fd);
  });
});
