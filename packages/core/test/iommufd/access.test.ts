import { type AddressSpace, isSystemError } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { accessAttach, accessCreate, accessDestroy, accessDetach, accessReplace } from '../../src/iommufd/access.js';
import type { IommufdAccess } from '../../src/iommufd/access-object.js';
import { accessPinPages, accessRw, accessUnpinPages } from '../../src/iommufd/access-pages.js';
import { fails, Machine, P, R, RW, U64_MAX, type User, W } from './harness.js';

type Range = readonly [iova: bigint, length: bigint];

/** An access that writes down what it is asked, and lets go of what it is told to. */
class Emulated {
  access!: IommufdAccess;
  readonly asked: Range[] = [];
  /** What is given back when something is asked; none: the device does not react. */
  held: Range[] = [];

  static async make(user: User, needsPinPages = true): Promise<Emulated> {
    const device = new Emulated();
    device.access = await accessCreate(user.context, {
      needsPinPages,
      unmap: async (iova, length) => {
        device.asked.push([iova, length]);
        for (const range of device.held.splice(0)) await device.unpin(...range);
      },
    });
    return device;
  }

  async pin(iova: bigint, length: bigint, write = false) {
    return await accessPinPages(this.access, iova, length, write);
  }

  async unpin(iova: bigint, length: bigint): Promise<void> {
    await accessUnpinPages(this.access, iova, length);
  }

  async rw(iova: bigint, bytes: Uint8Array, write: boolean, caller?: AddressSpace): Promise<void> {
    await accessRw(this.access, iova, bytes, write, caller);
  }
}

const text = (bytes: Uint8Array, length = 5) => new TextDecoder().decode(bytes.subarray(0, length));
const bytesOf = (value: string) => new TextEncoder().encode(value);

describe('an access', () => {
  it('CORE-071 attaches to an IOAS only, whose alignment becomes a page', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const device = await Emulated.make(user);
    await fails(accessAttach(device.access, 99), 'ENOENT');
    await fails(accessAttach(device.access, device.access.id), 'ENOENT');
    await fails(accessReplace(device.access, ioas), 'ENOENT');
    await user.map(ioas, user.anon(1), 1n, 0x10000n);
    await fails(accessAttach(device.access, ioas), 'EADDRINUSE');
    await user.unmap(ioas);
    await accessAttach(device.access, ioas);
    expect((await user.ranges(ioas)).alignment).toBe(P);
    await fails(user.map(ioas, user.anon(1), 1n, 0x10000n), 'EINVAL');
    await fails(user.map(ioas, user.anon(1) + 1n, P, 0x10000n), 'EINVAL');
    await fails(user.destroy(ioas), 'EBUSY');
    await accessDetach(device.access);
    expect((await user.ranges(ioas)).alignment).toBe(1n);
    await accessDestroy(device.access);
    await user.destroy(ioas);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('is asked to let go of everything when it moves, leaves and ends', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const [a, b] = [await user.ioas(), await user.ioas()];
    for (const ioas of [a, b]) await user.map(ioas, user.anon(4), 4n * P, 0x10000n);
    const device = await Emulated.make(user);
    await accessAttach(device.access, a);
    await accessReplace(device.access, a);
    expect(device.asked).toEqual([]);
    device.held = [[0x10000n, P]];
    await device.pin(0x10000n, P);
    await accessReplace(device.access, b);
    expect(device.asked.splice(0)).toEqual([[0n, U64_MAX]]);
    expect(machine.host.tracker.count('pin')).toBe(0);
    await user.destroy(a);
    await accessDetach(device.access);
    expect(device.asked.splice(0)).toEqual([[0n, U64_MAX]]);
    await fails(device.pin(0x10000n, P), 'ENOENT');
    await accessAttach(device.access, b);
    device.held = [[0x11000n, P]];
    await device.pin(0x11000n, P);
    await accessDestroy(device.access);
    expect(device.asked).toEqual([[0n, U64_MAX]]);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('keeps its IOAS when the new one does not take it', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const [a, b] = [await user.ioas(), await user.ioas()];
    await user.map(b, user.anon(1), 16n, 0x10000n);
    await user.map(a, user.anon(1), P, 0x10000n);
    const device = await Emulated.make(user);
    await accessAttach(device.access, a);
    await fails(accessReplace(device.access, b), 'EADDRINUSE');
    await fails(accessReplace(device.access, 99), 'ENOENT');
    expect(device.asked).toEqual([]);
    expect(await device.pin(0x10000n, P)).toHaveLength(1);
    await device.unpin(0x10000n, P);
    await accessDestroy(device.access);
  });

  it('holds its context, which ends with it', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    await user.map(ioas, user.anon(1), P, 0x10000n);
    const device = await Emulated.make(user);
    await accessAttach(device.access, ioas);
    await user.process.close(user.fd);
    expect(await device.pin(0x10000n, P)).toHaveLength(1);
    await device.unpin(0x10000n, P);
    await accessDestroy(device.access);
    expect(machine.host.tracker.count('file')).toBe(0);
  });
});

describe('an access whose owner throws when it is to let go', () => {
  /** An access in one IOAS of two, that can not be told to let go without an error. */
  async function broken(machine: Machine) {
    const user = await machine.user();
    const [a, b] = [await user.ioas(), await user.ioas()];
    const access = await accessCreate(user.context, {
      needsPinPages: true,
      unmap: () => {
        throw new TypeError('a bug of the owner');
      },
    });
    await accessAttach(access, a);
    return { user, a, b, access };
  }

  it('moves and leaves all the same', async () => {
    await using machine = await Machine.start();
    const { user, a, b, access } = await broken(machine);
    await expect(accessReplace(access, b)).rejects.toThrow('a bug of the owner');
    await user.destroy(a);
    await fails(user.destroy(b), 'EBUSY');
    const m = user.anon(1);
    await user.map(b, m, P, 0x10000n);
    expect(await accessPinPages(access, 0x10000n, P, false)).toHaveLength(1);
    await accessUnpinPages(access, 0x10000n, P);
    await expect(accessDetach(access)).rejects.toThrow('a bug of the owner');
    expect((await user.ranges(b)).alignment).toBe(1n);
    await accessAttach(access, b);
    await expect(accessDetach(access)).rejects.toThrow('a bug of the owner');
    await user.destroy(b);
    await accessDestroy(access);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('ends all the same, and its context with it', async () => {
    await using machine = await Machine.start();
    const { user, a, b, access } = await broken(machine);
    await expect(accessDestroy(access)).rejects.toThrow('a bug of the owner');
    for (const ioas of [a, b]) await user.destroy(ioas);
    await user.process.close(user.fd);
    expect(machine.host.tracker.count('file')).toBe(0);
    expect(machine.host.log.warnings()).toEqual([]);
  });
});

describe('pinned pages', () => {
  it('are the memory of the process, as long as they are held', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const m = user.anon(4);
    user.process.mm.copyTo(m + P, bytesOf('hello'));
    await user.map(ioas, m, 4n * P, 0x10000n);
    const device = await Emulated.make(user);
    await accessAttach(device.access, ioas);
    const pages = await device.pin(0x11000n, 2n * P, true);
    expect(pages.map(({ iova }) => iova)).toEqual([0x11000n, 0x12000n]);
    expect(text(pages[0]!.bytes)).toBe('hello');
    pages[1]!.bytes.set(bytesOf('world'));
    expect(text(user.process.mm.copyFrom(m + 2n * P, 5))).toBe('world');
    expect(user.process.mm.pinnedVm).toBe(2);
    user.process.mm.munmap(m, 4n * P);
    expect(text(pages[1]!.bytes)).toBe('world');
    // held twice, given back twice
    await device.pin(0x11000n, 2n * P);
    await device.unpin(0x11000n, 2n * P);
    expect(machine.host.tracker.count('pin')).toBeGreaterThan(0);
    await device.unpin(0x11000n, 2n * P);
    expect(machine.host.tracker.count('pin')).toBe(0);
    expect(user.process.mm.pinnedVm).toBe(0);
    await fails(device.pin(0x11000n, P), 'EFAULT');
    await accessDestroy(device.access);
  });

  it('span mappings, and are refused as a whole', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const device = await Emulated.make(user);
    await accessAttach(device.access, ioas);
    await user.map(ioas, user.anon(2), 2n * P, 0x10000n);
    await user.map(ioas, user.anon(2), 2n * P, 0x12000n, R);
    await user.map(ioas, user.anon(2), 2n * P, 0x15000n, W);
    expect(await device.pin(0x11000n, 2n * P)).toHaveLength(2);
    await device.unpin(0x11000n, 2n * P);
    await fails(device.pin(0x11000n, 2n * P, true), 'EPERM');
    await fails(device.pin(0x15000n, P), 'EPERM');
    await fails(device.pin(0x13000n, 2n * P), 'ENOENT');
    await fails(device.pin(0x40000n, P), 'ENOENT');
    await fails(device.pin(0x10000n, 0n), 'EINVAL');
    await fails(device.pin(0x10001n, P), 'EINVAL');
    await fails(device.pin(U64_MAX, P), 'EOVERFLOW');
    expect(machine.host.tracker.count('pin')).toBe(0);
    await accessDestroy(device.access);
  });

  it('must be given back exactly as they were pinned', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const device = await Emulated.make(user);
    await accessAttach(device.access, ioas);
    await user.map(ioas, user.anon(4), 4n * P, 0x10000n);
    await device.pin(0x10000n, 3n * P);
    await device.pin(0x11000n, P);
    const { log } = machine.host;
    await device.unpin(0x10000n, 2n * P);
    expect(log.warnings()).toHaveLength(1);
    await device.unpin(0x10000n, 0n);
    await device.unpin(0x20000n, P);
    expect(log.warnings()).toHaveLength(3);
    await device.unpin(0x11000n, P);
    await device.unpin(0x10000n, 3n * P);
    expect(log.warnings()).toHaveLength(3);
    expect(machine.host.tracker.count('pin')).toBe(0);
    await accessDestroy(device.access);
  });

  it('are charged once, to the user or to the process, or not at all', async () => {
    await using machine = await Machine.start();
    for (const mode of [0n, 1n]) {
      const root = await machine.user({ memlock: 2n * P });
      await root.option(0, 0, 0, mode);
      root.process.setuid(1000);
      const { mm } = root.process;
      const charged = () => (mode === 1n ? mm.lockedVm : machine.iommufd.lockedByUser.of(1000));
      const [a, b] = [await root.ioas(), await root.ioas()];
      await root.map(a, root.anon(4), 4n * P, 0x10000n);
      await root.copy(b, a, 0x10000n, 4n * P, 0x10000n);
      const [one, two] = [await Emulated.make(root), await Emulated.make(root)];
      await accessAttach(one.access, a);
      await accessAttach(two.access, b);
      await one.pin(0x10000n, 2n * P);
      await two.pin(0x10000n, 2n * P);
      await two.pin(0x10000n, P);
      expect(charged()).toBe(2);
      await fails(two.pin(0x11000n, 2n * P), 'ENOMEM');
      expect(charged()).toBe(2);
      await one.unpin(0x10000n, 2n * P);
      expect(charged()).toBe(2);
      await two.unpin(0x10000n, 2n * P);
      expect(charged()).toBe(1);
      await two.unpin(0x10000n, P);
      expect(charged()).toBe(0);
      expect(mm.pinnedVm).toBe(0);
      await accessDestroy(one.access);
      await accessDestroy(two.access);
    }
    const free = await machine.user({ memlock: 0n });
    const ioas = await free.ioas();
    await free.map(ioas, free.anon(4), 4n * P, 0x10000n);
    const device = await Emulated.make(free);
    await accessAttach(device.access, ioas);
    await device.pin(0x10000n, 4n * P);
    expect([free.process.mm.lockedVm, free.process.mm.pinnedVm]).toEqual([0, 4]);
    await device.unpin(0x10000n, 4n * P);
    await accessDestroy(device.access);
  });
});

describe('an unmap of pinned pages', () => {
  it('asks with the range of the mapping until they are given back', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const [holder, other] = [await Emulated.make(user), await Emulated.make(user)];
    await accessAttach(holder.access, ioas);
    await accessAttach(other.access, ioas);
    await user.map(ioas, user.anon(4), 4n * P, 0x10000n);
    await user.map(ioas, user.anon(1), P, 0x14000n);
    await holder.pin(0x11000n, P);
    holder.held = [[0x11000n, P]];
    expect(await user.unmap(ioas)).toBe(5n * P);
    expect(holder.asked).toEqual([[0x10000n, 4n * P]]);
    expect(other.asked).toEqual([[0x10000n, 4n * P]]);
    await accessDestroy(holder.access);
    await accessDestroy(other.access);
  });

  it('H44 gives up with EDEADLK after 101 requests, and lets nobody pin meanwhile', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const device = await Emulated.make(user);
    await accessAttach(device.access, ioas);
    await user.map(ioas, user.anon(1), P, 0x10000n);
    await user.map(ioas, user.anon(1), P, 0x11000n);
    await device.pin(0x11000n, P);
    await fails(user.unmap(ioas), 'EDEADLK');
    expect(device.asked).toHaveLength(101);
    expect(machine.host.log.warnings()).toHaveLength(1);
    // what came before is gone, and the mapping is closed to devices
    await fails(device.pin(0x10000n, P), 'ENOENT');
    await fails(device.pin(0x11000n, P), 'EINVAL');
    await fails(device.rw(0x11000n, new Uint8Array(1), false), 'EINVAL');
    await device.unpin(0x11000n, P);
    expect(await user.unmap(ioas)).toBe(P);
    await accessDestroy(device.access);
  });
});

describe('accessRw', () => {
  it('copies across mappings with the rights of each, whoever runs', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const other = await machine.user();
    const ioas = await user.ioas();
    const device = await Emulated.make(user, false);
    await accessAttach(device.access, ioas);
    const [a, b] = [user.anon(1), user.anon(1)];
    await user.map(ioas, a, P, 0x10000n, RW);
    await user.map(ioas, b, P, 0x11000n, W);
    const { mm } = user.process;
    for (const caller of [undefined, mm, other.process.mm]) {
      await device.rw(0x10ffdn, bytesOf('hello'), true, caller);
      expect(text(mm.copyFrom(a + P - 3n, 3), 3) + text(mm.copyFrom(b, 2), 2)).toBe('hello');
      mm.copyTo(a, bytesOf('world'));
      const bytes = new Uint8Array(5);
      await device.rw(0x10000n, bytes, false, caller);
      expect(text(bytes)).toBe('world');
      await fails(device.rw(0x10ffdn, bytes, false, caller), 'EPERM');
      await fails(device.rw(0x11ffdn, bytes, true, caller), 'ENOENT');
      // the refused read had got as far as the end of the first mapping
      expect(text(mm.copyFrom(b + P - 3n, 3), 3)).toBe('hel');
      mm.copyTo(b + P - 3n, new Uint8Array(3));
      await fails(device.rw(0x20000n, bytes, false, caller), 'ENOENT');
      await fails(device.rw(0x10000n, new Uint8Array(), false, caller), 'EINVAL');
      await fails(device.rw(U64_MAX, bytes, false, caller), 'EOVERFLOW');
    }
    mm.munmap(a, P);
    for (const caller of [undefined, other.process.mm]) {
      await fails(device.rw(0x10000n, new Uint8Array(1), false, caller), 'EFAULT');
    }
    await accessDetach(device.access);
    await fails(device.rw(0x11000n, new Uint8Array(1), true), 'ENOENT');
    await accessDestroy(device.access);
    expect(machine.host.tracker.count('pin')).toBe(0);
  });

  it('reaches pinned pages of a process that has ended, and no others', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const device = await Emulated.make(user);
    await accessAttach(device.access, ioas);
    const m = user.anon(2);
    user.process.mm.copyTo(m, bytesOf('hello'));
    await user.map(ioas, m, 2n * P, 0x10000n);
    await device.pin(0x10000n, P);
    await user.process.exit(0);
    const bytes = new Uint8Array(5);
    await device.rw(0x10000n, bytes, false);
    expect(text(bytes)).toBe('hello');
    const failure = await device.rw(0x11000n, bytes, false).catch((error: unknown) => error);
    expect(isSystemError(failure, 'EFAULT')).toBe(true);
    await device.unpin(0x10000n, P);
    await accessDestroy(device.access);
  });
});
