import { isSystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { type Container, Machine, P, RW, type User, vtd } from './harness.js';

/** Everything that an operation which fails must leave alone. */
async function snapshot(machine: Machine, container: Container, user: User) {
  const { tracker, iommu } = machine.host;
  const info = await user.info();
  return {
    lockedVm: user.lockedVm,
    pins: tracker.count('pin'),
    mappings: tracker.count('mapping'),
    domains: tracker.count('domain'),
    entries: [...iommu.groups.values()].map((group) => [group.domain?.kind, group.domain?.mappings]),
    avail: info.avail,
    windows: info.windows,
    pgsizes: info.iovaPgsizes,
    coherent: await container.backend.checkExtension(4),
    exchange: await container.backend.checkExtension(10),
  };
}

interface Scene {
  readonly machine: Machine;
  readonly container: Container;
  readonly user: User;
  /** What is to fail, once at each of its steps. */
  readonly run: () => Promise<unknown>;
  /** Takes it back when it has worked. */
  readonly undo: () => Promise<unknown>;
}

/** Makes each step of an operation fail once, and looks whether all is as before and works after. */
async function everyStepFails({ machine, container, user, run, undo }: Scene): Promise<string[]> {
  const { faults } = machine.host;
  const names: string[] = [];
  await run();
  await undo();
  const before = await snapshot(machine, container, user);
  const recording = faults.record();
  await run();
  recording.stop();
  await undo();
  expect(await snapshot(machine, container, user)).toEqual(before);
  for (const [index, step] of recording.steps.entries()) {
    const arm = faults.failAt(index);
    const failure = await run().then(
      () => undefined,
      (error: unknown) => error,
    );
    expect(arm.fired).toBe(true);
    expect(isSystemError(failure, step.code), `${step.name} fails with its errno, not ${String(failure)}`).toBe(true);
    expect(await snapshot(machine, container, user), step.name).toEqual(before);
    names.push(step.name);
  }
  await run();
  await undo();
  expect(await snapshot(machine, container, user)).toEqual(before);
  return [...new Set(names)];
}

/** Memory of several pieces, so that there is more than one run to pin. */
function scattered(user: User, pieces: number): bigint {
  const at = user.anon(2 * pieces);
  for (let i = 0; i < pieces; i++) {
    user.process.mm.mmap({ addr: at + BigInt(2 * i) * P, length: 2 * Number(P), prot: 3, fixed: true });
    user.anon(1);
  }
  return at;
}

describe('every step fails once', () => {
  it('CORE-162 of mapping memory for two domains, with dirty tracking', async () => {
    await using machine = await Machine.create();
    const unit = machine.host.iommu.addUnit({ ...vtd, enforceCoherency: false });
    const container = await machine.container([
      await machine.hardware('0000:00:02.0'),
      await machine.hardware('0000:00:03.0', { unit }),
    ]);
    const user = container.user();
    const memory = scattered(user, 3);
    await user.startTracking();
    const steps = await everyStepFails({
      machine,
      container,
      user,
      run: () => user.map(0n, memory, 6n * P),
      undo: () => user.unmapAll(),
    });
    expect(steps).toEqual(
      expect.arrayContaining([
        'vfio_dma_do_map:dma',
        'pin_user_pages:frames',
        'vfio_pin_pages_remote:locked-vm',
        'iommu_map:page-table',
        'vfio_dma_bitmap_alloc:bitmap',
      ]),
    );
  });

  it('CORE-162 of mapping page by page', async () => {
    await using machine = await Machine.create({ parameters: { disable_hugepages: '1' } });
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const user = container.user();
    const memory = user.anon(4);
    const run = () => user.map(0n, memory, 4n * P);
    await everyStepFails({ machine, container, user, run, undo: () => user.unmapAll() });
  });

  it('CORE-185 of attaching hardware to a container with mappings and pins', async () => {
    await using machine = await Machine.create();
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    const user = container.user();
    await container.listen();
    await user.map(0n, scattered(user, 3), 6n * P);
    await user.map(16n * P, scattered(user, 2), 4n * P);
    await container.backend.pinPages(emulated, P, 2, RW);
    const group = await machine.hardware('0000:00:02.0');
    // the windows stay after the first hardware was there once
    const steps = await everyStepFails({
      machine,
      container,
      user,
      run: () => container.attach(group),
      undo: () => container.detach(group),
    });
    expect(steps).toEqual(
      expect.arrayContaining([
        'vfio_iommu_type1_attach_group:group',
        'vfio_iommu_type1_attach_group:domain',
        'iommu_domain_alloc:domain',
        'vfio_iommu_iova_insert:window',
        'pin_user_pages:frames',
        'iommu_map:page-table',
      ]),
    );
    await container.backend.unpinPages(P, 2);
  });

  it('CORE-185 of attaching a group that shares a domain, and one that does not', async () => {
    await using machine = await Machine.create();
    const unit = machine.host.iommu.addUnit({ ...vtd, aperture: [0n, 2n ** 40n - 1n], enforceCoherency: false });
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const user = container.user();
    await user.map(0n, scattered(user, 3), 6n * P);
    const other = await machine.hardware('0000:00:03.0', { unit });
    await everyStepFails({
      machine,
      container,
      user,
      run: () => container.attach(other),
      undo: () => container.detach(other),
    });
    const alike = await machine.hardware('0000:00:04.0');
    const before = await snapshot(machine, container, user);
    const recording = machine.host.faults.record();
    await container.attach(alike);
    recording.stop();
    await container.detach(alike);
    for (const index of recording.steps.keys()) {
      machine.host.faults.failAt(index);
      // a shared domain that cannot be entered is no failure: the group gets one of its own then
      if (
        await container.attach(alike).then(
          () => true,
          () => false,
        )
      ) {
        await container.detach(alike);
      }
      expect(await snapshot(machine, container, user)).toEqual(before);
    }
  });

  it('CORE-177 of pinning pages, some of which are held already', async () => {
    await using machine = await Machine.create();
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    const user = container.user();
    await container.listen();
    await user.map(0n, user.anon(8), 8n * P);
    await container.backend.pinPages(emulated, 2n * P, 1, RW);
    const steps = await everyStepFails({
      machine,
      container,
      user,
      run: () => container.backend.pinPages(emulated, 0n, 4, RW),
      undo: () => container.backend.unpinPages(0n, 4),
    });
    expect(steps.sort()).toEqual([
      'pin_user_pages:frames',
      'vfio_add_to_pfn_list:memory',
      'vfio_pin_page_external:locked-vm',
    ]);
    await container.backend.unpinPages(2n * P, 1);
    expect(user.lockedVm).toBe(0);
  });

  it('CORE-171 of turning dirty tracking on', async () => {
    await using machine = await Machine.create();
    const container = await machine.container([await machine.emulated('mtty')]);
    const user = container.user();
    for (let i = 0n; i < 4n; i++) await user.map(2n * i * P, 0n, P);
    await everyStepFails({ machine, container, user, run: () => user.dirty(1), undo: () => user.dirty(2) });
    // all or nothing: no mapping kept a bitmap, tracking is off
    machine.host.faults.failAt(2);
    await expect(user.dirty(1)).rejects.toMatchObject({ code: 'ENOMEM' });
    await expect(user.dirtyPages(0n, P)).rejects.toMatchObject({ code: 'EINVAL' });
  });

  it('CORE-183 of finding the windows after a group went: they stay as they are', async () => {
    await using machine = await Machine.create();
    const reserved = [{ start: 0x80_0000n, end: 0x80_ffffn, type: 'reserved' as const }];
    const special = await machine.hardware('0000:00:03.0', { reserved });
    const container = await machine.container([await machine.hardware('0000:00:02.0'), special]);
    const user = container.user();
    const narrow = (await user.info()).windows;
    expect(narrow?.length).toBe(3);
    machine.host.faults.failOn('vfio_iommu_iova_insert:window');
    await container.detach(special);
    expect((await user.info()).windows).toEqual(narrow);
    await container.attach(special);
    await container.detach(special);
    expect((await user.info()).windows?.length).toBe(2);
  });

  it('CORE-182 of telling about the container', async () => {
    await using machine = await Machine.create();
    const user = (await machine.container([await machine.hardware('0000:00:02.0')])).user();
    const recording = machine.host.faults.record();
    await user.info();
    recording.stop();
    expect(recording.steps.length).toBe(4);
    for (const index of recording.steps.keys()) {
      machine.host.faults.failAt(index);
      await expect(user.info()).rejects.toMatchObject({ code: 'ENOMEM' });
    }
  });

  it('CORE-169 of handing a mapping to another process', async () => {
    await using machine = await Machine.create();
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await user.unmap(0n, 4n * P, 4);
    const heir = container.user();
    machine.host.faults.failOn('vfio_change_dma_owner:locked-vm');
    await expect(heir.map(0n, heir.anon(4), 4n * P, 4)).rejects.toMatchObject({ code: 'ENOMEM' });
    expect([user.lockedVm, heir.lockedVm]).toEqual([4, 0]);
    await heir.map(0n, heir.anon(4), 4n * P, 4);
    expect([user.lockedVm, heir.lockedVm]).toEqual([0, 4]);
  });
});
