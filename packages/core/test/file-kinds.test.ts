/* What a program may try on each kind of file, and with descriptors of the wrong kind. */
import { O, PAGE_SIZE, Poll, Prot, Seek } from '@vfio/host';
import { afterEach, describe, expect, it } from 'vitest';
import { DmaMapFlag, groupStatus, iommuType1DmaMap, Request } from '../src/index.js';
import {
  benchForEach,
  closePath,
  code,
  type OpenPath,
  openPath,
  type Registered,
  register,
  type TestBench,
  type TestDevice,
} from './harness.js';

const P = BigInt(PAGE_SIZE);

let on: TestBench;
let one: Registered<TestDevice>;
benchForEach(async (made) => {
  on = made;
  one = await register(on, 'dev0', { kind: 'emulated' });
});
afterEach(async () => {
  // also what a failed test left open: unregister would wait for it
  await on.process.exit();
  await one[Symbol.asyncDispose]();
});

const attempt = async (call: () => unknown): Promise<unknown> => await call();
const kinds = (path: OpenPath) => [path.container, path.group, path.device];

describe('what is no request', () => {
  it('CORE-198 reads and writes are EINVAL on every kind of file, at a position or not', async () => {
    const path = await openPath(on, one.device);
    const bytes = new Uint8Array(4);
    for (const fd of kinds(path)) {
      for (const call of [
        () => on.process.read(fd, bytes),
        () => on.process.write(fd, bytes),
        () => on.process.pread(fd, bytes, 0),
        () => on.process.pwrite(fd, bytes, 0),
      ]) {
        await expect(attempt(call)).rejects.toEqual(code('EINVAL'));
      }
      await expect(attempt(() => on.process.lseek(fd, 0, Seek.SET))).rejects.toEqual(code('ESPIPE'));
    }
    await closePath(on, path);
  });

  it('mmap is ENODEV where there is nothing to map, and EINVAL for a device that maps nothing', async () => {
    const path = await openPath(on, one.device);
    const map = (fd: number) => on.process.mmap(fd, { offset: 0, length: PAGE_SIZE, prot: Prot.READ, shared: true });
    await expect(attempt(() => map(path.container))).rejects.toEqual(code('ENODEV'));
    await expect(attempt(() => map(path.group))).rejects.toEqual(code('ENODEV'));
    await expect(attempt(() => map(path.device))).rejects.toEqual(code('EINVAL'));
    await closePath(on, path);
  });

  it('poll finds every kind of file ready', async () => {
    const path = await openPath(on, one.device);
    const wanted = Poll.IN | Poll.OUT;
    const ready = await on.process.poll(
      kinds(path).map((fd) => ({ fd, events: wanted })),
      0,
    );
    expect(ready).toEqual([wanted, wanted, wanted]);
    await closePath(on, path);
  });

  it('the access mode of an open file matters for reads and writes, not for requests', async () => {
    for (const flags of [O.RDONLY, O.WRONLY]) {
      const container = await on.process.open('/dev/vfio/vfio', flags);
      const group = await on.process.open(`/dev/vfio/${one.device.group?.name}`, flags);
      for (const fd of [container, group]) {
        const read = attempt(() => on.process.read(fd, new Uint8Array(4)));
        await expect(read).rejects.toEqual(code(flags === O.RDONLY ? 'EINVAL' : 'EBADF'));
        const write = attempt(() => on.process.write(fd, new Uint8Array(4)));
        await expect(write).rejects.toEqual(code(flags === O.RDONLY ? 'EBADF' : 'EINVAL'));
      }
      await on.setContainer(group, container);
      await on.process.ioctl(container, Request.SET_IOMMU, 3);
      const device = await on.getDeviceFd(group, 'dev0');
      expect(await on.status(group)).toBe(3);
      for (const fd of [device, group, container]) await on.process.close(fd);
    }
  });
});

describe('requests on another kind of file', () => {
  it('CORE-116 and CORE-106 are ENOTTY on a group; on a container EINVAL before and ENOTTY after SET_IOMMU', async () => {
    const container = await on.openContainer();
    const group = await on.openGroup(one.device);
    const ioctl = (fd: number, request: number) => on.process.ioctl(fd, request, 0);
    for (const request of [
      Request.GET_API_VERSION,
      Request.SET_IOMMU,
      Request.DEVICE_GET_INFO,
      Request.IOMMU_GET_INFO,
    ]) {
      await expect(ioctl(group, request)).rejects.toEqual(code('ENOTTY'));
    }
    const others = [
      Request.GROUP_GET_STATUS,
      Request.GROUP_GET_DEVICE_FD,
      Request.DEVICE_GET_INFO,
      Request.DEVICE_RESET,
    ];
    for (const request of others) await expect(ioctl(container, request)).rejects.toEqual(code('EINVAL'));
    await on.setContainer(group, container);
    for (const request of others) await expect(ioctl(container, request)).rejects.toEqual(code('EINVAL'));
    await expect(ioctl(container, Request.SET_IOMMU)).rejects.toEqual(code('ENODEV'));
    await on.process.ioctl(container, Request.SET_IOMMU, 3);
    for (const request of others) await expect(ioctl(container, request)).rejects.toEqual(code('ENOTTY'));
    // one number has a meaning on both
    await expect(ioctl(container, Request.DEVICE_FEATURE)).rejects.toEqual(code('EFAULT'));
    for (const fd of [group, container]) await on.process.close(fd);
  });

  it('CORE-109 SET_CONTAINER looks at the descriptor, then at the group, then at the kind of file', async () => {
    const path = await openPath(on, one.device);
    await using two = await register(on, 'dev1', { kind: 'emulated' });
    const group = await on.openGroup(two.device);
    const eventfd = on.process.eventfd(0);
    for (const fd of [group, path.group, path.device, eventfd]) {
      await expect(on.setContainer(group, fd)).rejects.toEqual(code('EBADFD'));
      await expect(on.setContainer(path.group, fd)).rejects.toEqual(code('EINVAL'));
    }
    const pathOnly = await on.process.open('/dev/vfio/vfio', O.PATH);
    for (const fd of [-1, 999, pathOnly]) {
      await expect(on.setContainer(group, fd)).rejects.toEqual(code('EBADF'));
      await expect(on.setContainer(path.group, fd)).rejects.toEqual(code('EBADF'));
    }
    for (const fd of [group, eventfd, pathOnly]) await on.process.close(fd);
    await closePath(on, path);
  });
});

describe('arguments at the end of memory', () => {
  it('CORE-113 are read before they are judged, and must be writable for the answer', async () => {
    const { mm } = on.process;
    const memory = mm.mmap({ length: 2 * PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    mm.munmap(memory + P, PAGE_SIZE);
    const group = await on.openGroup(one.device);
    const status = (addr: bigint) => on.process.ioctl(group, Request.GROUP_GET_STATUS, addr);
    // argsz itself is there and too small, the rest of the struct is not there
    mm.store(memory + P - 4n, 4, 0n);
    await expect(status(memory + P - 4n)).rejects.toEqual(code('EFAULT'));
    mm.copyTo(memory, groupStatus.encode({ argsz: 7 }, 'little'));
    await expect(status(memory)).rejects.toEqual(code('EINVAL'));
    mm.copyTo(memory, groupStatus.encode({ argsz: 0xffff_ffff, flags: 0xffff }, 'little'));
    expect(await status(memory)).toBe(0);
    expect(groupStatus.decode(mm.copyFrom(memory, 8), 'little')).toEqual({ argsz: 0xffff_ffff, flags: 1 });
    mm.mprotect(memory, PAGE_SIZE, Prot.READ);
    await expect(status(memory)).rejects.toEqual(code('EFAULT'));
    await on.process.close(group);
  });

  it('CORE-034 a name may end with the last byte of memory, and is not looked for without its end', async () => {
    const { mm } = on.process;
    const memory = mm.mmap({ length: 2 * PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    mm.munmap(memory + P, PAGE_SIZE);
    const path = await openPath(on, one.device);
    const get = (addr: bigint) => on.process.ioctl(path.group, Request.GROUP_GET_DEVICE_FD, addr);
    mm.copyTo(memory + P - 5n, new TextEncoder().encode('dev0\0'));
    await on.process.close(await get(memory + P - 5n));
    await expect(get(memory + P - 1n)).rejects.toEqual(code('ENODEV'));
    mm.copyTo(memory + P - 4n, new TextEncoder().encode('dev0'));
    await expect(get(memory + P - 4n)).rejects.toEqual(code('EFAULT'));
    await closePath(on, path);
  });
});

describe('several processes', () => {
  it('CORE-115 and CORE-048 a child keeps what it inherited when the parent ends', async () => {
    const parent = on.host.spawn({ comm: 'parent' });
    const path = await openPath(on, one.device, 3, parent);
    const child = parent.fork('child');
    await parent.exit(0);
    expect(one.device.journal).toEqual(['init', 'openDevice']);
    await expect(on.openGroup(one.device)).rejects.toEqual(code('EBUSY'));
    const vaddr = child.mm.mmap({ length: PAGE_SIZE, prot: Prot.READ | Prot.WRITE });
    const flags = DmaMapFlag.READ | DmaMapFlag.WRITE;
    const map = iommuType1DmaMap.encode({ argsz: 32, flags, vaddr, iova: 0n, size: P }, 'little');
    await child.ioctl(path.container, Request.IOMMU_MAP_DMA, map);
    await child.exit(0);
    expect(one.device.journal).toEqual(['init', 'openDevice', 'closeDevice']);
    expect(on.host.tracker.count('mapping')).toBe(0);
    await on.process.close(await on.openGroup(one.device));
  });

  it('a program that is started in its place loses the device and keeps group and container', async () => {
    const path = await openPath(on, one.device);
    await on.process.execClose();
    expect(one.device.openCount).toBe(0);
    expect(await on.status(path.group)).toBe(3);
    for (const fd of [path.group, path.container]) await on.process.close(fd);
  });
});
