import { describe, expect, it } from 'vitest';
import { accessAttach, accessCreate, accessDestroy, accessDetach } from '../../src/iommufd/access.js';
import { accessPinPages, accessUnpinPages } from '../../src/iommufd/access-pages.js';
import { deviceAttach } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { fails, Machine, P } from './harness.js';

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
    const { deviceDetach } = await import('../../src/iommufd/attach.js');
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
    const { deviceDetach } = await import('../../src/iommufd/attach.js');
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
