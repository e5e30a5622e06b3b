// Hazards of type1 that no test of a single request has in full.

import type { Process } from '@vfio/host';
import fc from 'fast-check';
import { describe, expect, it } from 'vitest';
import { DmaMapFlag, DmaUnmapFlag } from '../../src/uapi/vfio.js';
import { type Container, error, Machine, P, range, U64_MAX, type User, vtd } from './harness.js';

const top = U64_MAX - P + 1n;

describe('the last page of the address space', () => {
  it.each(['hardware', 'emulated'] as const)(
    'H38 is mapped, unmapped by its range and with all others, and nothing crosses it (%s)',
    async (kind) => {
      await using machine = await Machine.create();
      const unit = machine.host.iommu.addUnit({ ...vtd, aperture: [0n, U64_MAX] });
      const group =
        kind === 'hardware' ? await machine.hardware('0000:00:02.0', { unit }) : await machine.emulated('mtty');
      const user = (await machine.container([group])).user();
      const memory = user.anon(4);
      const mapped = () => group.domain?.translate(top, 1) !== undefined;
      const hardware = kind === 'hardware';
      for (const remove of [
        () => user.unmap(top, P),
        () => user.unmap(top - P, 2n * P),
        () => user.unmap(P, top),
        () => user.unmapAll(),
      ]) {
        await user.map(top, memory, P);
        expect([mapped(), (await user.info()).avail]).toEqual([hardware, 65_534]);
        expect(await remove()).toBe(P);
        expect([mapped(), (await user.info()).avail, user.lockedVm]).toEqual([false, 65_535, 0]);
      }
      await expect(user.map(top, memory, 2n * P)).rejects.toEqual(error.EOVERFLOW);
      await expect(user.map(top - P, memory, 3n * P)).rejects.toEqual(error.EOVERFLOW);
      await user.map(top, memory, P);
      await expect(user.unmap(top, 2n * P)).rejects.toEqual(error.EOVERFLOW);
      expect(await user.unmapAll()).toBe(P);
    },
  );
});

describe('addresses that another process supplies', () => {
  const mappings = 3;
  const size = (mapping: number) => BigInt(mapping + 1) * P;
  const iova = (mapping: number) => BigInt(mapping * 16) * P;

  /** Processes with the container open, each with memory of its own. */
  function spawn(machine: Machine, container: Container): { user: User; memory: bigint; process: Process }[] {
    return range(0, 3).map((at) => {
      const process = machine.host.spawn({ comm: `user${at}`, uid: 1000 });
      const user = container.user(process);
      return { user, memory: user.anon(mappings), process };
    });
  }

  it('H41 take the charge along, and the last unmap credits who has it then', async () => {
    await using machine = await Machine.create();
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const [old, heir] = spawn(machine, container);
    await old!.user.map(0n, old!.memory, 3n * P);
    await old!.user.unmap(0n, 0n, DmaUnmapFlag.VADDR | DmaUnmapFlag.ALL);
    expect([old!.user.lockedVm, heir!.user.lockedVm]).toEqual([3, 0]);
    await heir!.user.map(0n, heir!.memory, 3n * P, DmaMapFlag.VADDR);
    expect([old!.user.lockedVm, heir!.user.lockedVm]).toEqual([0, 3]);
    // whoever asks for it
    expect(await old!.user.unmapAll()).toBe(3n * P);
    expect([old!.user.lockedVm, heir!.user.lockedVm]).toEqual([0, 0]);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('H41 any number of times, by whomever: the charges are those of a naive table, and never below 0', async () => {
    const handover = fc.record({ mapping: fc.nat(mappings - 1), to: fc.nat(2), unmap: fc.boolean() });
    await fc.assert(
      fc.asyncProperty(fc.array(handover, { maxLength: 12 }), async (steps) => {
        await using machine = await Machine.create();
        const container = await machine.container([await machine.hardware('0000:00:02.0')]);
        const users = spawn(machine, container);
        const owners = new Map<number, number>();
        for (const { mapping, to, unmap } of steps) {
          const { user, memory } = users[to]!;
          if (!owners.has(mapping)) {
            await user.map(iova(mapping), memory, size(mapping));
            owners.set(mapping, to);
          } else if (unmap) {
            expect(await user.unmap(iova(mapping), size(mapping))).toBe(size(mapping));
            owners.delete(mapping);
          } else {
            await user.unmap(iova(mapping), size(mapping), DmaUnmapFlag.VADDR);
            await user.map(iova(mapping), memory, size(mapping), DmaMapFlag.VADDR);
            owners.set(mapping, to);
          }
          const charge = (owner: number) =>
            [...owners].reduce((sum, [at, by]) => sum + (by === owner ? Number(size(at) / P) : 0), 0);
          expect(users.map(({ user: one }) => one.lockedVm)).toEqual(users.map((_, at) => charge(at)));
        }
        await users[0]!.user.unmapAll();
        expect(users.map(({ user }) => user.lockedVm)).toEqual([0, 0, 0]);
      }),
      { numRuns: 40 },
    );
  });
});
