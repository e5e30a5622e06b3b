import { describe, expect, it } from 'vitest';
import { attachedHwpt, deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { ctxHasGroup, deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { fails, Machine, P } from './harness.js';

/** What the second device of a group must not use, beside the interrupt window. */
const own = { start: 0x40_0000n, end: 0x40_ffffn, type: 'reserved' } as const;

/** Two bound devices of one group, of which the second has a reserved range of its own. */
async function scene(machine: Machine) {
  const user = await machine.user();
  const one = await machine.device('one');
  const group = one.iommuGroup;
  const two = await machine.device('two', { ...(group ? { group } : {}), reserved: [own] });
  return { user, one, two, a: await deviceBind(user.context, one), b: await deviceBind(user.context, two) };
}

describe('two devices of a group', () => {
  it('reserve what each must not use, as long as it is attached itself', async () => {
    await using machine = await Machine.start();
    const { user, a, b } = await scene(machine);
    const ioas = await user.ioas();
    const gaps = async () => (await user.ranges(ioas)).list.length;
    const id = await deviceAttach(a, ioas);
    expect(await gaps()).toBe(2);
    await deviceAttach(b, ioas);
    expect(await gaps()).toBe(3);
    await fails(user.map(ioas, user.anon(1), P, own.start), 'EINVAL');
    await deviceDetach(b);
    expect(await gaps()).toBe(2);
    await user.map(ioas, user.anon(1), P, own.start);
    // what is there now is in the way of the second one; the first goes on
    await fails(deviceAttach(b, ioas), 'EADDRINUSE');
    expect([attachedHwpt(a)?.id, attachedHwpt(b)?.id]).toEqual([id, undefined]);
    expect(await gaps()).toBe(2);
    await machine.host.iommu.dma(a.device).read(own.start, new Uint8Array(1));
    await deviceDetach(a);
    await user.destroy(ioas);
    for (const each of [a, b]) await deviceUnbind(each);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('stay both where they are when one of them can not move', async () => {
    await using machine = await Machine.start();
    const { user, one, two, a, b } = await scene(machine);
    const [from, to] = [await user.ioas(), await user.ioas()];
    await user.map(from, user.anon(1), P, 0x10000n);
    await user.map(to, user.anon(1), P, own.start);
    const id = await deviceAttach(a, from);
    await deviceAttach(b, from);
    await fails(deviceReplace(a, to), 'EADDRINUSE');
    expect([attachedHwpt(a)?.id, attachedHwpt(b)?.id]).toEqual([id, id]);
    // nothing of the first is left in the address space that they did not come to
    expect((await user.ranges(to)).list).toHaveLength(1);
    for (const dev of [one, two]) await machine.host.iommu.dma(dev).read(0x10000n, new Uint8Array(1));
    {
      // nor when the hardware refuses one of them
      using arm = machine.host.faults.failOn('iommu_replace_group:two');
      await user.unmap(to);
      await fails(deviceReplace(a, to), 'ENOMEM');
      expect(arm.fired).toBe(true);
    }
    expect((await user.ranges(to)).list).toHaveLength(1);
    expect((await user.ranges(from)).list).toHaveLength(3);
    for (const dev of [one, two]) await machine.host.iommu.dma(dev).read(0x10000n, new Uint8Array(1));
    const moved = await deviceReplace(a, to);
    expect(attachedHwpt(b)?.id).toBe(moved);
    expect([(await user.ranges(from)).list.length, (await user.ranges(to)).list.length]).toEqual([1, 3]);
    for (const each of [a, b]) {
      await deviceDetach(each);
      await deviceUnbind(each);
    }
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('belong to a context with the first that is bound, and leave it with the last', async () => {
    await using machine = await Machine.start();
    const { user, one, two, a, b } = await scene(machine);
    const group = one.iommuGroup;
    const other = await machine.user();
    expect([ctxHasGroup(user.context, group), ctxHasGroup(other.context, group)]).toEqual([true, false]);
    await deviceUnbind(a);
    expect([ctxHasGroup(user.context, group), group?.dmaOwnerClaimed()]).toEqual([true, true]);
    await fails(deviceBind(other.context, one), 'EPERM');
    await deviceUnbind(b);
    expect([ctxHasGroup(user.context, group), group?.dmaOwnerClaimed()]).toEqual([false, false]);
    await deviceUnbind(await deviceBind(other.context, two));
  });
});
