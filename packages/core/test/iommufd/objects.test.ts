import { describe, expect, it } from 'vitest';
import { accessAttach, accessCreate, accessDestroy, accessDetach, accessReplace } from '../../src/iommufd/access.js';
import { accessPinPages, accessRw, accessUnpinPages } from '../../src/iommufd/access-pages.js';
import { deviceAttach, deviceDetach, deviceReplace } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { iommuIoasChangeProcess } from '../../src/uapi/iommufd.js';
import { IommufdRequest, Request } from '../../src/uapi/vfio.js';
import { fails, IommuHwptAllocFlag, Machine, P } from './harness.js';

describe('objects in use', () => {
  it('are destroyed after the calls that use them', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const { objects } = user.context;
    objects.lock(bound);
    let gone = false;
    const unbound = deviceUnbind(bound).then(() => {
      gone = true;
    });
    await machine.clock.advance(1000);
    expect(gone).toBe(false);
    objects.put(bound);
    await unbound;
    expect(bound.device.iommuGroup?.dmaOwnerClaimed()).toBe(false);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('stay when a call takes longer than a minute, which is a bug of the caller', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const { objects } = user.context;
    objects.lock(bound);
    const unbound = deviceUnbind(bound);
    await machine.clock.advance(60_000);
    await unbound;
    expect(machine.host.log.entries.some(({ level, text }) => level === 'crit' && text.includes('Time out'))).toBe(
      true,
    );
    expect(machine.host.log.warnings()).toHaveLength(1);
    await fails(user.destroy(bound.id), 'EBUSY');
    objects.put(bound);
    await user.destroy(bound.id);
  });

  it('are found to be in use when a device is unbound while attached', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    await deviceAttach(bound, ioas);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toHaveLength(1);
    await deviceDetach(bound);
    await user.destroy(bound.id);
    await user.destroy(ioas);
  });
});

describe('calls at the same time', () => {
  it('wait for one another, and agree in the end', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const bound = await deviceBind(user.context, await machine.device());
    const access = await accessCreate(user.context, { needsPinPages: true, unmap: () => {} });
    await accessAttach(access, ioas);
    const m = user.anon(64);
    const results = await Promise.allSettled([
      ...Array.from({ length: 16 }, (_, index) => user.map(ioas, m + BigInt(index) * P, P)),
      deviceAttach(bound, ioas),
      ...Array.from({ length: 16 }, (_, index) => user.map(ioas, m + BigInt(index) * P, 2n * P)),
      user.unmap(ioas),
      user.ranges(ioas),
      user.copy(ioas, ioas, P, P),
    ]);
    for (const result of results) {
      if (result.status === 'rejected')
        expect(result.reason).toMatchObject({ code: expect.stringMatching(/ENOENT|EBUSY/) });
    }
    const left = [...access.ioas!.iopt.areas];
    expect(left.every(({ pages, filled }) => pages !== undefined && filled)).toBe(true);
    expect(user.process.mm.pinnedVm).toBeGreaterThanOrEqual(0);
    await user.unmap(ioas);
    expect(user.process.mm.pinnedVm).toBe(0);
    await deviceDetach(bound);
    await deviceUnbind(bound);
    await accessDestroy(access);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('a mapping that is going away is busy for others', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    let letGo: (() => void) | undefined;
    const asked = new Promise<void>((resolve) => {
      letGo = resolve;
    });
    const access = await accessCreate(user.context, {
      needsPinPages: true,
      unmap: async () => {
        await asked;
        await accessUnpinPages(access, 0x10000n, P).catch(() => {});
      },
    });
    await accessAttach(access, ioas);
    await user.map(ioas, user.anon(2), 2n * P, 0x10000n);
    await accessPinPages(access, 0x10000n, P, false);
    const unmap = user.unmap(ioas);
    await new Promise((resolve) => setImmediate(resolve));
    // the range stays taken
    await fails(user.map(ioas, user.anon(1), P, 0x10000n), 'EEXIST');
    await fails(accessPinPages(access, 0x11000n, P, false), 'EINVAL');
    letGo?.();
    expect(await unmap).toBe(2n * P);
    await user.map(ioas, user.anon(1), P, 0x10000n);
    await accessDetach(access);
    await accessDestroy(access);
  });
});

describe('locks', () => {
  it('are taken in one order by all calls of VFIO and of users', async () => {
    await using machine = await Machine.start({ pasids: 4 });
    const user = await machine.user();
    const { lockdep } = machine.host;
    const device = await machine.device();
    await lockdep.run('a driver', async () => {
      const bound = await deviceBind(user.context, device);
      const [a, b] = [await user.ioas(), await user.ioas()];
      const held: [bigint, bigint][] = [];
      const access = await accessCreate(user.context, {
        needsPinPages: true,
        unmap: async () => {
          for (const range of held.splice(0)) await accessUnpinPages(access, ...range);
        },
      });
      await user.map(a, user.anon(4), 4n * P, 0x10000n);
      await user.map(b, user.anon(4), 4n * P, 0x10000n);
      await accessAttach(access, a);
      const pin = async () => {
        await accessPinPages(access, 0x10000n, 2n * P, true);
        held.push([0x10000n, 2n * P]);
      };
      await pin();
      await deviceAttach(bound, a);
      await user.copy(b, a, 0x10000n, 4n * P);
      await deviceReplace(bound, b);
      await accessReplace(access, b);
      await pin();
      await accessRw(access, 0x10000n, new Uint8Array(16), true);
      const hwpt = await user.hwpt(bound.id, b, IommuHwptAllocFlag.PASID);
      await deviceReplace(bound, hwpt);
      await deviceAttach(bound, hwpt, 1);
      await user.unmap(b);
      await deviceDetach(bound, 1);
      await deviceDetach(bound);
      await user.destroy(hwpt);
      await user.vfioIoas(1, a);
      await user.process.ioctl(user.fd, Request.SET_IOMMU, 1);
      await user.ranges(a);
      await user.request(IommufdRequest.IOAS_CHANGE_PROCESS, iommuIoasChangeProcess, { size: 8 }).catch(() => {});
      await accessDetach(access);
      await accessDestroy(access);
      await deviceUnbind(bound);
    });
    expect(machine.host.log.warnings()).toEqual([]);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });
});
