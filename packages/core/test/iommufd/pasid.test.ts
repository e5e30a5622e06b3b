import type { Device, DmaEngine } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { attachedHwpt, deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind, type IommufdDevice } from '../../src/iommufd/device.js';
import { fails, IommuHwptAllocFlag, Machine, P, type User, vtd } from './harness.js';

const { DIRTY_TRACKING, PASID } = IommuHwptAllocFlag;

/** First byte that a device reads at an IOVA; undefined where it faults. */
async function byteAt(dma: DmaEngine, iova: bigint): Promise<number | undefined> {
  const into = new Uint8Array(1);
  try {
    await dma.read(iova, into);
    return into[0];
  } catch {
    return undefined;
  }
}

/** A page table that is made for PASIDs, of an IOAS with one page at 0x10000 that begins with `byte`. */
async function filled(user: User, bound: IommufdDevice, byte: number, flags: number = PASID) {
  const ioas = await user.ioas();
  const memory = user.anon(1);
  user.process.mm.copyTo(memory, Uint8Array.of(byte));
  await user.map(ioas, memory, P, 0x10000n);
  return { ioas, memory, id: await user.hwpt(bound.id, ioas, flags) };
}

async function bindOn(machine: Machine, options: Parameters<Machine['device']>[1] = {}) {
  const user = await machine.user();
  const device = await machine.device('0000:00:02.0', options);
  return { user, device, bound: await deviceBind(user.context, device) };
}

const tagged = (machine: Machine, device: Device, pasid: number) => machine.host.iommu.dma(device).tagged(pasid);

describe('attaching a PASID', () => {
  it('CORE-068 needs hardware that has it and a page table that goes with it', async () => {
    await using machine = await Machine.start({ pasids: 16 });
    const { user, bound } = await bindOn(machine);
    const ioas = await user.ioas();
    const before = machine.host.tracker.count('domain');
    // the page tables of an IOAS are never made for PASIDs
    await fails(deviceAttach(bound, ioas, 1), 'EINVAL');
    expect(machine.host.tracker.count('domain')).toBe(before);
    const compat = await user.hwpt(bound.id, ioas, PASID);
    await fails(deviceAttach(bound, compat, 16), 'EINVAL');
    // beside a page table that does not know of PASIDs
    await deviceAttach(bound, ioas);
    await fails(deviceAttach(bound, compat, 1), 'EINVAL');
    await deviceDetach(bound);
    expect(await deviceAttach(bound, compat, 1)).toBe(compat);
    await fails(deviceAttach(bound, compat, 1), 'EBUSY');
    await fails(deviceAttach(bound, ioas), 'EINVAL');
    expect(await deviceAttach(bound, compat)).toBe(compat);
    await fails(deviceReplace(bound, ioas), 'EINVAL');
    const second = await user.hwpt(bound.id, ioas, PASID);
    await fails(deviceAttach(bound, second, 1), 'EBUSY');
    expect(await deviceReplace(bound, second, 1)).toBe(second);
    expect([attachedHwpt(bound)?.id, attachedHwpt(bound, 1)?.id]).toEqual([compat, second]);
    await fails(deviceReplace(bound, second, 2), 'EINVAL');
    await fails(user.destroy(second), 'EBUSY');
    // CORE-073, CORE-074: each by itself
    await deviceDetach(bound, 2);
    await deviceDetach(bound, 1);
    expect(attachedHwpt(bound)?.id).toBe(compat);
    await user.destroy(second);
    await deviceDetach(bound);
    await user.destroy(compat);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('is refused by an IOMMU that knows none, and for a page table with dirty bits', async () => {
    await using machine = await Machine.start({ pasids: 16 });
    const { maxPasids: _, ...older } = vtd;
    const { user, bound } = await bindOn(machine, { unit: machine.host.iommu.addUnit(older) });
    const table = await filled(user, bound, 1);
    await fails(deviceAttach(bound, table.id, 1), 'EOPNOTSUPP');
    const able = await deviceBind(user.context, await machine.device());
    const tracking = await user.hwpt(able.id, table.ioas, PASID | DIRTY_TRACKING);
    await fails(deviceAttach(able, tracking, 1), 'EINVAL');
    await user.destroy(tracking);
    await deviceUnbind(able);
    await deviceUnbind(bound);
  });

  it('gives its requests an address space of their own, and nothing else', async () => {
    await using machine = await Machine.start({ pasids: 16 });
    const { user, device, bound } = await bindOn(machine);
    const [own, one, two] = [
      await filled(user, bound, 10),
      await filled(user, bound, 11),
      await filled(user, bound, 12),
    ];
    const [none, first, second] = [0, 1, 2].map((pasid) => tagged(machine, device, pasid));
    if (!none || !first || !second) throw new Error('three engines');
    expect(await byteAt(first, 0x10000n)).toBeUndefined();
    expect(machine.host.log.entries.at(-1)?.text).toContain('[DMA Read PASID 0x1] Request device [00:02.0]');
    await deviceAttach(bound, one.id, 1);
    expect(await byteAt(machine.host.iommu.dma(device), 0x10000n)).toBeUndefined();
    await deviceAttach(bound, own.id);
    await deviceAttach(bound, two.id, 2);
    expect(await Promise.all([none, first, second].map((dma) => byteAt(dma, 0x10000n)))).toEqual([10, 11, 12]);
    expect(await byteAt(tagged(machine, device, 3), 0x10000n)).toBeUndefined();
    // writes arrive in the memory behind that PASID only
    await second.write(0x10000n, Uint8Array.of(99));
    expect([own, one, two].map(({ memory }) => user.process.mm.copyFrom(memory, 1)[0])).toEqual([10, 11, 99]);
    // what its user maps and unmaps later counts, too
    await user.map(one.ioas, two.memory, P, 0x20000n);
    expect(await byteAt(first, 0x20000n)).toBe(99);
    await user.unmap(one.ioas, 0x10000n, P);
    expect(await byteAt(first, 0x10000n)).toBeUndefined();
    // each attachment ends by itself
    await deviceReplace(bound, two.id, 1);
    expect(await byteAt(first, 0x10000n)).toBe(99);
    await deviceDetach(bound, 2);
    expect(await Promise.all([none, first, second].map((dma) => byteAt(dma, 0x10000n)))).toEqual([10, 99, undefined]);
    await deviceDetach(bound);
    expect(await byteAt(none, 0x10000n)).toBeUndefined();
    expect(await byteAt(first, 0x10000n)).toBe(99);
    await deviceDetach(bound, 1);
    expect(await byteAt(first, 0x10000n)).toBeUndefined();
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('does not reserve what the device itself must not use', async () => {
    await using machine = await Machine.start({ pasids: 16 });
    const { user, bound } = await bindOn(machine);
    const { ioas, id } = await filled(user, bound, 1);
    const before = (await user.ranges(ioas)).list;
    await deviceAttach(bound, id, 1);
    expect((await user.ranges(ioas)).list).toEqual(before);
    await deviceAttach(bound, id);
    expect((await user.ranges(ioas)).list).not.toEqual(before);
    await deviceDetach(bound);
    await deviceDetach(bound, 1);
    await deviceUnbind(bound);
  });

  it('stays where it was when a replacement fails', async () => {
    await using machine = await Machine.start({ pasids: 16 });
    const { user, device, bound } = await bindOn(machine);
    const [one, two] = [await filled(user, bound, 11), await filled(user, bound, 12)];
    await deviceAttach(bound, one.id, 1);
    for (const step of ['iommufd_hwpt_replace_device:handle', 'iommu_replace_device_pasid:0000:00:02.0']) {
      using arm = machine.host.faults.failOn(step);
      await fails(deviceReplace(bound, two.id, 1), 'ENOMEM');
      expect(arm.fired).toBe(true);
      expect(await byteAt(tagged(machine, device, 1), 0x10000n)).toBe(11);
    }
    await fails(deviceReplace(bound, two.ioas, 1), 'EINVAL');
    expect(attachedHwpt(bound, 1)?.id).toBe(one.id);
    await user.destroy(two.id);
    await deviceDetach(bound, 1);
    await user.destroy(one.id);
    await deviceUnbind(bound);
  });
});

describe('PASIDs of a group of two', () => {
  it('are attached once, with the first of the devices, and go with the last', async () => {
    await using machine = await Machine.start({ pasids: 16 });
    const { user, device, bound } = await bindOn(machine);
    const group = device.iommuGroup;
    const other = await machine.device('0000:00:02.1', { ...(group ? { group } : {}), pasids: { max: 4 } });
    const second = await deviceBind(user.context, other);
    const [one, two] = [await filled(user, bound, 11), await filled(user, bound, 12)];
    // a PASID that one of them does not have
    await fails(deviceAttach(bound, one.id, 4), 'EINVAL');
    await deviceAttach(bound, one.id, 3);
    // hardware can not tell them apart
    expect(await byteAt(tagged(machine, other, 3), 0x10000n)).toBe(11);
    await fails(deviceReplace(second, two.id, 3), 'EINVAL');
    await fails(deviceAttach(second, two.id, 3), 'EINVAL');
    await deviceAttach(second, one.id, 3);
    await deviceReplace(second, two.id, 3);
    for (const each of [bound, second]) expect(attachedHwpt(each, 3)?.id).toBe(two.id);
    expect(await byteAt(tagged(machine, device, 3), 0x10000n)).toBe(12);
    await deviceDetach(bound, 3);
    expect(await byteAt(tagged(machine, device, 3), 0x10000n)).toBe(12);
    await fails(user.destroy(two.id), 'EBUSY');
    await user.destroy(one.id);
    await deviceDetach(second, 3);
    expect(await byteAt(tagged(machine, other, 3), 0x10000n)).toBeUndefined();
    await user.destroy(two.id);
    await deviceUnbind(bound);
    await deviceUnbind(second);
  });
});
