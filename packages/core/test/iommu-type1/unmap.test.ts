import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DmaMapFlag, DmaUnmapFlag, Extension, iommuType1DmaUnmap, Request } from '../../src/uapi/vfio.js';
import { type Container, error, Machine, P, RW, U64_MAX, type User } from './harness.js';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine[Symbol.asyncDispose]());

async function emulatedUser(kind?: number): Promise<User> {
  return (await machine.container([await machine.emulated('mtty')], kind)).user();
}

describe('UNMAP_DMA, version 2', () => {
  it('CORE-164 refuses to cut a mapping and changes nothing, takes several with holes and says how much', async () => {
    const user = await emulatedUser();
    await user.map(16n * P, 0n, 4n * P);
    for (const [first, pages] of [
      [15n, 2n],
      [15n, 4n],
      [16n, 1n],
      [16n, 3n],
      [17n, 1n],
      [17n, 3n],
      [17n, 8n],
      [19n, 1n],
      [19n, 8n],
    ] as const) {
      await expect(user.unmap(first * P, pages * P)).rejects.toEqual(error.EINVAL);
    }
    await user.map(30n * P, 0n, P);
    await user.map(40n * P, 0n, 2n * P);
    expect(await user.unmap(0n, 100n * P)).toBe(7n * P);
    expect((await user.info()).avail).toBe(65535);
  });

  it('CORE-164 takes a mapping exactly, or with unmapped pages around it', async () => {
    const user = await emulatedUser();
    for (const [first, pages] of [
      [16n, 4n],
      [15n, 5n],
      [15n, 8n],
      [16n, 8n],
    ] as const) {
      await user.map(16n * P, 0n, 4n * P);
      expect(await user.unmap(first * P, pages * P)).toBe(4n * P);
    }
  });

  it('CORE-165 finds nothing in an empty range, which is no failure', async () => {
    const user = await emulatedUser();
    await user.map(16n * P, 0n, 4n * P);
    expect(await user.unmap(15n * P, P)).toBe(0n);
    expect(await user.unmap(20n * P, 8n * P)).toBe(0n);
    expect(await user.unmap(U64_MAX - P + 1n, P)).toBe(0n);
    expect(await user.unmap(P, U64_MAX - P + 1n)).toBe(4n * P);
  });

  it('CORE-167 takes everything with ALL, and no range beside it', async () => {
    const user = await emulatedUser();
    await user.map(0n, 0n, P);
    await user.map(U64_MAX - P + 1n, 0n, P);
    await expect(user.unmap(P, 0n, DmaUnmapFlag.ALL)).rejects.toEqual(error.EINVAL);
    await expect(user.unmap(0n, P, DmaUnmapFlag.ALL)).rejects.toEqual(error.EINVAL);
    expect(await user.unmapAll()).toBe(2n * P);
    expect(await user.unmapAll()).toBe(0n);
  });

  it('CORE-168 leaves the size alone when it fails', async () => {
    const user = await emulatedUser();
    await user.map(16n * P, 0n, 4n * P);
    const failing = [
      user.unmapArgs(16n * P, P),
      user.unmapArgs(16n * P + 1n, 4n * P),
      user.unmapArgs(16n * P, 0n),
      user.unmapArgs(U64_MAX - P + 1n, 2n * P),
      user.unmapArgs(16n * P, 4n * P, 8),
    ];
    for (const args of failing) {
      const before = args.slice();
      await expect(user.process.ioctl(user.fd, Request.IOMMU_UNMAP_DMA, args)).rejects.toBeDefined();
      expect(args).toEqual(before);
    }
  });

  it('checks argsz, flags, alignment and the end of the address space', async () => {
    const user = await emulatedUser();
    for (const argsz of [0, 23]) {
      const args = iommuType1DmaUnmap.encode({ argsz, size: P }, 'little');
      await expect(user.process.ioctl(user.fd, Request.IOMMU_UNMAP_DMA, args)).rejects.toEqual(error.EINVAL);
    }
    await expect(user.process.ioctl(user.fd, Request.IOMMU_UNMAP_DMA, 0n)).rejects.toEqual(error.EFAULT);
    for (const flags of [3, 5, 7, 8, 0x8000_0000]) {
      await expect(user.unmap(0n, P, flags)).rejects.toEqual(error.EINVAL);
    }
    for (const size of [0n, 1n, 0xfffn, 0x1800n]) await expect(user.unmap(0n, size)).rejects.toEqual(error.EINVAL);
    for (const iova of [1n, 0x800n]) await expect(user.unmap(16n * P + iova, P)).rejects.toEqual(error.EINVAL);
    await expect(user.unmap(U64_MAX - P + 1n, 2n * P)).rejects.toEqual(error.EOVERFLOW);
  });

  it('cannot take part of a large mapping of hardware, either', async () => {
    const user = (await machine.container([await machine.hardware('0000:00:02.0')])).user();
    const memory = user.anon(2048);
    await user.map(0x4000_0000n, memory, 2048n * P);
    await expect(user.unmap(0x4000_1000n, P)).rejects.toEqual(error.EINVAL);
    await expect(user.unmap(0x4000_0000n, 0x20_0000n)).rejects.toEqual(error.EINVAL);
    expect(await user.unmap(0x4000_0000n, 0x100_0000n)).toBe(2048n * P);
    expect(machine.host.iommu.groups.get(0)!.domain!.mappings).toBe(0);
    expect(user.lockedVm).toBe(0);
  });
});

describe('UNMAP_DMA, version 1', () => {
  it('CORE-166 does nothing from the middle of a mapping on, and takes a mapping with its first page', async () => {
    const user = await emulatedUser(Extension.TYPE1_IOMMU);
    await user.map(16n * P, 0n, 4n * P);
    await user.map(20n * P, 0n, P);
    expect(await user.unmap(17n * P, P)).toBe(0n);
    // the first mapping it meets begins before: it stops there, although a whole one follows
    expect(await user.unmap(17n * P, 8n * P)).toBe(0n);
    expect(await user.unmap(15n * P, 2n * P)).toBe(4n * P);
    expect(await user.unmap(20n * P, P)).toBe(P);
  });
});

describe('exchange of addresses', () => {
  let container: Container;
  let user: User;
  let memory: bigint;

  beforeEach(async () => {
    container = await machine.container([await machine.hardware('0000:00:02.0')]);
    user = container.user();
    memory = user.anon(8);
  });

  it('CORE-169 is refused while an emulated group is attached', async () => {
    const emulated = await machine.emulated('mtty');
    await container.attach(emulated);
    await user.map(16n * P, memory, P);
    await expect(user.unmap(16n * P, P, DmaUnmapFlag.VADDR)).rejects.toEqual(error.EBUSY);
    await expect(user.unmap(0n, 0n, DmaUnmapFlag.VADDR | DmaUnmapFlag.ALL)).rejects.toEqual(error.EBUSY);
    // before the range is looked at
    await expect(user.unmap(1n, 0n, DmaUnmapFlag.VADDR)).rejects.toEqual(error.EBUSY);
    await container.detach(emulated);
    expect(await user.unmap(16n * P, P, DmaUnmapFlag.VADDR)).toBe(P);
  });

  it('CORE-169 takes addresses back once, and new ones only then', async () => {
    await user.map(16n * P, memory, 4n * P);
    await expect(user.map(16n * P, memory, 4n * P, DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    await expect(user.map(32n * P, memory, P, DmaMapFlag.VADDR)).rejects.toEqual(error.ENOENT);
    await expect(user.unmap(16n * P, P, DmaUnmapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    expect(await user.unmap(32n * P, P, DmaUnmapFlag.VADDR)).toBe(0n);
    expect(await user.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR)).toBe(4n * P);
    await expect(user.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    await expect(user.map(16n * P, memory, P, DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    await expect(user.map(17n * P, memory, P, DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    await expect(user.map(16n * P, memory + 1n, 4n * P, DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    await user.map(16n * P, memory, 4n * P, DmaMapFlag.VADDR);
    await expect(user.map(16n * P, memory, 4n * P, DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    expect(await user.unmap(0n, 0n, DmaUnmapFlag.VADDR | DmaUnmapFlag.ALL)).toBe(4n * P);
  });

  it('CORE-169 takes none of a range back when one is out already', async () => {
    for (const page of [16n, 17n, 18n]) await user.map(page * P, memory, P);
    await user.unmap(18n * P, P, DmaUnmapFlag.VADDR);
    await expect(user.unmap(16n * P, 3n * P, DmaUnmapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    for (const page of [16n, 17n]) {
      await expect(user.map(page * P, memory, P, DmaMapFlag.VADDR)).rejects.toEqual(error.EINVAL);
    }
    await user.map(18n * P, memory, P, DmaMapFlag.VADDR);
    // now all are good again: attaching works
    await container.attach(await machine.hardware('0000:00:03.0'));
  });

  it('CORE-170 keeps groups out and mappings alive meanwhile', async () => {
    await user.map(16n * P, memory, 4n * P);
    await user.map(32n * P, memory, P);
    await user.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR);
    const second = await machine.hardware('0000:00:03.0');
    await expect(container.attach(second)).rejects.toEqual(error.EBUSY);
    expect(machine.host.iommu.groups.get(0)!.domain!.translate(16n * P, 1)).toBeDefined();
    await user.map(48n * P, memory, P);
    expect(await user.unmap(32n * P, P)).toBe(P);
    // removing the mapping settles it as a new address would
    expect(await user.unmap(16n * P, 4n * P)).toBe(4n * P);
    await container.attach(second);
  });

  it('CORE-170 keeps devices from pinning and from copying', async () => {
    await user.map(16n * P, memory, P);
    await user.unmap(16n * P, P, DmaUnmapFlag.VADDR);
    await container.listen();
    const group = machine.host.iommu.groups.get(0)!;
    await expect(container.backend.pinPages(group, 16n * P, 1, RW)).rejects.toEqual(error.EBUSY);
    await expect(container.backend.pinPages(group, 16n * P, 1, RW)).rejects.toEqual(error.EBUSY);
    await expect(container.backend.dmaRw(16n * P, new Uint8Array(1), false)).rejects.toEqual(error.EBUSY);
    expect(machine.host.log.warnings().map(({ text }) => text)).toEqual([
      'pages are pinned while addresses are exchanged',
      'memory is accessed while addresses are exchanged',
    ]);
  });

  it('CORE-169 moves the charge to the process that supplies the address', async () => {
    await user.map(16n * P, memory, 4n * P);
    await user.map(32n * P, memory, 2n * P);
    await user.unmap(0n, 0n, DmaUnmapFlag.VADDR | DmaUnmapFlag.ALL);
    const heir = container.user(
      machine.host.spawn({ comm: 'heir', uid: 1000, limits: { memlock: { soft: 4n * P, hard: 4n * P } } }),
    );
    const inherited = heir.anon(8);
    await heir.map(16n * P, inherited, 4n * P, DmaMapFlag.VADDR);
    expect([user.lockedVm, heir.lockedVm]).toEqual([2, 4]);
    await expect(heir.map(32n * P, inherited, 2n * P, DmaMapFlag.VADDR)).rejects.toEqual(error.ENOMEM);
    expect([user.lockedVm, heir.lockedVm]).toEqual([2, 4]);
    await user.map(32n * P, memory, 2n * P, DmaMapFlag.VADDR);
    await user.unmap(16n * P, 4n * P);
    expect([user.lockedVm, heir.lockedVm]).toEqual([2, 0]);
  });

  it('CORE-169 asks no further room of the process that has the charge already', async () => {
    const memlock = { soft: 4n * P, hard: 4n * P };
    const poor = container.user(machine.host.spawn({ comm: 'poor', uid: 1000, limits: { memlock } }));
    const own = poor.anon(8);
    await poor.map(16n * P, own, 4n * P);
    await poor.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR);
    await poor.map(16n * P, own + 4n * P, 4n * P, DmaMapFlag.VADDR);
    expect(poor.lockedVm).toBe(4);
  });

  it('CORE-169 makes the limit of the new owner count from then on', async () => {
    const [hardware] = [...machine.host.iommu.groups.values()];
    const heir = container.user(machine.host.spawn({ comm: 'heir', uid: 1000 }));
    await user.map(16n * P, memory, 4n * P);
    await user.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR);
    await heir.map(16n * P, heir.anon(4), 4n * P, DmaMapFlag.VADDR);
    await container.attach(await machine.emulated('mtty'));
    await container.detach(hardware!);
    expect(heir.lockedVm).toBe(0);
    heir.process.limits.set('memlock', { soft: 2n * P, hard: 2n * P }, true);
    await expect(container.attach(hardware!)).rejects.toEqual(error.ENOMEM);
  });

  it('CORE-169 hands over what is charged now, not what was charged once', async () => {
    const [hardware] = [...machine.host.iommu.groups.values()];
    const emulated = await machine.emulated('mtty');
    await container.attach(emulated);
    await user.map(16n * P, memory, 4n * P);
    await container.detach(hardware!);
    await container.attach(hardware!);
    await container.detach(emulated);
    await user.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR);
    const heir = container.user();
    await heir.map(16n * P, heir.anon(4), 4n * P, DmaMapFlag.VADDR);
    expect([user.lockedVm, heir.lockedVm]).toEqual([0, 4]);
  });

  it('CORE-169 takes the charge over from a process that is gone', async () => {
    await user.map(16n * P, memory, 4n * P);
    await user.unmap(16n * P, 4n * P, DmaUnmapFlag.VADDR);
    const heir = container.user();
    await user.process.exit();
    await heir.map(16n * P, heir.anon(4), 4n * P, DmaMapFlag.VADDR);
    expect(heir.lockedVm).toBe(4);
    await heir.unmapAll();
    expect(heir.lockedVm).toBe(0);
  });
});

describe('UNMAP_DMA with the dirty bitmap', () => {
  it('CORE-175 reports the removed range', async () => {
    const user = (await machine.container([await machine.hardware('0000:00:02.0')])).user();
    const memory = user.anon(64);
    await user.map(0x50_0000n, memory, 4n * P);
    await user.map(0x50_8000n, memory, 2n * P);
    await user.startTracking();
    const data = user.anon(1);
    expect(await user.unmap(0x50_0000n, 10n * P, 0, { data })).toBe(6n * P);
    expect(user.process.mm.copyFrom(data, 8)).toEqual(new Uint8Array([0x0f, 0x03, 0, 0, 0, 0, 0, 0]));
    expect(await user.unmapAll()).toBe(0n);
  });

  it('CORE-175 reports what emulated devices held before', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    await user.map(0n, user.anon(64), 64n * P);
    await user.startTracking();
    await container.listen();
    await container.backend.pinPages(group, 3n * P, 2, RW);
    await container.backend.unpinPages(3n * P, 2);
    const data = user.anon(1);
    await user.unmap(0n, 64n * P, 0, { data });
    expect(user.process.mm.copyFrom(data, 2)).toEqual(new Uint8Array([0b0001_1000, 0]));
  });

  it('CORE-172 needs tracking, the smallest page size, a bitmap that fits, and no other flag', async () => {
    const user = await emulatedUser();
    const data = user.anon(1);
    await user.map(0n, 0n, 65n * P);
    await expect(user.unmap(0n, 65n * P, 0, { data })).rejects.toEqual(error.EINVAL);
    await user.startTracking();
    for (const bitmap of [
      { data, pgsize: 2n * P },
      { data, pgsize: 0n },
      { data, size: 8n },
      { data, size: 15n },
      { data, size: 0n },
      { data, size: 2n ** 28n + 8n },
      { data: 2n ** 63n },
    ]) {
      await expect(user.unmap(0n, 65n * P, 0, bitmap)).rejects.toEqual(error.EINVAL);
    }
    await expect(user.unmap(0n, 0n, DmaUnmapFlag.ALL, { data })).rejects.toEqual(error.EINVAL);
    await expect(user.unmap(0n, 65n * P, DmaUnmapFlag.VADDR, { data })).rejects.toEqual(error.EINVAL);
    await expect(user.unmap(0n, 65n * P, DmaUnmapFlag.GET_DIRTY_BITMAP)).rejects.toEqual(error.EINVAL);
    // short arguments, and a bitmap that is not there
    const short = user.unmapArgs(0n, 65n * P, 0, { data }).subarray(0, 40);
    await expect(user.process.ioctl(user.fd, Request.IOMMU_UNMAP_DMA, short)).rejects.toEqual(error.EFAULT);
    await expect(user.unmap(0n, 65n * P, 0, { data: 0x1000n })).rejects.toEqual(error.EFAULT);
    expect(await user.unmap(0n, 65n * P, 0, { data })).toBe(65n * P);
  });
});

describe('UNMAP_DMA of pages that devices hold', () => {
  it('CORE-180 tells every device with the range of the mapping, until nothing is held', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    const { backend } = container;
    await user.map(0n, user.anon(4), 4n * P);
    await user.map(8n * P, user.anon(4), 4n * P);
    const calls: string[] = [];
    await container.listen({
      async dmaUnmap(iova, length) {
        calls.push(`first ${iova / P}+${length / P}`);
        // lets go of one pin each time
        await backend.unpinPages(9n * P, 1);
      },
    });
    await container.listen({
      dmaUnmap(iova, length) {
        calls.push(`second ${iova / P}+${length / P}`);
      },
    });
    await backend.pinPages(group, 9n * P, 1, RW);
    await backend.pinPages(group, 9n * P, 1, RW);
    expect(await user.unmap(0n, 16n * P)).toBe(8n * P);
    expect(calls).toEqual(['second 8+4', 'first 8+4', 'second 8+4', 'first 8+4']);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });

  it('CORE-180 tells nobody of mappings without pins', async () => {
    const container = await machine.container([await machine.emulated('mtty')]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    const calls: bigint[] = [];
    await container.listen({ dmaUnmap: (iova) => void calls.push(iova) });
    await user.unmapAll();
    expect(calls).toEqual([]);
  });

  it('CORE-181 lets the device take locks of the container in its answer, and others use it meanwhile', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    const { backend } = container;
    await user.map(0n, user.anon(4), 4n * P);
    await container.listen({
      async dmaUnmap() {
        await user.map(32n * P, 0n, P);
        await backend.unpinPages(P, 1);
      },
    });
    await backend.pinPages(group, P, 1, RW);
    expect(await user.unmap(0n, 4n * P)).toBe(4n * P);
    expect(await user.unmap(32n * P, P)).toBe(P);
  });

  it('CORE-180 lets a device come or go only between notifications', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    const { backend } = container;
    await user.map(0n, user.anon(4), 4n * P);
    const events: string[] = [];
    let opening: Promise<unknown> | undefined;
    await container.listen({
      async dmaUnmap() {
        events.push('told');
        // somebody else's task: the callback itself may not do that
        opening ??= machine.host.lockdep.run('opener', async () => {
          await container.listen();
          events.push('opened');
        });
        for (let i = 0; i < 50; i++) await Promise.resolve();
        await backend.unpinPages(0n, 1);
        events.push('let go');
      },
    });
    await backend.pinPages(group, 0n, 1, RW);
    await user.unmap(0n, 4n * P);
    await opening;
    expect(events).toEqual(['told', 'let go', 'opened']);
  });

  it('CORE-180 counts the notifications of each mapping by itself', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    const { backend } = container;
    await container.listen({ dmaUnmap: (iova) => backend.unpinPages(iova, 1) });
    for (const page of [0n, 8n]) {
      await user.map(page * P, user.anon(1), P);
      for (let i = 0; i < 11; i++) await backend.pinPages(group, page * P, 1, RW);
    }
    expect(await user.unmap(0n, 16n * P)).toBe(2n * P);
  });

  it('CORE-180 stops without failure when somebody maps across an end meanwhile', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    const { backend } = container;
    await user.map(0n, user.anon(2), 2n * P);
    await user.map(4n * P, user.anon(1), P);
    await container.listen({
      async dmaUnmap() {
        await user.map(6n * P, user.anon(4), 4n * P);
        await backend.unpinPages(4n * P, 1);
      },
    });
    await backend.pinPages(group, 4n * P, 1, RW);
    // what went before the notification is reported, the rest stays
    expect(await user.unmap(0n, 8n * P)).toBe(2n * P);
    expect(await user.unmapAll()).toBe(5n * P);
  });

  it('CORE-180 (H39) calls a device that never lets go a bug, after 11 notifications', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    let calls = 0;
    await container.listen({ dmaUnmap: () => void calls++ });
    await container.backend.pinPages(group, P, 1, RW);
    await expect(user.unmap(0n, 4n * P)).rejects.toMatchObject({ name: 'KernelBug', kind: 'driver' });
    expect(calls).toBe(11);
    await container.backend.unpinPages(P, 1);
    expect(await user.unmap(0n, 4n * P)).toBe(4n * P);
  });
});
