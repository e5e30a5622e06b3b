import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { DirtyPagesFlag, Extension } from '../../src/uapi/vfio.js';
import { type Container, error, Machine, P, RW, U64_MAX, type User } from './harness.js';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine[Symbol.asyncDispose]());

describe('DIRTY_PAGES', () => {
  it('CORE-171 does not exist in version 1', async () => {
    const user = (await machine.container([await machine.emulated('mtty')], Extension.TYPE1_IOMMU)).user();
    // even before the arguments are looked at
    await expect(user.dirty(0, 0)).rejects.toEqual(error.EACCES);
  });

  it('CORE-171 takes exactly one flag, and START and STOP as often as one likes', async () => {
    const user = (await machine.container([await machine.emulated('mtty')])).user();
    for (const flags of [0, 3, 5, 6, 7, 8, 9]) await expect(user.dirty(flags)).rejects.toEqual(error.EINVAL);
    await expect(user.dirty(DirtyPagesFlag.START, 7)).rejects.toEqual(error.EINVAL);
    await user.map(0n, 0n, P);
    await user.dirty(DirtyPagesFlag.STOP);
    await user.dirty(DirtyPagesFlag.START);
    await user.dirty(DirtyPagesFlag.START);
    expect(await user.dirtyPages(0n, P)).toEqual([]);
    await user.dirty(DirtyPagesFlag.STOP);
    await user.dirty(DirtyPagesFlag.STOP);
    await expect(user.dirtyPages(0n, P)).rejects.toEqual(error.EINVAL);
  });

  it('CORE-171 keeps its marks when it is started again', async () => {
    const container = await machine.container([await machine.emulated('mtty')]);
    const user = container.user();
    await user.map(0n, user.anon(1), P);
    await user.startTracking();
    await container.backend.dmaRw(0n, new Uint8Array(1), true);
    await user.startTracking();
    expect(await user.dirtyPages(0n, P)).toEqual([0]);
  });
});

describe('GET_BITMAP', () => {
  let container: Container;
  let user: User;
  let data: bigint;

  beforeEach(async () => {
    container = await machine.container([await machine.emulated('mtty')]);
    user = container.user();
    data = user.anon(1);
    await user.map(0x10n * P, user.anon(4), 4n * P);
  });

  it('CORE-172 needs tracking, the smallest page size, whole pages and whole mappings', async () => {
    await expect(user.getBitmap(0x10n * P, 4n * P, { data })).rejects.toEqual(error.EINVAL);
    await user.startTracking();
    await expect(user.getBitmap(0x10n * P, 4n * P, { data }, 47)).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(0x10n * P, 0n, { data, size: 8n })).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(U64_MAX - P + 1n, 2n * P, { data })).rejects.toEqual(error.EOVERFLOW);
    for (const pgsize of [0n, 2048n, 2n * P]) {
      await expect(user.getBitmap(0x10n * P, 4n * P, { data, pgsize })).rejects.toEqual(error.EINVAL);
    }
    await expect(user.getBitmap(0x10n * P + 1n, 4n * P, { data })).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(0x10n * P, 4n * P + 1n, { data, size: 8n })).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(0x10n * P, 3n * P, { data })).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(0x11n * P, 8n * P, { data })).rejects.toEqual(error.EINVAL);
    await user.getBitmap(0n, 64n * P, { data });
    // nothing is mapped there at all
    await user.getBitmap(0x100n * P, P, { data });
  });

  it('CORE-176 needs 8 bytes for each 64 pages begun, and 2^28 at most', async () => {
    await user.startTracking();
    await user.getBitmap(0n, 64n * P, { data, size: 8n });
    await expect(user.getBitmap(0n, 65n * P, { data, size: 15n })).rejects.toEqual(error.EINVAL);
    await user.getBitmap(0n, 65n * P, { data, size: 16n });
    await expect(user.getBitmap(0n, 64n * P, { data, size: 7n })).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(0n, 64n * P, { data, size: 0n })).rejects.toEqual(error.EINVAL);
    await user.getBitmap(0n, 64n * P, { data, size: 2n ** 28n });
    await expect(user.getBitmap(0n, 64n * P, { data, size: 2n ** 28n + 1n })).rejects.toEqual(error.EINVAL);
    await expect(user.getBitmap(0n, 64n * P, { data: 0x7fff_ffff_f000n })).rejects.toEqual(error.EINVAL);
  });

  it('CORE-174 reports written pages once and held pages every time', async () => {
    const group = machine.host.iommu.groups.get(0)!;
    await container.listen();
    await user.startTracking();
    await container.backend.pinPages(group, 0x11n * P, 1, RW);
    await container.backend.pinPages(group, 0x12n * P, 1, RW);
    await container.backend.dmaRw(0x13n * P + 4095n, new Uint8Array(1), true);
    await container.backend.unpinPages(0x12n * P, 1);
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([1, 2, 3]);
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([1]);
    await container.backend.unpinPages(0x11n * P, 1);
    // what was held at the last report may have been written since
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([1]);
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([]);
  });

  it('CORE-174 begins with what is held when tracking starts, and marks no reads', async () => {
    const group = machine.host.iommu.groups.get(0)!;
    await container.listen();
    await container.backend.pinPages(group, 0x12n * P, 2, RW);
    await user.startTracking();
    await container.backend.dmaRw(0x10n * P, new Uint8Array(8), false);
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([2, 3]);
    await container.backend.unpinPages(0x12n * P, 2);
  });

  it('CORE-174 marks every page that a write touches', async () => {
    await user.startTracking();
    await container.backend.dmaRw(0x10n * P + 4000n, new Uint8Array(4196), true);
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([0, 1, 2]);
  });

  it('CORE-174 tracks mappings that are made later', async () => {
    await user.startTracking();
    await user.map(0x20n * P, user.anon(2), 2n * P);
    await container.backend.dmaRw(0x21n * P, new Uint8Array(1), true);
    expect(await user.dirtyPages(0x20n * P, 2n * P)).toEqual([1]);
  });

  it('keeps the leading bits of a shared word, clears those behind the mapping, leaves holes alone', async () => {
    await user.startTracking();
    const { mm } = user.process;
    mm.copyTo(data, new Uint8Array(32).fill(0xff));
    await user.map(200n * P, user.anon(1), P);
    await container.backend.dmaRw(0x11n * P, new Uint8Array(1), true);
    await container.backend.dmaRw(200n * P, new Uint8Array(1), true);
    await user.getBitmap(3n * P, 253n * P, { data, size: 32n });
    const words = [...new BigUint64Array(mm.copyFrom(data, 32).buffer)];
    expect(words).toEqual([
      // 13 bits from before, then page 1 of 4, then nothing up to the end of the word
      0x1fffn | (1n << 14n),
      // no mapping begins or ends in these words
      U64_MAX,
      U64_MAX,
      // 197 = 3 * 64 + 5
      0x1fn | (1n << 5n),
    ]);
  });

  it('gives 64-bit words in the byte order of the caller', async () => {
    const big = container.user(machine.host.spawn({ byteOrder: 'big' }));
    await user.startTracking();
    await container.backend.dmaRw(0x11n * P, new Uint8Array(1), true);
    const at = big.anon(1);
    big.process.mm.store(at, 8, 0x7n);
    await big.getBitmap(0n, 64n * P, { data: at });
    expect(big.process.mm.load(at, 8)).toBe(0x7n | (1n << 17n));
  });

  it('CORE-172 fails with EFAULT when the bitmap is not there, and forgets no mark', async () => {
    await user.startTracking();
    await container.backend.dmaRw(0x11n * P, new Uint8Array(1), true);
    await expect(user.getBitmap(0x10n * P, 4n * P, { data: 0x1000n })).rejects.toEqual(error.EFAULT);
    await expect(user.getBitmap(0x0fn * P, 5n * P, { data: 0x1000n })).rejects.toEqual(error.EFAULT);
    expect(await user.dirtyPages(0x10n * P, 4n * P)).toEqual([1]);
  });
});

describe('dirty pages of hardware', () => {
  it('CORE-173 are all, until the group pins for the first time; then only what is held or written', async () => {
    const group = await machine.hardware('0000:00:02.0');
    const container = await machine.container([group]);
    const user = container.user();
    await container.listen();
    await user.map(0n, user.anon(4), 4n * P);
    await user.startTracking();
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([0, 1, 2, 3]);
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([0, 1, 2, 3]);
    await container.backend.pinPages(group, P, 1, RW);
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([1]);
    await container.backend.dmaRw(3n * P, new Uint8Array(1), true);
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([1, 3]);
    // a second group that never pinned spoils it again
    await container.attach(await machine.hardware('0000:00:03.0'));
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([0, 1, 2, 3]);
    await container.backend.unpinPages(P, 1);
  });

  it('CORE-173 are all once more when a group goes that never pinned', async () => {
    const hardware = await machine.hardware('0000:00:02.0');
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated, hardware]);
    const user = container.user();
    await user.map(0n, user.anon(4), 4n * P);
    await user.startTracking();
    await container.detach(hardware);
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([0, 1, 2, 3]);
    expect(await user.dirtyPages(0n, 4n * P)).toEqual([]);
  });

  it('CORE-173 are counted in the smallest page of the hardware', async () => {
    const unit = machine.host.iommu.addUnit({
      aperture: [0n, 2n ** 40n - 1n],
      pageSizes: 0x1_0000n,
      coherent: true,
      msiIsolated: true,
      reserved: [],
    });
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated]);
    const user = container.user();
    const { backend } = container;
    await container.listen();
    await user.map(0n, 0n, 64n * P);
    await user.startTracking();
    expect((await user.info()).iovaPgsizes).toBe(U64_MAX - P + 1n);
    const hardware = await machine.hardware('0000:00:04.0', { unit });
    await user.unmapAll();
    await container.attach(hardware);
    expect((await user.info()).iovaPgsizes).toBe(0x1_0000n);
    await expect(user.map(P, 0n, 16n * P)).rejects.toEqual(error.EINVAL);
    await container.detach(hardware);
    expect((await user.info()).iovaPgsizes).toBe(U64_MAX - P + 1n);
    await user.map(0n, user.anon(16), 16n * P);
    await backend.pinPages(emulated, 5n * P, 1, RW);
    expect(await user.dirtyPages(0n, 16n * P)).toEqual([5]);
    await backend.unpinPages(5n * P, 1);
  });
});
