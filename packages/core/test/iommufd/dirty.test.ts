import { describe, expect, it } from 'vitest';
import { deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { iommuHwptGetDirtyBitmap, iommuHwptSetDirtyTracking } from '../../src/uapi/iommufd.js';
import { IommufdRequest } from '../../src/uapi/vfio.js';
import { fails, IommuHwptAllocFlag, Machine, P, type User } from './harness.js';

const { DIRTY_TRACKING } = IommuHwptAllocFlag;
const NO_CLEAR = 1;

const track = (user: User, hwptId: number, flags: number) =>
  user.request(IommufdRequest.HWPT_SET_DIRTY_TRACKING, iommuHwptSetDirtyTracking, { size: 16, hwptId, flags });

interface Asked {
  readonly iova: bigint;
  readonly length: bigint;
  readonly pageSize?: bigint;
  readonly flags?: number;
  /** What the bitmap has before. */
  readonly before?: bigint;
}

/** The first word of the bitmap. */
async function report(user: User, hwptId: number, { before = 0n, pageSize = P, ...range }: Asked): Promise<bigint> {
  const data = user.anon(1);
  const word = new Uint8Array(8);
  new DataView(word.buffer).setBigUint64(0, before, true);
  user.process.mm.copyTo(data, word);
  const args = { size: 48, hwptId, pageSize, data, ...range };
  await user.request(IommufdRequest.HWPT_GET_DIRTY_BITMAP, iommuHwptGetDirtyBitmap, args);
  return new DataView(user.process.mm.copyFrom(data, 8).buffer).getBigUint64(0, true);
}

/** A device that is attached to a page table with dirty bits, of an IOAS with three mappings in a row and one apart. */
async function scene(machine: Machine) {
  const user = await machine.user();
  const device = await machine.device();
  const bound = await deviceBind(user.context, device);
  const ioas = await user.ioas();
  const id = await user.hwpt(bound.id, ioas, DIRTY_TRACKING);
  await deviceAttach(bound, id);
  for (const [iova, pages] of [
    [0x10000n, 2],
    [0x12000n, 1],
    [0x13000n, 3],
    [0x20000n, 2],
  ] as const) {
    await user.map(ioas, user.anon(pages), BigInt(pages) * P, iova);
  }
  await track(user, id, 1);
  const write = (iova: bigint, length = 1) => machine.host.iommu.dma(device).write(iova, new Uint8Array(length));
  return { user, device, bound, ioas, id, write };
}

const row = { iova: 0x10000n, length: 6n * P };

describe('a dirty bitmap', () => {
  it('spans mappings that follow each other, and keeps bits that are there', async () => {
    await using machine = await Machine.start();
    const { user, bound, id, write } = await scene(machine);
    await write(0x11fffn, 2); // across two mappings
    await write(0x15000n);
    expect(await report(user, id, { ...row, flags: NO_CLEAR })).toBe(0b100110n);
    expect(await report(user, id, { ...row, flags: NO_CLEAR, before: 1n << 40n })).toBe((1n << 40n) | 0b100110n);
    // a part of it is read and made clean alone
    expect(await report(user, id, { iova: 0x11000n, length: P })).toBe(1n);
    expect(await report(user, id, row)).toBe(0b100100n);
    expect(await report(user, id, row)).toBe(0n);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('has bits of any size that the range is made of', async () => {
    await using machine = await Machine.start();
    const { user, bound, id, write } = await scene(machine);
    await write(0x11000n);
    await write(0x14000n);
    expect(await report(user, id, { ...row, pageSize: 2n * P, flags: NO_CLEAR })).toBe(0b101n);
    // several bits for one page of the hardware
    const fine = { iova: 0x11000n, length: 2n * P, pageSize: P / 4n };
    expect(await report(user, id, { ...fine, flags: NO_CLEAR })).toBe(0b1111n);
    await fails(report(user, id, { iova: 0x11000n, length: 2n * P, pageSize: 2n * P }), 'EINVAL');
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('ends at the first hole, and what lies behind stays dirty', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas, id, write } = await scene(machine);
    await write(0x15000n);
    await write(0x20000n);
    const over = { iova: 0x10000n, length: 18n * P };
    expect(await report(user, id, over)).toBe(1n << 5n);
    expect(await report(user, id, { iova: 0x20000n, length: P })).toBe(1n);
    // what is unmapped takes its bits along
    await write(0x12000n);
    await user.unmap(ioas, 0x12000n, P);
    await user.map(ioas, user.anon(1), P, 0x12000n);
    expect(await report(user, id, row)).toBe(0n);
    // all of the address space is a range of length 0
    await write(0x10000n);
    expect(await report(user, id, { iova: 0n, length: 0n })).toBe(0n);
    expect(await report(user, id, row)).toBe(1n);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('is that of one page table: of all devices that go through it, and of no other', async () => {
    await using machine = await Machine.start();
    const { user, device, bound, ioas, id, write } = await scene(machine);
    const group = device.iommuGroup;
    const twin = await machine.device('twin', group ? { group } : {});
    const other = await machine.device('other');
    const second = await deviceBind(user.context, other);
    const plain = await user.hwpt(second.id, ioas);
    const own = await user.hwpt(second.id, ioas, DIRTY_TRACKING);
    await track(user, own, 1);
    await deviceAttach(second, plain);
    const { iommu } = machine.host;
    await iommu.dma(other).write(0x10000n, new Uint8Array(1));
    // the same group, the same domain, without being bound itself
    await iommu.dma(twin).write(0x11000n, new Uint8Array(1));
    await write(0x12000n);
    expect(await report(user, id, row)).toBe(0b110n);
    expect(await report(user, own, row)).toBe(0n);
    await deviceReplace(second, own);
    await iommu.dma(other).write(0x13000n, new Uint8Array(1));
    expect(await report(user, own, row)).toBe(0b1000n);
    expect(await report(user, id, row)).toBe(0n);
    for (const each of [second, bound]) {
      await deviceDetach(each);
      await deviceUnbind(each);
    }
  });

  it('keeps what was written before the device went away or tracking ended', async () => {
    await using machine = await Machine.start();
    const { user, bound, id, write } = await scene(machine);
    await write(0x10000n);
    await deviceDetach(bound);
    expect(await report(user, id, { ...row, flags: NO_CLEAR })).toBe(1n);
    await track(user, id, 0);
    expect(await report(user, id, { ...row, flags: NO_CLEAR })).toBe(1n);
    // a new start is a clean one
    await track(user, id, 1);
    expect(await report(user, id, row)).toBe(0n);
    await deviceUnbind(bound);
  });

  it('that can not be written is EFAULT, and tells of nothing', async () => {
    await using machine = await Machine.start();
    const { user, bound, id, write } = await scene(machine);
    await write(0x10000n);
    const args = { size: 48, hwptId: id, ...row, pageSize: P, data: 8n };
    const ask = () => user.request(IommufdRequest.HWPT_GET_DIRTY_BITMAP, iommuHwptGetDirtyBitmap, args);
    await fails(ask(), 'EFAULT');
    // nothing dirty, nothing to write
    await track(user, id, 1);
    await ask();
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('is read alone when the hardware can not start to record', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas } = await scene(machine);
    const fresh = await user.hwpt(bound.id, ioas, DIRTY_TRACKING);
    {
      using _arm = machine.host.faults.failOn('iommu_set_dirty_tracking:unit');
      await fails(track(user, fresh, 1), 'ENOMEM');
    }
    await deviceReplace(bound, fresh);
    await machine.host.iommu.dma(bound.device).write(0x10000n, new Uint8Array(1));
    expect(await report(user, fresh, row)).toBe(0n);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });
});
