import { isSystemError, O } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { accessAttach, accessCreate, accessDestroy, accessDetach, accessReplace } from '../../src/iommufd/access.js';
import type { IommufdAccess } from '../../src/iommufd/access-object.js';
import { accessPinPages, accessUnpinPages } from '../../src/iommufd/access-pages.js';
import { deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind, type IommufdDevice } from '../../src/iommufd/device.js';
import { vfioCompatIoasCreate } from '../../src/iommufd/vfio-ioas.js';
import { iommuType1DmaUnmap, Request } from '../../src/uapi/vfio.js';
import { IommuHwptAllocFlag, Machine, P, type User } from './harness.js';

const kinds = ['reference', 'mapping', 'pin', 'domain', 'group', 'file', 'memory'] as const;

/** Two address spaces with mappings, one of them with a device and an access. */
interface Scene {
  readonly machine: Machine;
  readonly user: User;
  readonly bound: IommufdDevice;
  readonly access: IommufdAccess;
  readonly a: number;
  readonly b: number;
  readonly memory: bigint;
}

async function scene(machine: Machine): Promise<Scene> {
  const user = await machine.user({ memlock: 2n ** 64n - 1n, uid: 1000 });
  const bound = await deviceBind(user.context, await machine.device('bound'));
  const [a, b] = [await user.ioas(), await user.ioas()];
  const memory = user.anon(16);
  await user.map(a, memory, 4n * P, 0x10000n);
  await user.map(a, memory + 8n * P, 4n * P, 0x14000n);
  await user.map(b, memory, 4n * P, 0x10000n);
  const access = await accessCreate(user.context, { needsPinPages: true, unmap: () => {} });
  return { machine, user, bound, access, a, b, memory };
}

/** Everything that an operation which fails must leave alone. */
async function snapshot({ machine, user, bound, access, a, b }: Scene) {
  const { tracker } = machine.host;
  return {
    counts: kinds.map((kind) => [kind, tracker.count(kind)]),
    pinned: user.process.mm.pinnedVm,
    locked: machine.iommufd.lockedByUser.of(1000),
    ids: user.context.objects.ids.used,
    users: user.context.objects.list().map(({ kind, users }) => [kind, users.value]),
    domain: [bound.igroup.group.domain?.kind, bound.igroup.group.domain?.mappings],
    ranges: [await user.ranges(a), await user.ranges(b)].map(({ list, alignment }) => [list, alignment]),
    access: access.ioas?.id,
    groups: user.context.groups.size,
    compat: user.context.vfioIoas?.id,
  };
}

/** Makes each step of an operation fail once, and looks whether all is as before and works after. */
async function everyStepFails(on: Scene, run: () => Promise<unknown>, undo: () => Promise<unknown>): Promise<string[]> {
  const { faults } = on.machine.host;
  const bare = async () => {
    const state = await snapshot(on);
    // looking at it takes a page of the process
    return { ...state, counts: state.counts.filter(([kind]) => kind !== 'memory') };
  };
  const before = await bare();
  const recording = faults.record();
  await run();
  recording.stop();
  await undo();
  expect(await bare()).toEqual(before);
  const names: string[] = [];
  for (const [index, step] of recording.steps.entries()) {
    const arm = faults.failAt(index);
    const failure = await run().then(
      () => undefined,
      (error: unknown) => error,
    );
    arm.disarm();
    expect(arm.fired, step.name).toBe(true);
    expect(isSystemError(failure, step.code), `${step.name} fails with its errno, not ${String(failure)}`).toBe(true);
    expect(await bare(), step.name).toEqual(before);
    names.push(step.name);
  }
  await run();
  await undo();
  expect(on.machine.host.log.warnings()).toEqual([]);
  return [...new Set(names)];
}

type Operation = (
  on: Scene,
) => Promise<{ run: () => Promise<unknown>; undo: () => Promise<unknown>; end?: () => Promise<unknown> }>;

const operations: Record<string, Operation> = {
  'an open': async ({ machine }) => {
    const process = machine.host.spawn({ comm: 'opener' });
    let fd = -1;
    return {
      run: async () => {
        fd = await process.open('/dev/iommu', O.RDWR);
      },
      undo: () => process.close(fd),
      end: () => process.exit(0),
    };
  },
  IOAS_ALLOC: async ({ user }) => {
    let id = 0;
    return {
      run: async () => {
        id = await user.ioas();
      },
      undo: () => user.destroy(id),
    };
  },
  'IOAS_MAP with hardware': async ({ user, bound, a, memory }) => {
    await deviceAttach(bound, a);
    return {
      run: () => user.map(a, memory, 8n * P, 0x40000n),
      undo: () => user.unmap(a, 0x40000n, 8n * P),
      end: () => deviceDetach(bound),
    };
  },
  'IOAS_MAP for two kinds of hardware': async ({ user, bound, a, memory }) => {
    await deviceAttach(bound, a);
    const other = await user.hwpt(bound.id, a, IommuHwptAllocFlag.DIRTY_TRACKING);
    return {
      run: () => user.map(a, memory, 4n * P),
      undo: () => user.unmap(a, 4n * P, 4n * P).catch(() => user.unmap(a, P, 4n * P)),
      end: async () => {
        await deviceDetach(bound);
        await user.destroy(other);
      },
    };
  },
  'IOAS_COPY of several mappings': async ({ user, bound, a, b }) => {
    await deviceAttach(bound, b);
    return {
      run: () => user.copy(b, a, 0x12000n, 4n * P, 0x40000n),
      undo: () => user.unmap(b, 0x40000n, 4n * P),
      end: () => deviceDetach(bound),
    };
  },
  ALLOW_IOVAS: async ({ user, a, memory }) => {
    const ranges = [
      [0x100000n, 0x1fffffn],
      [0x300000n, 0x3fffffn],
    ] as const;
    const place = async () => {
      const iova = await user.map(a, memory, P);
      await user.unmap(a, iova, P);
      return iova;
    };
    expect(await place()).toBe(P);
    return { run: () => user.allow(a, ranges), undo: () => user.allow(a, []) };
  },
  HWPT_ALLOC: async ({ user, bound, a }) => {
    let id = 0;
    return {
      run: async () => {
        id = await user.hwpt(bound.id, a);
      },
      undo: () => user.destroy(id),
    };
  },
  'attaching a device': async ({ bound, a }) => ({
    run: () => deviceAttach(bound, a),
    undo: () => deviceDetach(bound),
  }),
  'attaching a PASID': async ({ user, bound, a }) => {
    const id = await user.hwpt(bound.id, a, IommuHwptAllocFlag.PASID);
    return { run: () => deviceAttach(bound, id, 3), undo: () => deviceDetach(bound, 3), end: () => user.destroy(id) };
  },
  'moving a device': async ({ bound, a, b }) => {
    await deviceAttach(bound, a);
    return { run: () => deviceReplace(bound, b), undo: () => deviceReplace(bound, a), end: () => deviceDetach(bound) };
  },
  'binding a device': async ({ machine, user }) => {
    const device = await machine.device('second');
    // the group makes its blocking domain once and keeps it
    let bound: IommufdDevice | undefined = await deviceBind(user.context, device);
    await deviceUnbind(bound);
    return {
      run: async () => {
        bound = await deviceBind(user.context, device);
      },
      undo: async () => {
        if (bound) await deviceUnbind(bound);
      },
    };
  },
  'making an access': async ({ user }) => {
    let access: IommufdAccess | undefined;
    return {
      run: async () => {
        access = await accessCreate(user.context, { needsPinPages: true });
      },
      undo: async () => {
        if (access) await accessDestroy(access);
      },
    };
  },
  'attaching an access': async ({ access, a }) => ({
    run: () => accessAttach(access, a),
    undo: () => accessDetach(access),
  }),
  'moving an access': async ({ access, a, b }) => {
    await accessAttach(access, a);
    return {
      run: () => accessReplace(access, b),
      undo: () => accessReplace(access, a),
      end: () => accessDetach(access),
    };
  },
  'pinning pages': async ({ access, a }) => {
    await accessAttach(access, a);
    await accessPinPages(access, 0x13000n, P, true);
    return {
      run: () => accessPinPages(access, 0x12000n, 4n * P, true),
      undo: () => accessUnpinPages(access, 0x12000n, 4n * P),
      end: async () => {
        await accessUnpinPages(access, 0x13000n, P);
        await accessDetach(access);
      },
    };
  },
  'making the IOAS of VFIO': async ({ user }) => ({
    run: () => vfioCompatIoasCreate(user.context),
    undo: () => user.destroy(user.context.vfioIoas?.id ?? 0),
  }),
};

describe('a step that fails', () => {
  for (const [name, operation] of Object.entries(operations)) {
    it(`CORE-213 leaves all as it was: ${name}`, async () => {
      await using machine = await Machine.start({ pasids: 8 });
      const on = await scene(machine);
      const { run, undo, end } = await operation(on);
      expect((await everyStepFails(on, run, undo)).length).toBeGreaterThan(0);
      await end?.();
      await accessDestroy(on.access);
      await deviceUnbind(on.bound);
      for (const ioas of [on.a, on.b]) await on.user.destroy(ioas);
      expect(on.user.process.mm.pinnedVm).toBe(0);
    });
  }

  it('CORE-213 leaves a mapping whole that could not be cut', async () => {
    await using machine = await Machine.start();
    const on = await scene(machine);
    const { user, a, memory } = on;
    await user.vfioIoas(1, a);
    await user.process.ioctl(user.fd, Request.SET_IOMMU, 1);
    await user.unmap(a);
    const cut = async () => {
      const args = iommuType1DmaUnmap.encode({ argsz: 24, iova: 0x11000n, size: P }, 'little');
      await user.process.ioctl(user.fd, Request.IOMMU_UNMAP_DMA, args);
    };
    for (const step of [1, 2]) {
      await user.map(a, memory, 4n * P, 0x10000n);
      const arm = machine.host.faults.failOn('iopt_area_split:area', step);
      await expect(cut()).rejects.toMatchObject({ code: 'ENOMEM' });
      arm.disarm();
      expect(await user.unmap(a, 0x10000n, 4n * P)).toBe(4n * P);
    }
    await user.map(a, memory, 4n * P, 0x10000n);
    await cut();
    expect(await user.unmap(a)).toBe(3n * P);
    await accessDestroy(on.access);
    await deviceUnbind(on.bound);
  });
});
