import { describe, expect, it } from 'vitest';
import { deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { HwptPaging } from '../../src/iommufd/hwpt.js';
import { iommuHwptAlloc, iommuHwptGetDirtyBitmap, iommuHwptSetDirtyTracking } from '../../src/uapi/iommufd.js';
import { IommufdRequest } from '../../src/uapi/vfio.js';
import { fails, IommuHwptAllocFlag, Machine, MSI, P, U64_MAX, type User, vtd } from './harness.js';

const { DIRTY_TRACKING, FAULT_ID_VALID, NEST_PARENT, PASID } = IommuHwptAllocFlag;

async function track(user: User, hwptId: number, flags: number): Promise<void> {
  await user.request(IommufdRequest.HWPT_SET_DIRTY_TRACKING, iommuHwptSetDirtyTracking, { size: 16, hwptId, flags });
}

/** Bits of a bitmap, from a word of zeros. */
async function dirty(user: User, hwptId: number, iova: bigint, length: bigint, value: object = {}): Promise<bigint> {
  const data = user.anon(1);
  const args = { size: 48, hwptId, iova, length, pageSize: P, data, ...value };
  await user.request(IommufdRequest.HWPT_GET_DIRTY_BITMAP, iommuHwptGetDirtyBitmap, args);
  const view = new DataView(user.process.mm.copyFrom(data, 8).buffer);
  return view.getBigUint64(0, user.order === 'little');
}

describe('HWPT_ALLOC', () => {
  it('makes a page table that holds the IOAS, until it is destroyed', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    await user.map(ioas, user.anon(1), P, 0x10000n);
    const id = await user.hwpt(bound.id, ioas);
    expect(user.process.mm.pinnedVm).toBe(1);
    expect((await user.ranges(ioas)).alignment).toBe(P);
    {
      using held = user.context.objects.hold(id, HwptPaging);
      expect(held.object.domain.iovaToPhys(0x10000n)).toBeDefined();
      expect(held.object.enforceCacheCoherency).toBe(true);
    }
    await fails(user.destroy(ioas), 'EBUSY');
    // an automatic one is another
    const auto = await deviceAttach(bound, ioas);
    expect(auto).not.toBe(id);
    await deviceReplace(bound, id);
    await fails(user.destroy(auto), 'ENOENT');
    await fails(user.destroy(id), 'EBUSY');
    await deviceDetach(bound);
    await user.destroy(id);
    expect(user.process.mm.pinnedVm).toBe(0);
    await deviceUnbind(bound);
  });

  it('checks in order: reserved, data, device, parent, flags', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const blind = machine.host.iommu.addUnit({ ...vtd, dirtyTracking: false });
    const bound = await deviceBind(user.context, await machine.device('d', { unit: blind }));
    const ioas = await user.ioas();
    const alloc = (value: object) =>
      user.request(IommufdRequest.HWPT_ALLOC, iommuHwptAlloc, { size: 48, devId: bound.id, ptId: ioas, ...value });
    await fails(alloc({ reserved: 1 }), 'EOPNOTSUPP');
    await fails(alloc({ dataLen: 4 }), 'EINVAL');
    await fails(alloc({ dataType: 1 }), 'EINVAL');
    await fails(alloc({ devId: ioas }), 'ENOENT');
    await fails(alloc({ ptId: 999 }), 'EINVAL');
    await fails(alloc({ ptId: bound.id }), 'EINVAL');
    await fails(alloc({ flags: 16 }), 'EOPNOTSUPP');
    await fails(alloc({ flags: NEST_PARENT }), 'EOPNOTSUPP');
    await fails(alloc({ flags: DIRTY_TRACKING }), 'EOPNOTSUPP');
    await fails(alloc({ dataType: 1, dataLen: 24 }), 'EOPNOTSUPP');
    await fails(alloc({ flags: FAULT_ID_VALID, faultId: 9 }), 'ENOENT');
    const { outHwptId } = await alloc({ flags: PASID });
    await fails(alloc({ ptId: outHwptId }), 'EOPNOTSUPP');
    for (const flags of [0, PASID, FAULT_ID_VALID]) {
      await fails(alloc({ ptId: outHwptId, dataType: 1, dataLen: 24, flags }), 'EINVAL');
    }
    await fails(alloc({ ptId: outHwptId, dataType: 1, dataLen: 24, flags: DIRTY_TRACKING }), 'EOPNOTSUPP');
    await user.map(ioas, user.anon(1), P, 0x10000n);
    const other = await user.ioas();
    await user.map(other, user.anon(1), P, TOP_PLUS);
    await fails(alloc({ ptId: other }), 'EADDRINUSE');
    await user.destroy(outHwptId);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('is known to callers with 24 bytes of it', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const bytes = iommuHwptAlloc.encode({ size: 24, devId: bound.id, ptId: await user.ioas() }, 'little').slice(0, 24);
    await user.process.ioctl(user.fd, IommufdRequest.HWPT_ALLOC, bytes);
    expect(iommuHwptAlloc.decode(bytes, 'little').outHwptId).toBe(3);
    await deviceUnbind(bound);
  });
});

const TOP_PLUS = 2n ** 48n;

describe('dirty tracking', () => {
  it('reports what devices wrote, once, in the words of the caller', async () => {
    for (const byteOrder of ['little', 'big'] as const) {
      await using machine = await Machine.start();
      const user = await machine.user({ byteOrder });
      const device = await machine.device();
      const bound = await deviceBind(user.context, device);
      const ioas = await user.ioas();
      const id = await user.hwpt(bound.id, ioas, DIRTY_TRACKING);
      await deviceAttach(bound, id);
      await user.map(ioas, user.anon(8), 8n * P, 0x10000n);
      const engine = machine.host.iommu.dma(device);
      await track(user, id, 1);
      expect(await dirty(user, id, 0x10000n, 8n * P)).toBe(0n);
      await engine.write(0x11000n, new Uint8Array(4));
      await engine.write(0x13ffen, new Uint8Array(4));
      expect(await dirty(user, id, 0x10000n, 8n * P, { flags: 1 })).toBe(0b11010n);
      expect(await dirty(user, id, 0x11000n, 4n * P)).toBe(0b1101n);
      expect(await dirty(user, id, 0x10000n, 8n * P)).toBe(0n);
      await engine.write(0x11000n, new Uint8Array(4));
      // turning it on again starts anew
      await track(user, id, 1);
      expect(await dirty(user, id, 0x10000n, 8n * P)).toBe(0n);
      await track(user, id, 0);
      await engine.write(0x11000n, new Uint8Array(4));
      expect(await dirty(user, id, 0x10000n, 8n * P)).toBe(0n);
      await deviceDetach(bound);
      await user.destroy(id);
      await deviceUnbind(bound);
    }
  });

  it('says nothing from the first hole on, and calls that success', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const device = await machine.device();
    const bound = await deviceBind(user.context, device);
    const ioas = await user.ioas();
    const id = await user.hwpt(bound.id, ioas, DIRTY_TRACKING);
    await deviceAttach(bound, id);
    for (const iova of [0x10000n, 0x11000n, 0x13000n]) await user.map(ioas, user.anon(1), P, iova);
    await track(user, id, 1);
    const engine = machine.host.iommu.dma(device);
    for (const iova of [0x10000n, 0x11000n, 0x13000n]) await engine.write(iova, new Uint8Array(1));
    expect(await dirty(user, id, 0x10000n, 4n * P)).toBe(0b11n);
    expect(await dirty(user, id, 0x12000n, 2n * P)).toBe(0n);
    expect(await dirty(user, id, 0x13000n, P)).toBe(1n);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('refuses ranges, pages and page tables that do not fit', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    const plain = await user.hwpt(bound.id, ioas);
    const id = await user.hwpt(bound.id, ioas, DIRTY_TRACKING);
    await fails(track(user, id, 2), 'EOPNOTSUPP');
    await fails(track(user, 999, 1), 'ENOENT');
    await fails(track(user, ioas, 1), 'ENOENT');
    await fails(track(user, plain, 1), 'EOPNOTSUPP');
    await fails(dirty(user, id, 0n, P, { flags: 2 }), 'EOPNOTSUPP');
    await fails(dirty(user, id, 0n, P, { reserved: 1 }), 'EOPNOTSUPP');
    await fails(dirty(user, 999, 0n, P), 'ENOENT');
    await fails(dirty(user, id, P, 0n), 'EOVERFLOW');
    expect(await dirty(user, id, 0n, 0n)).toBe(0n);
    await fails(dirty(user, id, P, U64_MAX), 'EOVERFLOW');
    await fails(dirty(user, id, 1n, P), 'EINVAL');
    await fails(dirty(user, id, 0n, P + 1n), 'EINVAL');
    await fails(dirty(user, id, 0n, P, { pageSize: 0n }), 'EINVAL');
    await fails(dirty(user, id, 0n, P, { pageSize: 2n * P }), 'EINVAL');
    await fails(dirty(user, plain, 0n, P), 'EOPNOTSUPP');
    await user.map(ioas, user.anon(1), P, MSI.end + 1n);
    await deviceUnbind(bound);
  });
});
