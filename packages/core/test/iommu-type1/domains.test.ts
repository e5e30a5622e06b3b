import { type IommuGroup, type IommuUnit, PAGE_SIZE } from '@vfio/host';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DmaUnmapFlag, Extension } from '../../src/uapi/vfio.js';
import { error, Machine, P, RW, U64_MAX, vtd } from './harness.js';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine[Symbol.asyncDispose]());

/** A unit that cannot override no-snoop requests: its domains are not shared with those of the first unit. */
function lax(aperture: [bigint, bigint] = [0n, 2n ** 48n - 1n]): IommuUnit {
  return machine.host.iommu.addUnit({ ...vtd, aperture, enforceCoherency: false, reserved: [] });
}

function translates(group: IommuGroup, iova: bigint): boolean {
  return group.domain?.translate(iova, 1) !== undefined;
}

describe('groups in a container', () => {
  it('share a domain and all mappings when the hardware is alike', async () => {
    const first = await machine.hardware('0000:00:02.0');
    const second = await machine.hardware('0000:00:03.0');
    const container = await machine.container([first]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await container.attach(second);
    expect(second.domain).toBe(first.domain);
    expect(translates(second, 0n)).toBe(true);
    await user.map(16n * P, user.anon(1), P);
    expect(user.lockedVm).toBe(5);
    await container.detach(first);
    expect(translates(second, 16n * P)).toBe(true);
    expect(translates(first, 16n * P)).toBe(false);
    expect(user.lockedVm).toBe(5);
  });

  it('have domains of their own when coherency differs, with everything replayed and charged once', async () => {
    const first = await machine.hardware('0000:00:02.0');
    const second = await machine.hardware('0000:00:03.0', { unit: lax() });
    const container = await machine.container([first]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await container.attach(second);
    expect(second.domain).not.toBe(first.domain);
    expect(second.domain!.translate(3n * P, 1)!.phys).toBe(first.domain!.translate(3n * P, 1)!.phys);
    expect(user.lockedVm).toBe(4);
    await user.map(16n * P, user.anon(1), P);
    expect([translates(first, 16n * P), translates(second, 16n * P)]).toEqual([true, true]);
    expect(await user.unmap(0n, 4n * P)).toBe(4n * P);
    expect([translates(first, 0n), translates(second, 0n)]).toEqual([false, false]);
    await container.detach(first);
    expect(translates(second, 16n * P)).toBe(true);
    expect(user.lockedVm).toBe(1);
  });

  it('enter no domain that enforces less than they could', async () => {
    const strict = await machine.hardware('0000:00:02.0');
    const loose = await machine.hardware('0000:00:03.0', { unit: lax() });
    const container = await machine.container([loose, strict]);
    expect(strict.domain).not.toBe(loose.domain);
    expect(await container.backend.checkExtension(Extension.DMA_CC_IOMMU)).toBe(0);
    await container.detach(loose);
    expect(await container.backend.checkExtension(Extension.DMA_CC_IOMMU)).toBe(1);
  });

  it('pin once what an emulated device mapped before, however many domains follow', async () => {
    const container = await machine.container([await machine.emulated('mtty')]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await container.attach(await machine.hardware('0000:00:02.0'));
    const pins = machine.host.tracker.count('pin');
    await container.attach(await machine.hardware('0000:00:03.0', { unit: lax() }));
    expect(machine.host.tracker.count('pin')).toBe(pins);
    expect(user.lockedVm).toBe(4);
    // and all of it can be written to by hardware
    await user.startTracking();
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([0, 1, 2, 3]);
  });

  it('have pages of the CPU at least, whatever their hardware knows', async () => {
    const unit = machine.host.iommu.addUnit({ ...vtd, pageSizes: 0x20_0800n });
    const container = await machine.container([await machine.hardware('0000:00:02.0', { unit })]);
    const user = container.user();
    expect((await user.info()).iovaPgsizes).toBe(0x20_1000n);
    await expect(user.map(0x800n, user.anon(1), P)).rejects.toEqual(error.EINVAL);
    await user.map(0n, user.anon(1), P);
  });

  it('are attached once', async () => {
    const group = await machine.hardware('0000:00:02.0');
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([group, emulated]);
    await expect(container.backend.attachGroup(group, 'iommu')).rejects.toEqual(error.EINVAL);
    await expect(container.backend.attachGroup(emulated, 'emulated-iommu')).rejects.toEqual(error.EINVAL);
  });

  it('know their domain', async () => {
    const group = await machine.hardware('0000:00:02.0');
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([group, emulated]);
    expect(await container.backend.groupDomain(group)).toBe(group.domain);
    await expect(container.backend.groupDomain(emulated)).rejects.toEqual(error.ENODEV);
  });

  it('are ignored when they are detached and were not attached', async () => {
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const other = await machine.hardware('0000:00:03.0');
    await container.backend.detachGroup(other);
    expect((await container.user().info()).windows?.length).toBe(2);
  });
});

describe('interrupts', () => {
  const exposed = () => machine.host.iommu.addUnit({ ...vtd, msiIsolated: false });

  it('CORE-184 must be isolated', async () => {
    const group = await machine.hardware('0000:00:02.0', { unit: exposed() });
    const container = await machine.container([]);
    await expect(container.attach(group)).rejects.toEqual(error.EPERM);
    // and all is as before
    expect(machine.host.tracker.count('domain')).toBe(2);
    expect(group.domain?.paging).toBe(false);
    expect((await container.user().info()).windows).toBeUndefined();
  });

  it('CORE-184 may be exposed when the parameter says so, from then on', async () => {
    const group = await machine.hardware('0000:00:02.0', { unit: exposed() });
    const container = await machine.container([]);
    await machine.setParameter('allow_unsafe_interrupts', 'Y');
    await container.attach(group);
    await machine.setParameter('allow_unsafe_interrupts', 'N');
    const user = container.user();
    await user.map(0n, user.anon(1), P);
    await expect(
      container.attach(await machine.hardware('0000:00:03.0', { unit: group.domain!.unit })),
    ).rejects.toEqual(error.EPERM);
  });
});

describe('windows of a container', () => {
  it('CORE-183 are narrowed by a second aperture and widened when it goes', async () => {
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const user = container.user();
    const narrow = await machine.hardware('0000:00:03.0', { unit: lax([0x10_0000n, 2n ** 36n - 1n]) });
    await container.attach(narrow);
    expect((await user.info()).windows).toEqual([
      { start: 0x10_0000n, end: 0xfedf_ffffn },
      { start: 0xfef0_0000n, end: 2n ** 36n - 1n },
    ]);
    await expect(user.map(0n, user.anon(1), P)).rejects.toEqual(error.EINVAL);
    await expect(user.map(2n ** 36n, user.anon(1), P)).rejects.toEqual(error.EINVAL);
    await container.detach(narrow);
    expect((await user.info()).windows).toEqual([
      { start: 0n, end: 0xfedf_ffffn },
      { start: 0xfef0_0000n, end: 2n ** 48n - 1n },
    ]);
    await user.map(2n ** 36n, user.anon(1), P);
  });

  it('CORE-183 keep an aperture out that would cut off a mapping, or has nothing in common', async () => {
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const user = container.user();
    await user.map(2n ** 36n, user.anon(1), P);
    const below = await machine.hardware('0000:00:03.0', { unit: lax([0n, 2n ** 36n - 1n]) });
    const above = await machine.hardware('0000:00:04.0', { unit: lax([2n ** 36n + P, 2n ** 48n - 1n]) });
    const beyond = await machine.hardware('0000:00:05.0', { unit: lax([2n ** 48n, 2n ** 52n - 1n]) });
    for (const group of [below, above, beyond]) await expect(container.attach(group)).rejects.toEqual(error.EINVAL);
    expect((await user.info()).windows?.at(-1)?.end).toBe(2n ** 48n - 1n);
    await user.unmapAll();
    await container.attach(below);
  });

  it('CORE-183 keep a reserved region out that lies over a mapping, unless it is relaxable', async () => {
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const user = container.user();
    await user.map(0x80_0000n, user.anon(1), P);
    const region = { start: 0x7f_0000n, end: 0x80_0fffn };
    const strict = await machine.hardware('0000:00:03.0', { reserved: [{ ...region, type: 'direct' }] });
    const relaxed = await machine.hardware('0000:00:04.0', { reserved: [{ ...region, type: 'direct-relaxable' }] });
    await expect(container.attach(strict)).rejects.toEqual(error.EINVAL);
    await container.attach(relaxed);
    expect((await user.info()).windows?.length).toBe(2);
    await user.unmapAll();
    await container.attach(strict);
    expect((await user.info()).windows).toEqual([
      { start: 0n, end: 0x7e_ffffn },
      { start: 0x80_1000n, end: 0xfedf_ffffn },
      { start: 0xfef0_0000n, end: 2n ** 48n - 1n },
    ]);
    // its regions are free again when it goes, those that others have too are not
    await container.detach(strict);
    expect((await user.info()).windows?.length).toBe(2);
  });

  it('CORE-183 are never empty', async () => {
    const unit = machine.host.iommu.addUnit({
      ...vtd,
      aperture: [0xfee0_0000n, 0xfeef_ffffn],
    });
    const container = await machine.container([]);
    await expect(container.attach(await machine.hardware('0000:00:03.0', { unit }))).rejects.toEqual(error.EINVAL);
  });

  it('cover everything when the last hardware goes and an emulated group stays', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const container = await machine.container([await machine.emulated('mtty'), hardware]);
    const user = container.user();
    await container.detach(hardware);
    expect((await user.info()).windows).toEqual([{ start: 0n, end: U64_MAX }]);
    await user.map(2n ** 60n, 0n, P);
  });
});

describe('charge and pins', () => {
  it('CORE-185 are gone with the last group, as all mappings are', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const container = await machine.container([hardware]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await user.map(16n * P, user.anon(4), 4n * P);
    await container.detach(hardware);
    expect(user.lockedVm).toBe(0);
    expect(machine.host.tracker.count('pin')).toBe(0);
    expect(machine.host.tracker.count('mapping')).toBe(0);
    await container.attach(hardware);
    expect(await user.unmapAll()).toBe(0n);
    expect((await user.info()).avail).toBe(65535);
  });

  it('CORE-185 are gone with the last emulated group', async () => {
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    await container.user().map(0n, 0n, P);
    await container.detach(emulated);
    expect(machine.host.tracker.count('mapping')).toBe(0);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('CORE-185 warn when a device still listens then', async () => {
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    await container.listen();
    await container.detach(emulated);
    expect(machine.host.log.warnings().length).toBe(1);
  });

  it('CORE-185 are gone when the container is released with groups in it', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const container = await machine.container([hardware, await machine.emulated('mtty')]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await container.backend.release();
    expect(user.lockedVm).toBe(0);
    expect(machine.host.tracker.count('mapping')).toBe(0);
    expect(hardware.domain?.paging).toBe(false);
  });

  it('CORE-185 stay gone: a request that was on its way meanwhile finds no driver', async () => {
    const group = await machine.emulated('mtty');
    const container = await machine.container([group]);
    const user = container.user();
    const memory = user.anon(1);
    await user.map(0n, memory, P);
    // one after the other they take the lock, and the release is in front
    await container.detach(group);
    const gone = container.backend.release();
    const late = [
      user.map(P, memory, P),
      user.unmapAll(),
      user.startTracking(),
      user.info(),
      user.getBitmap(0n, P, { data: memory }),
    ];
    await gone;
    for (const outcome of await Promise.allSettled(late)) {
      expect(outcome).toEqual({ status: 'rejected', reason: error.EINVAL });
    }
    expect(machine.host.tracker.count('mapping')).toBe(0);
  });

  it('shrink to what emulated devices hold when the last hardware goes, and grow when some comes', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    const user = container.user();
    await container.listen();
    await user.map(0n, user.anon(8), 8n * P);
    await container.backend.pinPages(emulated, 2n * P, 3, RW);
    expect(user.lockedVm).toBe(3);
    await container.attach(hardware);
    expect(user.lockedVm).toBe(8);
    // with hardware a further pin is paid for already
    await container.backend.pinPages(emulated, 0n, 1, RW);
    expect(user.lockedVm).toBe(8);
    await container.backend.unpinPages(2n * P, 1);
    expect(user.lockedVm).toBe(8);
    await container.detach(hardware);
    expect(user.lockedVm).toBe(3);
    await container.backend.unpinPages(0n, 5);
    expect(user.lockedVm).toBe(0);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });

  it('stay as they were when a replay runs into the limit or into memory that is gone', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    const limit = { soft: 4n * P, hard: 4n * P };
    const user = container.user(machine.host.spawn({ comm: 'poor', uid: 1000, limits: { memlock: limit } }));
    const first = user.anon(4);
    const second = user.anon(4);
    await user.map(0n, first, 4n * P);
    await user.map(16n * P, second, 4n * P);
    await expect(container.attach(hardware)).rejects.toEqual(error.ENOMEM);
    expect(user.lockedVm).toBe(0);
    await user.unmap(16n * P, 4n * P);
    user.process.mm.munmap(first + 3n * P, PAGE_SIZE);
    await expect(container.attach(hardware)).rejects.toEqual(error.EFAULT);
    expect(user.lockedVm).toBe(0);
    expect(machine.host.tracker.count('pin')).toBe(0);
    expect(hardware.domain?.paging).toBe(false);
    expect((await user.info()).windows).toBeUndefined();
    await user.unmapAll();
    await container.attach(hardware);
    await user.map(0n, second, 4n * P);
    expect(user.lockedVm).toBe(4);
  });

  it('cannot follow an owner that is gone', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const container = await machine.container([await machine.emulated('mtty')]);
    const user = container.user();
    await user.map(0n, user.anon(1), P);
    await user.process.exit();
    await expect(container.attach(hardware)).rejects.toEqual(error.ENODEV);
  });

  it('move on with an address that was exchanged', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const container = await machine.container([hardware]);
    const user = container.user();
    await user.map(0n, user.anon(1), P);
    await user.unmap(0n, P, DmaUnmapFlag.VADDR);
    await container.detach(hardware);
    await container.attach(hardware);
    expect(await user.unmapAll()).toBe(0n);
  });
});
