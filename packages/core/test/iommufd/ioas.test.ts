import { O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { deviceAttach, deviceDetach } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import {
  iommuDestroy,
  iommuIoasAlloc,
  iommuIoasIovaRanges,
  iommuIoasMap,
  iommuIoasUnmap,
} from '../../src/uapi/iommufd.js';
import { IommufdRequest } from '../../src/uapi/vfio.js';
import { errnoOf, FIXED, fails, Machine, MSI, P, R, RW, TOP, U64_MAX, W } from './harness.js';

describe('/dev/iommu', () => {
  it('is a misc device of mode 0660 that the module brings and takes', async () => {
    await using machine = await Machine.start();
    const { init } = machine.host;
    expect(await init.stat('/dev/iommu')).toMatchObject({ kind: 'char', mode: 0o660, uid: 0, gid: 0 });
    expect(await init.readFile('/sys/module/iommufd/parameters/allow_unsafe_interrupts')).toBe('N\n');
    expect(await init.readFile('/proc/misc')).toMatch(/ iommu$/m);
    const user = await machine.user();
    expect(await user.process.readlink(`/proc/self/fd/${user.fd}`)).toBe('/dev/iommu');
    await fails(machine.host.modules.rmmod('iommufd'), 'EAGAIN');
    await user.process.close(user.fd);
    await machine.host.modules.rmmod('iommufd');
    await fails(init.open('/dev/iommu', O.RDWR), 'ENOENT');
  });

  it('serves /dev/vfio/vfio when it was built to, with the accounting of containers', async () => {
    await using machine = await Machine.start({ vfioContainer: true });
    const user = await machine.user();
    expect(await machine.host.init.stat('/dev/vfio/vfio')).toMatchObject({ mode: 0o666 });
    const fd = await user.process.open('/dev/vfio/vfio', O.RDWR);
    expect(await user.process.ioctl(fd, 0x3b64)).toBe(0);
    const bytes = new Uint8Array(24);
    new DataView(bytes.buffer).setUint32(0, 24, true);
    bytes[8] = 1;
    await user.process.ioctl(fd, IommufdRequest.OPTION, bytes);
    expect(bytes[16]).toBe(1);
    expect(await user.option(0, 1)).toBe(0n);
  });

  it('CORE-186 looks at sizes before anything else', async () => {
    await using machine = await Machine.start();
    const { process, fd } = await machine.user();
    const alloc = async (size: number, length = 12, fill?: number) => {
      const bytes = new Uint8Array(length);
      new DataView(bytes.buffer).setUint32(0, size, true);
      if (fill !== undefined) bytes[fill] = 1;
      const code = await errnoOf(process.ioctl(fd, IommufdRequest.IOAS_ALLOC, bytes));
      return code ?? new DataView(bytes.buffer).getUint32(8, true);
    };
    for (const size of [0, 4, 8, 11]) expect(await alloc(size)).toBe('EINVAL');
    expect(await alloc(12)).toBe(1);
    expect(await alloc(16, 16)).toBe(2);
    expect(await alloc(16, 16, 12)).toBe('E2BIG');
    expect(await alloc(10_000, 10_000, 9_999)).toBe('E2BIG');
    expect(await alloc(10_000, 9_000)).toBe('EFAULT');
    expect(await alloc(12, 12, 4)).toBe('EOPNOTSUPP');
    await fails(process.ioctl(fd, IommufdRequest.IOAS_ALLOC, 0), 'EFAULT');
    for (const request of [0x3b7f, 0x3bff, 0, IommufdRequest.VIOMMU_ALLOC]) {
      await fails(process.ioctl(fd, request, new Uint8Array(8)), 'ENOTTY');
    }
    await fails(process.ioctl(fd, 0x4081, 0), 'EFAULT');
    await fails(process.ioctl(fd, 0x4081, new Uint8Array(12)), 'ENOTTY');
    await fails(
      Promise.resolve().then(() => process.read(fd, new Uint8Array(4))),
      'EINVAL',
    );
  });

  it('CORE-186 writes no more back than the caller has, and gives an IOAS up that it cannot tell of', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const page = user.process.mm.mmap({ length: 4096, prot: 3 });
    user.process.mm.copyTo(page, iommuIoasAlloc.encode({ size: 12 }, 'little'));
    user.process.mm.mprotect(page, 4096, 1);
    await fails(user.process.ioctl(user.fd, IommufdRequest.IOAS_ALLOC, page), 'EFAULT');
    expect(user.context.objects.empty).toBe(true);
    expect(await user.ioas()).toBe(1);
  });
});

describe('objects', () => {
  it('CORE-187 numbers start at 1, are the lowest free ones, and name one kind', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    expect([await user.ioas(), await user.ioas(), await user.ioas()]).toEqual([1, 2, 3]);
    await user.destroy(2);
    expect(await user.ioas()).toBe(2);
    const { id, destroy } = await access(machine, user);
    expect(id).toBe(4);
    await fails(user.map(4, user.anon(1), P), 'ENOENT');
    await fails(user.destroy(4), 'EBUSY');
    await destroy();
    await fails(user.destroy(4), 'ENOENT');
    await fails(user.destroy(0), 'ENOENT');
    expect(await (await machine.user()).ioas()).toBe(1);
  });

  it('go with the context', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    await user.map(await user.ioas(), user.anon(4), 4n * P);
    expect(machine.host.tracker.count('mapping')).toBe(1);
    await user.process.close(user.fd);
    expect(machine.host.tracker.count('mapping')).toBe(0);
  });

  it('are big-endian for a big-endian process', async () => {
    await using machine = await Machine.start();
    const user = await machine.user({ byteOrder: 'big' });
    const bytes = iommuIoasAlloc.encode({ size: 12 }, 'big');
    await user.process.ioctl(user.fd, IommufdRequest.IOAS_ALLOC, bytes);
    expect([...bytes]).toEqual([0, 0, 0, 12, 0, 0, 0, 0, 0, 0, 0, 1]);
    expect(await user.map(1, user.anon(2), 2n * P, 0x10000n)).toBe(0x10000n);
    await user.allow(1, [[0x20000n, 0x2ffffn]]);
    expect(await user.map(1, user.anon(2), P)).toBe(0x20000n);
    expect((await user.ranges(1)).list).toEqual([[0n, U64_MAX]]);
    expect(await user.unmap(1)).toBe(3n * P);
    await fails(
      user.process.ioctl(user.fd, IommufdRequest.DESTROY, iommuDestroy.encode({ size: 8, id: 1 }, 'little')),
      'EFAULT',
    );
  });
});

async function access(_machine: Machine, user: Awaited<ReturnType<Machine['user']>>) {
  const { accessCreate, accessDestroy } = await import('../../src/iommufd/access.js');
  const made = await accessCreate(user.context, { needsPinPages: true });
  return { id: made.id, destroy: () => accessDestroy(made) };
}

describe('IOAS_MAP', () => {
  it('CORE-188 refuses what a fixed mapping cannot be', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const m = user.anon(64);
    expect(await user.map(ioas, m, 4n * P, 0x10000n)).toBe(0x10000n);
    await fails(user.map(ioas, m, 4n * P, 0x10000n), 'EEXIST');
    await fails(user.map(ioas, m, P, 0x13000n), 'EEXIST');
    await fails(user.map(ioas, m, 2n * P, 0xf000n), 'EEXIST');
    await user.map(ioas, m, P, 0x14000n);
    await user.map(ioas, m, P, 0xf000n);
    await fails(user.map(ioas, m, P, 0x100000n, 0), 'EINVAL');
    await fails(user.map(ioas, m, P, 0x100000n, 8), 'EOPNOTSUPP');
    await fails(user.map(ioas, m, 0n, 0x200000n), 'EINVAL');
    await user.map(ioas, m, 1n, 0x200000n);
    await user.map(ioas, m + 1n, P, 0x300000n);
    await fails(user.map(ioas, m, P, 0x300001n), 'EEXIST');
    await fails(user.map(ioas, m, 2n * P, U64_MAX - P + 1n), 'EOVERFLOW');
    await user.map(ioas, m, P, U64_MAX - P + 1n);
    await fails(user.map(ioas, m, P, U64_MAX), 'EOVERFLOW');
    await fails(user.map(ioas, m, U64_MAX, 0n), 'EOVERFLOW');
    await fails(user.map(ioas, U64_MAX, P, 0n), 'EOVERFLOW');
    await fails(user.map(ioas, m, U64_MAX - 1n, 0n), 'EINVAL');
    // memory that is not there is found out only when somebody wants it
    await user.map(ioas, 0x1000n, P, 0x400000n);
    await fails(user.map(999, m, P, 0x500000n), 'ENOENT');
    const args = { size: 40, flags: FIXED | RW, ioasId: ioas, userVa: m, length: P, iova: 0x500000n, reserved: 1 };
    await fails(user.request(IommufdRequest.IOAS_MAP, iommuIoasMap, args), 'EOPNOTSUPP');
  });

  it('CORE-188 refuses what is reserved for a device that is attached, and nothing once it is detached', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const [ioas, m] = [await user.ioas(), user.anon(2)];
    const bound = await deviceBind(user.context, await machine.device());
    await deviceAttach(bound, ioas);
    const windowEnd = MSI.end + 1n;
    for (const [length, iova] of [
      [P, MSI.start],
      [P, windowEnd - P],
      [2n * P, MSI.start - P],
      [2n * P, windowEnd - P],
      [P, TOP + 1n],
    ] as const) {
      await fails(user.map(ioas, m, length, iova), 'EINVAL');
    }
    for (const iova of [MSI.start - P, windowEnd, TOP + 1n - P]) expect(await user.map(ioas, m, P, iova)).toBe(iova);
    await deviceDetach(bound);
    for (const iova of [MSI.start, TOP + 1n]) expect(await user.map(ioas, m, P, iova)).toBe(iova);
    await deviceUnbind(bound);
  });

  it('CORE-189 chooses the lowest place, never 0, aligned for large pages', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const m = user.process.mm.mmap({ length: 8 << 20, prot: 3, hugetlb: false });
    const huge = (m + 0x1f_ffffn) & ~0x1f_ffffn;
    expect(await user.map(ioas, huge, P, undefined, W)).toBe(P);
    expect(await user.map(ioas, huge, P, undefined, R)).toBe(2n * P);
    expect(await user.map(ioas, huge, P, undefined, RW)).toBe(3n * P);
    expect(await user.map(ioas, huge, 4n * P)).toBe(4n * P);
    // 3 pages are aligned as 4 would be; the gap stays
    expect(await user.map(ioas, huge, 3n * P)).toBe(8n * P);
    expect(await user.map(ioas, huge, 2n * P)).toBe(12n * P);
    expect(await user.map(ioas, huge, P)).toBe(11n * P);
    // the address of the memory is aligned to two pages only
    expect(await user.map(ioas, huge + 2n * P, 8n * P)).toBe(14n * P);
    // never more than 2 MiB
    expect(await user.map(ioas, huge, 4n << 20n)).toBe(2n << 20n);
    // the offset into the page is kept
    expect(await user.map(ioas, huge + 0x340n, 0x100n)).toBe(22n * P + 0x340n);
  });

  it('CORE-189 keeps to the allowed ranges, which fixed places need not, and ends with ENOSPC', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const m = user.anon(64);
    await user.allow(ioas, [
      [0x40000n, 0x41fffn],
      [0x60000n, 0x60fffn],
    ]);
    expect(await user.map(ioas, m, P)).toBe(0x40000n);
    expect(await user.map(ioas, m, P, 0x90000n)).toBe(0x90000n);
    await fails(user.map(ioas, m, 2n * P), 'ENOSPC');
    expect(await user.map(ioas, m, P)).toBe(0x41000n);
    expect(await user.map(ioas, m, P)).toBe(0x60000n);
    await fails(user.map(ioas, m, P), 'ENOSPC');
    await user.allow(ioas, []);
    expect(await user.map(ioas, m, P)).toBe(P);
    await fails(user.map(ioas, m, 2n ** 63n), 'EOVERFLOW');
  });
});

describe('IOAS_UNMAP', () => {
  it('CORE-190 removes whole mappings, says how much, and knows everything as a range', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const m = user.anon(16);
    expect(await user.unmap(ioas)).toBe(0n);
    await user.map(ioas, m, 4n * P, 0x10000n);
    await user.map(ioas, m, P, 0x14000n);
    await user.map(ioas, m, P, 0x20000n);
    await fails(user.unmap(ioas, 0x11000n, P), 'ENOENT');
    await fails(user.unmap(ioas, 0x10000n, P), 'ENOENT');
    await fails(user.unmap(ioas, 0x30000n, P), 'ENOENT');
    await fails(user.unmap(ioas, 0x14000n, 0n), 'EINVAL');
    await fails(user.unmap(ioas, U64_MAX - P + 1n, 2n * P), 'EOVERFLOW');
    await fails(
      user.unmap(ioas, 0n, U64_MAX - 1n).then(() => user.unmap(ioas, 0n, P)),
      'ENOENT',
    );
    expect(await user.unmap(ioas)).toBe(0n);
    await user.map(ioas, m, 4n * P, 0x10000n);
    await user.map(ioas, m, 4n * P, 0x18000n);
    // the first one is gone although the second is cut
    await fails(user.unmap(ioas, 0x10000n, 0x9000n), 'ENOENT');
    await fails(user.unmap(ioas, 0x10000n, 4n * P), 'ENOENT');
    expect(await user.unmap(ioas, 0x0n, 0x20000n)).toBe(4n * P);
    await fails(user.unmap(999), 'ENOENT');
    const value = { size: 24, ioasId: ioas, iova: 1n, length: U64_MAX };
    await fails(user.request(IommufdRequest.IOAS_UNMAP, iommuIoasUnmap, value), 'EOVERFLOW');
  });
});

describe('IOAS_COPY', () => {
  it('CORE-191 copies what is mapped without a hole; the copy outlives its source', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const [src, dst] = [await user.ioas(), await user.ioas()];
    const m = user.anon(16);
    await user.map(src, m, 4n * P, 0x10000n);
    expect(await user.copy(dst, src, 0x11000n, 2n * P, 0x50000n)).toBe(0x50000n);
    await fails(user.copy(dst, src, 0x13000n, 2n * P, 0x60000n), 'ENOENT');
    await fails(user.copy(dst, src, 0x11000n, 2n * P, 0x50000n), 'EEXIST');
    await fails(user.copy(dst, 99, 0x11000n, P, 0x60000n), 'ENOENT');
    await fails(user.copy(99, src, 0x11000n, P, 0x60000n), 'ENOENT');
    await fails(user.copy(dst, src, 0x11000n, 0n, 0x60000n), 'EINVAL');
    await fails(user.copy(dst, src, U64_MAX, P, 0x60000n), 'EOVERFLOW');
    await fails(user.copy(dst, src, U64_MAX - 1n, P, 0x60000n), 'EOVERFLOW');
    await fails(user.copy(dst, src, 0x11000n, P, 0x60000n, 8), 'EOPNOTSUPP');
    await fails(user.copy(dst, src, 0x11000n, P, 0x60000n, 0), 'EINVAL');
    // several mappings in a row become as many in the copy
    await user.map(src, m, P, 0x14000n, R);
    expect(await user.copy(dst, src, 0x12000n, 3n * P, 0x80000n)).toBe(0x80000n);
    await fails(user.unmap(dst, 0x80000n, P), 'ENOENT');
    expect(await user.unmap(dst, 0x82000n, P)).toBe(P);
    expect(await user.copy(dst, src, 0x14000n, P, 0x82000n)).toBe(0x82000n);
    await fails(user.copy(dst, src, 0x13000n, 2n * P, 0x70000n, RW), 'EPERM');
    await fails(user.unmap(dst, 0x70000n, P), 'ENOENT');
    await user.unmap(src);
    await user.destroy(src);
    expect(await user.unmap(dst)).toBe(5n * P);
  });

  it('can copy within one IOAS', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    await user.map(ioas, user.anon(2), 2n * P, 0x10000n);
    expect(await user.copy(ioas, ioas, 0x10000n, 2n * P, 0x12000n)).toBe(0x12000n);
    expect(await user.unmap(ioas, 0x10000n, 2n * P)).toBe(2n * P);
  });
});

describe('IOVA_RANGES and ALLOW_IOVAS', () => {
  it('CORE-192 tells all there is, and how much when there is no room for it', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    expect(await user.ranges(ioas)).toEqual({ list: [[0n, U64_MAX]], alignment: 1n });
    const bytes = iommuIoasIovaRanges.encode({ size: 32, ioasId: ioas, allowedIovas: user.anon(1) }, 'little');
    await fails(user.process.ioctl(user.fd, IommufdRequest.IOAS_IOVA_RANGES, bytes), 'EMSGSIZE');
    expect(iommuIoasIovaRanges.decode(bytes, 'little')).toMatchObject({ numIovas: 1, outIovaAlignment: 1n });
    await fails(user.ranges(999), 'ENOENT');
    const value = { size: 32, ioasId: ioas, reserved: 1 };
    await fails(user.request(IommufdRequest.IOAS_IOVA_RANGES, iommuIoasIovaRanges, value), 'EOPNOTSUPP');
    await fails(
      user.request(IommufdRequest.IOAS_IOVA_RANGES, iommuIoasIovaRanges, { size: 32, ioasId: ioas, numIovas: 1 }),
      'EFAULT',
    );
  });

  it('CORE-193 refuses a list that is wrong in itself, and keeps the old one', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    await user.allow(ioas, [[0x10000n, 0x1ffffn]]);
    await fails(user.allow(ioas, [[0x50000n, 0x50000n]]), 'EINVAL');
    await fails(
      user.allow(ioas, [
        [0x50000n, 0x5ffffn],
        [0x5f000n, 0x6ffffn],
      ]),
      'EINVAL',
    );
    await fails(user.allow(999, []), 'ENOENT');
    expect(await user.map(ioas, user.anon(1), P)).toBe(0x10000n);
    await user.allow(ioas, [
      [0x60000n, 0x6ffffn],
      [0x50000n, 0x5ffffn],
    ]);
    expect(await user.map(ioas, user.anon(1), P)).toBe(0x50000n);
  });
});
