import { describe, expect, it } from 'vitest';
import { deviceAttach, deviceDetach } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { vfioCompatIoasCreate, vfioCompatIoasGetId, vfioCompatSetNoIommu } from '../../src/iommufd/vfio-ioas.js';
import { iommuOption, iommuVfioIoas } from '../../src/uapi/iommufd.js';
import {
  DmaUnmapFlag,
  IommufdRequest,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  iommuType1Info,
  Request,
} from '../../src/uapi/vfio.js';
import { errnoOf, fails, Machine, MSI, P, TOP, type User, vtd } from './harness.js';

const mapDma = (user: User, iova: bigint, vaddr: bigint, size: bigint, flags = 3) =>
  user.request(Request.IOMMU_MAP_DMA, iommuType1DmaMap, { argsz: 32, flags, iova, vaddr, size });

/** Bytes unmapped; those of a failure, too. */
async function unmapDma(user: User, iova: bigint, size: bigint, flags = 0) {
  const bytes = iommuType1DmaUnmap.encode({ argsz: 24, flags, iova, size }, user.order);
  const code = await errnoOf(user.process.ioctl(user.fd, Request.IOMMU_UNMAP_DMA, bytes));
  const { size: done } = iommuType1DmaUnmap.decode(bytes, user.order);
  return code ? [code, done] : done;
}

const ioctl = (user: User, request: number, arg: number) => user.process.ioctl(user.fd, request, arg);

describe('IOMMU_VFIO_IOAS', () => {
  it('CORE-195 gets, sets and clears; an IOAS that goes is none any more', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    await fails(user.vfioIoas(0), 'ENODEV');
    await fails(user.vfioIoas(1, 9), 'ENOENT');
    const ioas = await user.ioas();
    await user.vfioIoas(1, ioas);
    expect(await user.vfioIoas(0)).toBe(ioas);
    await user.vfioIoas(2);
    await fails(user.vfioIoas(0), 'ENODEV');
    await user.vfioIoas(1, ioas);
    await user.destroy(ioas);
    await fails(user.vfioIoas(0), 'ENODEV');
    await fails(user.vfioIoas(3), 'EOPNOTSUPP');
    const value = { size: 12, reserved: 1 };
    await fails(user.request(IommufdRequest.VFIO_IOAS, iommuVfioIoas, value), 'EOPNOTSUPP');
  });

  it('is made once by the first group, and is an object like others', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    expect(() => vfioCompatIoasGetId(user.context)).toThrow(expect.objectContaining({ code: 'ENODEV' }));
    await vfioCompatIoasCreate(user.context);
    await vfioCompatIoasCreate(user.context);
    expect(vfioCompatIoasGetId(user.context)).toBe(1);
    expect(await user.ioas()).toBe(2);
    expect(() => vfioCompatSetNoIommu(user.context)).toThrow(expect.objectContaining({ code: 'EINVAL' }));
    await user.destroy(1);
    vfioCompatSetNoIommu(user.context);
    // CORE-212
    await fails(vfioCompatIoasCreate(user.context), 'EINVAL');
    expect(await user.ioas()).toBe(1);
  });
});

describe('VFIO requests', () => {
  it('answer for versions and extensions before there is an IOAS', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    expect(await ioctl(user, Request.GET_API_VERSION, 0)).toBe(0);
    const answers: unknown[] = [];
    for (let extension = 0; extension <= 12; extension++) {
      const code = await errnoOf(ioctl(user, Request.CHECK_EXTENSION, extension));
      answers.push(code ?? (await ioctl(user, Request.CHECK_EXTENSION, extension)));
    }
    expect(answers).toEqual([0, 1, 0, 1, 'ENODEV', 0, 0, 0, 0, 1, 0, 0, 0]);
    await fails(ioctl(user, Request.SET_IOMMU, 3), 'ENODEV');
    await fails(ioctl(user, Request.SET_IOMMU, 8), 'EINVAL');
  });

  it('CORE-196 check arguments, then say ENODEV; DIRTY_PAGES is unknown', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    await fails(mapDma(user, 0n, 0n, P, 4), 'EINVAL');
    await fails(mapDma(user, 0n, 0n, P), 'ENODEV');
    expect(await unmapDma(user, 0n, P, 1)).toEqual(['EINVAL', P]);
    expect(await unmapDma(user, 0n, P, 2)).toEqual(['ENODEV', P]);
    const info = (argsz: number) => user.request(Request.IOMMU_GET_INFO, iommuType1Info, { argsz });
    await fails(info(15), 'EINVAL');
    await fails(info(16), 'ENODEV');
    for (const request of [Request.IOMMU_DIRTY_PAGES, Request.IOMMU_ENABLE]) {
      await fails(user.process.ioctl(user.fd, request, new Uint8Array(8)), 'ENOTTY');
    }
    await fails(ioctl(user, Request.IOMMU_MAP_DMA, 0), 'EFAULT');
  });

  it('map and unmap whole mappings, or parts of them for version 1', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    await vfioCompatIoasCreate(user.context);
    expect(await ioctl(user, Request.SET_IOMMU, 3)).toBe(0);
    const m = user.anon(8);
    await mapDma(user, 0x10000n, m, 4n * P);
    await fails(mapDma(user, 0x10000n, m, 4n * P), 'EEXIST');
    expect(await unmapDma(user, 0x11000n, P)).toEqual(['ENOENT', 0n]);
    // neither READ nor WRITE is not refused
    await mapDma(user, 0x20000n, m, P, 0);
    expect(await unmapDma(user, 0x20000n, P)).toBe(P);
    expect(await unmapDma(user, 0x20000n, P)).toBe(0n);
    expect(await unmapDma(user, 0x20000n, 0n)).toEqual(['EINVAL', 0n]);
    // version 1 cuts, also what was mapped before
    for (const type of [1, 3, 1]) expect(await ioctl(user, Request.SET_IOMMU, type)).toBe(0);
    expect(await unmapDma(user, 0x11000n, P)).toBe(P);
    expect(await unmapDma(user, 0x10000n, 8n * P)).toBe(3n * P);
    await mapDma(user, 0x10000n, m, 4n * P);
    expect(await unmapDma(user, 1n, 0n, DmaUnmapFlag.ALL)).toEqual(['EINVAL', 0n]);
    expect(await unmapDma(user, 0n, 0n, DmaUnmapFlag.ALL)).toBe(4n * P);
    expect(await unmapDma(user, 0n, 0n, DmaUnmapFlag.ALL)).toBe(0n);
  });

  it('cut mappings that hardware has, page by page', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    await vfioCompatIoasCreate(user.context);
    await ioctl(user, Request.SET_IOMMU, 1);
    await deviceAttach(bound, 2);
    const m = user.anon(1024);
    await mapDma(user, 0x20_0000n, m, 1024n * P);
    const { domain } = bound.igroup.group;
    expect(await unmapDma(user, 0x20_1000n, 2n * P)).toBe(2n * P);
    expect(user.process.mm.pinnedVm).toBe(1022);
    expect(
      [0x20_0000n, 0x20_1000n, 0x20_2000n, 0x20_3000n].map((iova) => domain?.iovaToPhys(iova) !== undefined),
    ).toEqual([true, false, false, true]);
    await mapDma(user, 0x20_1000n, m, 2n * P);
    expect(await unmapDma(user, 0n, 0n, DmaUnmapFlag.ALL)).toBe(1024n * P);
    expect(user.process.mm.pinnedVm).toBe(0);
    await deviceDetach(bound);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('cannot cut what hardware has in large pages', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    await vfioCompatIoasCreate(user.context);
    await deviceAttach(bound, 2);
    await mapDma(user, 0x20_0000n, user.anon(2), 2n * P);
    await fails(ioctl(user, Request.SET_IOMMU, 1), 'EINVAL');
    expect(await user.option(1, 1, 2)).toBe(1n);
    await unmapDma(user, 0n, 0n, DmaUnmapFlag.ALL);
    expect(await ioctl(user, Request.SET_IOMMU, 1)).toBe(0);
    expect(await user.option(1, 1, 2)).toBe(0n);
    await user.option(1, 0, 2, 1n);
    await mapDma(user, 0x20_0000n, user.anon(2), 2n * P);
    expect(await unmapDma(user, 0x20_0000n, P)).toEqual(['ENOENT', 0n]);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('tell page sizes, room and ranges, as many as fit', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    await vfioCompatIoasCreate(user.context);
    await deviceAttach(bound, 2);
    const info = async (argsz: number, order = user.order) => {
      const bytes = new Uint8Array(256);
      new DataView(bytes.buffer).setUint32(0, argsz, order === 'little');
      await user.process.ioctl(user.fd, Request.IOMMU_GET_INFO, bytes);
      return bytes;
    };
    const all = await info(256);
    const view = new DataView(all.buffer);
    const u32 = (at: number) => view.getUint32(at, true);
    const u64 = (at: number) => view.getBigUint64(at, true);
    expect(iommuType1Info.decode(all, 'little')).toMatchObject({
      argsz: 88,
      flags: 3,
      iovaPgsizes: 0x4020_1000n,
      capOffset: 24,
    });
    expect([u32(24), u32(28), u32(32)]).toEqual([0x1_0003, 40, 0xffff_ffff]);
    expect([u32(40), u32(44), u32(48)]).toEqual([0x1_0001, 0, 2]);
    expect([u64(56), u64(64), u64(72), u64(80)]).toEqual([0n, MSI.start - 1n, MSI.end + 1n, TOP]);
    const some = await info(40);
    expect(iommuType1Info.decode(some, 'little')).toMatchObject({ argsz: 88, flags: 3, capOffset: 0 });
    expect([...some.subarray(24, 28)]).toEqual([3, 0, 1, 0]);
    expect(some.subarray(40).every((byte) => byte === 0)).toBe(true);
    const little = await info(16);
    expect(little.subarray(16).every((byte) => byte === 0)).toBe(true);
    expect(iommuType1Info.decode(little, 'little').argsz).toBe(88);
    await deviceDetach(bound);
    expect(iommuType1Info.decode(await info(256), 'little')).toMatchObject({
      argsz: 72,
      iovaPgsizes: 0xffff_ffff_ffff_f000n,
    });
    await deviceUnbind(bound);
  });

  it('speak the byte order of the caller', async () => {
    await using machine = await Machine.start();
    const user = await machine.user({ byteOrder: 'big' });
    await vfioCompatIoasCreate(user.context);
    const m = user.anon(2);
    await mapDma(user, 0x10000n, m, 2n * P);
    expect(await unmapDma(user, 0n, 0n, DmaUnmapFlag.ALL)).toBe(2n * P);
    const bytes = new Uint8Array(256);
    new DataView(bytes.buffer).setUint32(0, 256);
    await user.process.ioctl(user.fd, Request.IOMMU_GET_INFO, bytes);
    const view = new DataView(bytes.buffer);
    expect([view.getUint32(0), view.getUint32(4), view.getUint32(16)]).toEqual([72, 3, 24]);
    // id, version, next and count of the ranges
    expect([view.getUint16(24), view.getUint16(26), view.getUint32(28)]).toEqual([3, 1, 40]);
    expect([view.getUint16(40), view.getUint32(44), view.getUint32(48)]).toEqual([1, 0, 1]);
    expect(view.getBigUint64(64)).toBe(2n ** 64n - 1n);
  });

  it('say whether DMA is coherent', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const lax = machine.host.iommu.addUnit({ ...vtd, enforceCoherency: false });
    const strict = await deviceBind(user.context, await machine.device('a'));
    const loose = await deviceBind(user.context, await machine.device('b', { unit: lax }));
    await vfioCompatIoasCreate(user.context);
    const coherent = () => ioctl(user, Request.CHECK_EXTENSION, 4);
    expect(await coherent()).toBe(1);
    await deviceAttach(strict, 3);
    expect(await coherent()).toBe(1);
    await deviceAttach(loose, 3);
    expect(await coherent()).toBe(0);
    for (const bound of [strict, loose]) {
      await deviceDetach(bound);
      await deviceUnbind(bound);
    }
  });

  it('CORE-212 know only the no-IOMMU type in that mode', async () => {
    await using machine = await Machine.start({ noiommu: true });
    const user = await machine.user();
    expect(await ioctl(user, Request.CHECK_EXTENSION, 8)).toBe(1);
    await fails(ioctl(user, Request.SET_IOMMU, 8), 'EINVAL');
    vfioCompatSetNoIommu(user.context);
    for (const extension of [1, 3, 9]) expect(await ioctl(user, Request.CHECK_EXTENSION, extension)).toBe(0);
    await fails(ioctl(user, Request.SET_IOMMU, 1), 'EINVAL');
    expect(await ioctl(user, Request.SET_IOMMU, 8)).toBe(0);
    user.process.setuid(1000);
    await fails(ioctl(user, Request.SET_IOMMU, 8), 'EPERM');
  });
});

describe('IOMMU_OPTION', () => {
  it('CORE-197 the limits mode needs the capability and an empty context', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    expect(await user.option(0, 1, 0, 0x55n)).toBe(0n);
    await fails(user.option(0, 0, 0, 2n), 'EINVAL');
    await user.option(0, 0, 0, 1n);
    expect(await user.option(0, 1)).toBe(1n);
    await fails(user.option(0, 2), 'EOPNOTSUPP');
    await fails(user.option(0, 1, 7), 'EOPNOTSUPP');
    const ioas = await user.ioas();
    await fails(user.option(0, 0, 0, 1n), 'EBUSY');
    await fails(user.option(0, 0, 0, 2n), 'EBUSY');
    user.process.setuid(1000);
    await fails(user.option(0, 0, 0, 1n), 'EPERM');
    await user.destroy(ioas);
    await fails(user.option(2, 1), 'EOPNOTSUPP');
    const value = { size: 24, reserved: 1 };
    await fails(user.request(IommufdRequest.OPTION, iommuOption, value), 'EOPNOTSUPP');
  });

  it('large pages are an option of an IOAS, which then is made of pages', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    await fails(user.option(1, 1), 'ENOENT');
    expect(await user.option(1, 1, ioas, 0x55n)).toBe(1n);
    await fails(user.option(1, 0, ioas, 2n), 'EINVAL');
    await fails(user.option(1, 2, ioas), 'EOPNOTSUPP');
    await user.map(ioas, user.anon(1), 16n, 0x10000n);
    await fails(user.option(1, 0, ioas, 0n), 'EADDRINUSE');
    expect(await user.option(1, 1, ioas)).toBe(1n);
    await user.unmap(ioas);
    await user.option(1, 0, ioas, 0n);
    expect((await user.ranges(ioas)).alignment).toBe(P);
    await user.option(1, 0, ioas, 1n);
    expect((await user.ranges(ioas)).alignment).toBe(1n);
  });
});
