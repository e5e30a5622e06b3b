import { describe, expect, it } from 'vitest';
import { attachedHwpt, deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { contextFromFd } from '../../src/iommufd/context-file.js';
import { ctxHasGroup, deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { IommuHwInfoFlag, IommuHwInfoType, iommuHwInfo } from '../../src/uapi/iommufd.js';
import { IommufdRequest } from '../../src/uapi/vfio.js';
import { fails, Machine, MSI, P, TOP, U64_MAX, vtd } from './harness.js';

describe('contextFromFd', () => {
  it('CORE-058 EBADF for a closed descriptor, EBADFD for another file', async () => {
    await using machine = await Machine.start();
    const { process, fd } = await machine.user();
    expect(() => contextFromFd(process, 999)).toThrow(expect.objectContaining({ code: 'EBADF' }));
    const other = await process.open('/dev/null', 2);
    expect(() => contextFromFd(process, other)).toThrow(expect.objectContaining({ code: 'EBADFD' }));
    const context = contextFromFd(process, fd);
    await process.close(fd);
    expect(machine.host.tracker.count('file')).toBe(2);
    await context.put();
    expect(machine.host.tracker.count('file')).toBe(1);
  });
});

describe('deviceBind', () => {
  it('CORE-056 gives an id of the context, whose file lives as long as the device is bound', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    await user.ioas();
    const device = await machine.device();
    const bound = await deviceBind(user.context, device);
    expect(bound.id).toBe(2);
    await fails(user.destroy(2), 'EBUSY');
    expect(ctxHasGroup(user.context, device.iommuGroup)).toBe(true);
    expect(ctxHasGroup((await machine.user()).context, device.iommuGroup)).toBe(false);
    expect(ctxHasGroup(undefined, device.iommuGroup)).toBe(false);
    await user.process.close(user.fd);
    expect(device.iommuGroup?.dmaOwnerClaimed()).toBe(true);
    await deviceUnbind(bound);
    expect(device.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    expect(machine.host.tracker.count('reference')).toBe(0);
  });

  it('CORE-067 one context owns all of a group', async () => {
    await using machine = await Machine.start();
    const [a, b] = [await machine.user(), await machine.user()];
    const first = await machine.device('first');
    const second = await machine.device('second', { group: first.iommuGroup! });
    const bound = [await deviceBind(a.context, first), await deviceBind(a.context, second)];
    expect(a.context.groups.size).toBe(1);
    await fails(deviceBind(b.context, second), 'EPERM');
    await deviceUnbind(bound[0]!);
    await fails(deviceBind(b.context, second), 'EPERM');
    await deviceUnbind(bound[1]!);
    const again = await deviceBind(b.context, second);
    await deviceUnbind(again);
    first.iommuGroup?.useDefaultDomain();
    await fails(deviceBind(a.context, second), 'EPERM');
    first.iommuGroup?.unuseDefaultDomain();
    const domain = machine.host.iommu.allocDomain(first);
    first.iommuGroup?.attach(domain);
    await fails(deviceBind(a.context, second), 'EBUSY');
    first.iommuGroup?.detach(domain);
    domain.free();
    expect(a.context.groups.size).toBe(0);
  });

  it('refuses what is not coherent, not isolated or in no group', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const { iommu, modules } = machine.host;
    const bare = iommu.addUnit({ ...vtd, coherent: false });
    const loud = iommu.addUnit({ ...vtd, msiIsolated: false });
    await fails(deviceBind(user.context, await machine.device('bare', { unit: bare })), 'EINVAL');
    const shouting = await machine.device('loud', { unit: loud });
    await fails(deviceBind(user.context, shouting), 'EPERM');
    await machine.host.init.writeFile('/sys/module/iommufd/parameters/allow_unsafe_interrupts', 'Y');
    const bound = await deviceBind(user.context, shouting);
    expect(machine.host.log.entries.filter(({ text }) => text.startsWith('MSI interrupts are not'))).toHaveLength(1);
    await deviceUnbind(bound);
    expect(modules.get('iommufd')?.refcount).toBe(1);
  });
});

describe('GET_HW_INFO', () => {
  it('tells capabilities, and data cut or filled to the room', async () => {
    const data = new Uint8Array([1, 2, 3, 4, 5, 6, 7, 8]);
    await using machine = await Machine.start({
      hwInfo: ({ name }) => (name === 'dev0' ? { type: IommuHwInfoType.INTEL_VTD, data } : undefined),
      atsSupported: ({ name }) => name === 'dev0',
    });
    const user = await machine.user();
    const able = await machine.device('dev0', { pasids: { max: 1 << 20, exec: true, priv: true } });
    const bound = await deviceBind(user.context, able);
    const plain = machine.host.iommu.addUnit({ ...vtd, dirtyTracking: false });
    const other = await deviceBind(user.context, await machine.device('dev1', { unit: plain }));
    const room = user.anon(1);
    const info = (value: object) =>
      user.request(IommufdRequest.GET_HW_INFO, iommuHwInfo, { size: 40, devId: bound.id, dataUptr: room, ...value });
    user.process.mm.copyTo(room, new Uint8Array(16).fill(0xff));
    expect(await info({ dataLen: 12 })).toMatchObject({
      dataLen: 8,
      outDataType: IommuHwInfoType.INTEL_VTD,
      outMaxPasidLog2: 20,
      outCapabilities: 7n,
    });
    expect([...user.process.mm.copyFrom(room, 13)]).toEqual([...data, 0, 0, 0, 0, 0xff]);
    expect(await info({ dataLen: 0, dataUptr: 0n })).toMatchObject({ dataLen: 8 });
    await fails(info({ dataLen: 4, dataUptr: 0n }), 'EFAULT');
    await fails(info({ devId: 999 }), 'ENOENT');
    await fails(info({ flags: 2 }), 'EOPNOTSUPP');
    await fails(info({ reserved: new Uint8Array([0, 1, 0]) }), 'EOPNOTSUPP');
    await fails(info({ flags: IommuHwInfoFlag.INPUT_TYPE, outDataType: 2, inDataType: 2 }), 'EOPNOTSUPP');
    expect(await info({ devId: other.id, dataLen: 4 })).toMatchObject({
      dataLen: 0,
      outDataType: 0,
      outMaxPasidLog2: 0,
      outCapabilities: 8n,
    });
    await deviceUnbind(bound);
    await deviceUnbind(other);
  });
});

describe('deviceAttach', () => {
  it('CORE-069 gives the id of a page table, which goes with its last user', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const first = await user.ioas();
    expect(await deviceAttach(bound, first)).toBe(3);
    // CORE-070 attaching again replaces
    expect(await deviceReplace(bound, first)).toBe(3);
    const second = await user.ioas();
    expect(await deviceReplace(bound, second)).toBe(5);
    await fails(user.destroy(3), 'ENOENT');
    await fails(user.destroy(second), 'EBUSY');
    await deviceDetach(bound);
    await deviceDetach(bound);
    await fails(user.destroy(5), 'ENOENT');
    await user.destroy(second);
    expect(await deviceAttach(bound, first)).toBe(3);
    await fails(user.destroy(bound.id), 'EBUSY');
    await fails(user.destroy(first), 'EBUSY');
    await deviceDetach(bound);
    await user.destroy(first);
    await deviceUnbind(bound);
    expect(machine.host.tracker.count('domain')).toBe(machine.host.iommu.groups.size * 2);
  });

  it('CORE-194 its IOAS stays until nothing is attached, and the page table made for that until its last user', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const first = await machine.device('one');
    const one = await deviceBind(user.context, first);
    const beside = await deviceBind(user.context, await machine.device('beside', { group: first.iommuGroup! }));
    const two = await deviceBind(user.context, await machine.device('two'));
    const hwpt = await deviceAttach(one, ioas);
    const domains = machine.host.tracker.count('domain');
    expect(await deviceAttach(two, ioas)).toBe(hwpt);
    await fails(user.destroy(ioas), 'EBUSY');
    await fails(user.destroy(hwpt), 'EBUSY');
    expect(await deviceAttach(beside, ioas)).toBe(hwpt);
    for (const idev of [one, two]) {
      await deviceDetach(idev);
      await fails(user.destroy(ioas), 'EBUSY');
      await fails(user.destroy(hwpt), 'EBUSY');
    }
    expect(machine.host.tracker.count('domain')).toBe(domains);
    await deviceDetach(beside);
    expect(machine.host.tracker.count('domain')).toBe(domains - 1);
    await fails(user.destroy(hwpt), 'ENOENT');
    await user.destroy(ioas);
    await fails(user.destroy(ioas), 'ENOENT');
    for (const idev of [one, beside, two]) await deviceUnbind(idev);
  });

  it('CORE-194 a page table that the user made outlives its attachments, and keeps the IOAS', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const bound = await deviceBind(user.context, await machine.device());
    const hwpt = await user.hwpt(bound.id, ioas);
    await deviceAttach(bound, hwpt);
    await fails(user.destroy(hwpt), 'EBUSY');
    await deviceDetach(bound);
    await fails(user.destroy(ioas), 'EBUSY');
    await user.destroy(hwpt);
    await user.destroy(ioas);
    await deviceUnbind(bound);
  });

  it('CORE-071 ENOENT for no object, EINVAL for one of another kind', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    await fails(deviceAttach(bound, 0), 'ENOENT');
    await fails(deviceAttach(bound, 999), 'ENOENT');
    await fails(deviceAttach(bound, bound.id), 'EINVAL');
    await fails(deviceReplace(bound, await user.ioas()), 'EINVAL');
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('lets DMA reach what is mapped before and after, and nothing once it is detached', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const device = await machine.device();
    const { host } = machine;
    const bound = await deviceBind(user.context, device);
    const ioas = await user.ioas();
    const m = user.anon(4);
    await user.map(ioas, m, 2n * P, 0x10000n);
    expect(user.process.mm.pinnedVm).toBe(0);
    await deviceAttach(bound, ioas);
    expect(user.process.mm.pinnedVm).toBe(2);
    await user.map(ioas, m + 2n * P, 2n * P, 0x20000n);
    expect(user.process.mm.pinnedVm).toBe(4);
    const engine = host.iommu.dma(device);
    await engine.write(0x11ff0n, new TextEncoder().encode('before'));
    await engine.write(0x20000n, new TextEncoder().encode('after'));
    expect(new TextDecoder().decode(user.process.mm.copyFrom(m + 0x1ff0n, 6))).toBe('before');
    expect(new TextDecoder().decode(user.process.mm.copyFrom(m + 2n * P, 5))).toBe('after');
    await fails(user.map(ioas, 0x1000n, P, 0x30000n), 'EFAULT');
    expect(await user.unmap(ioas, 0x20000n, 2n * P)).toBe(2n * P);
    await expect(async () => await engine.write(0x20000n, new Uint8Array(1))).rejects.toThrow();
    await deviceDetach(bound);
    expect(user.process.mm.pinnedVm).toBe(0);
    await expect(async () => await engine.write(0x10000n, new Uint8Array(1))).rejects.toThrow();
    await deviceUnbind(bound);
    expect(host.tracker.count('pin')).toBe(0);
  });

  it('narrows what may be mapped to the aperture without the reserved regions, and widens it again', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const own = { start: 0x4000_0000n, end: 0x4000_ffffn, type: 'direct' as const };
    const relaxed = { start: 0x5000_0000n, end: 0x5000_ffffn, type: 'direct-relaxable' as const };
    const bound = await deviceBind(user.context, await machine.device('d', { reserved: [own, relaxed] }));
    const ioas = await user.ioas();
    await deviceAttach(bound, ioas);
    const { list, alignment } = await user.ranges(ioas);
    expect(list).toEqual([
      [0n, own.start - 1n],
      [own.end + 1n, MSI.start - 1n],
      [MSI.end + 1n, TOP],
    ]);
    expect(alignment).toBe(P);
    const m = user.anon(1);
    await fails(user.map(ioas, m, P, MSI.start), 'EINVAL');
    await fails(user.map(ioas, m, P, TOP + 1n), 'EINVAL');
    await user.map(ioas, m, P, relaxed.start);
    // CORE-193
    await fails(user.allow(ioas, [[0n, own.start]]), 'EADDRINUSE');
    await user.allow(ioas, [[own.end + 1n, own.end + 0x10000n]]);
    expect(await user.map(ioas, m, P)).toBe(own.end + 1n);
    await deviceDetach(bound);
    expect(await user.ranges(ioas)).toEqual({ list: [[0n, U64_MAX]], alignment: 1n });
    await deviceUnbind(bound);
  });

  it('CORE-193 refuses with EADDRINUSE what is mapped or allowed where the device cannot be', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const m = user.anon(1);
    const attempts: ((ioas: number) => Promise<unknown>)[] = [
      (ioas) => user.map(ioas, m, P, MSI.start),
      (ioas) => user.map(ioas, m, P, TOP + 1n),
      (ioas) => user.map(ioas, m, 16n, 0x10000n),
      (ioas) => user.map(ioas, m + 16n, P, 0x10000n),
      (ioas) => user.allow(ioas, [[MSI.end, MSI.end + P]]),
    ];
    for (const prepare of attempts) {
      const ioas = await user.ioas();
      await prepare(ioas);
      await fails(deviceAttach(bound, ioas), 'EADDRINUSE');
      expect(await user.ranges(ioas)).toEqual({ list: [[0n, U64_MAX]], alignment: 1n });
      await user.destroy(ioas);
    }
    expect(attachedHwpt(bound)).toBeUndefined();
    expect(bound.igroup.group.domain?.kind).toBe('blocked');
    await deviceUnbind(bound);
  });

  it('needs the same page table for all devices of a group', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const one = await machine.device('one');
    const bound = [one, await machine.device('two', { group: one.iommuGroup! })];
    const [a, b] = [await deviceBind(user.context, bound[0]!), await deviceBind(user.context, bound[1]!)];
    const [x, y] = [await user.ioas(), await user.ioas()];
    const id = await deviceAttach(a, x);
    await fails(deviceAttach(b, y), 'EINVAL');
    await fails(deviceReplace(b, x), 'EINVAL');
    expect(await deviceAttach(b, x)).toBe(id);
    await fails(deviceAttach(b, x), 'EBUSY');
    // one moves, and takes the other along
    const moved = await deviceReplace(b, y);
    expect(attachedHwpt(a)?.id).toBe(moved);
    await fails(user.destroy(id), 'ENOENT');
    await user.destroy(x);
    await deviceDetach(b);
    expect(a.igroup.group.domain?.kind).toBe('unmanaged');
    await deviceDetach(a);
    expect(a.igroup.group.domain?.kind).toBe('blocked');
    await user.destroy(y);
    await deviceUnbind(a);
    await deviceUnbind(b);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('shares a page table among groups that can, and makes one for each kind of hardware', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const lax = machine.host.iommu.addUnit({ ...vtd, enforceCoherency: false });
    const a = await deviceBind(user.context, await machine.device('a'));
    const b = await deviceBind(user.context, await machine.device('b'));
    const c = await deviceBind(user.context, await machine.device('c', { unit: lax }));
    const ioas = await user.ioas();
    const m = user.anon(2);
    await user.map(ioas, m, 2n * P, 0x10000n);
    const id = await deviceAttach(a, ioas);
    expect(await deviceAttach(b, ioas)).toBe(id);
    const other = await deviceAttach(c, ioas);
    expect(other).not.toBe(id);
    expect(user.process.mm.pinnedVm).toBe(2);
    for (const idev of [a, b, c]) expect(attachedHwpt(idev)?.domain.iovaToPhys(0x11000n)).toBeDefined();
    await deviceDetach(a);
    await deviceDetach(b);
    expect(user.process.mm.pinnedVm).toBe(2);
    expect(attachedHwpt(c)?.domain.iovaToPhys(0x11000n)).toBeDefined();
    await deviceDetach(c);
    expect(user.process.mm.pinnedVm).toBe(0);
    for (const idev of [a, b, c]) await deviceUnbind(idev);
  });

  it('CORE-070 keeps the old attachment when the new one fails', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const [good, bad] = [await user.ioas(), await user.ioas()];
    await user.map(good, user.anon(1), P, 0x10000n);
    await user.map(bad, user.anon(1), P, MSI.start);
    const id = await deviceAttach(bound, good);
    await fails(deviceReplace(bound, bad), 'EADDRINUSE');
    await fails(deviceReplace(bound, 999), 'ENOENT');
    expect(attachedHwpt(bound)?.id).toBe(id);
    expect(bound.igroup.group.domain).toBe(attachedHwpt(bound)?.domain);
    expect(bound.igroup.group.domain?.iovaToPhys(0x10000n)).toBeDefined();
    expect((await user.ranges(bad)).list).toEqual([[0n, U64_MAX]]);
    expect((await user.ranges(good)).list).toHaveLength(2);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('ENOMEM when what is mapped may not be locked', async () => {
    await using machine = await Machine.start();
    const user = await machine.user({ uid: 1000, memlock: 2n * P });
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    await user.map(ioas, user.anon(3), 3n * P, 0x10000n);
    await fails(deviceAttach(bound, ioas), 'ENOMEM');
    expect(machine.iommufd.lockedByUser.of(1000)).toBe(0);
    await user.unmap(ioas);
    await deviceAttach(bound, ioas);
    await user.map(ioas, user.anon(2), 2n * P, 0x10000n);
    expect(machine.iommufd.lockedByUser.of(1000)).toBe(2);
    await fails(user.map(ioas, user.anon(1), P, 0x20000n), 'ENOMEM');
    const other = await user.ioas();
    await user.copy(other, ioas, 0x10000n, 2n * P, 0x30000n);
    await user.copy(ioas, other, 0x30000n, 2n * P, 0x40000n);
    expect(machine.iommufd.lockedByUser.of(1000)).toBe(2);
    await user.unmap(ioas);
    expect(machine.iommufd.lockedByUser.of(1000)).toBe(0);
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });
});
