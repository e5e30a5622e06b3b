import { File, PAGE_SIZE, type PageRange, PinnedRun, Prot } from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { accessAttach, accessCreate, accessDestroy } from '../../src/iommufd/access.js';
import { accessPinPages, accessRw, accessUnpinPages } from '../../src/iommufd/access-pages.js';
import { deviceAttach, deviceDetach } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { iommuIoasChangeProcess, iommuIoasMapFile } from '../../src/uapi/iommufd.js';
import { IommufdRequest } from '../../src/uapi/vfio.js';
import { FIXED, fails, Machine, P, R, RW, TOP, type User, vtd } from './harness.js';

/** A file of memory, as memfd_create makes it. */
class Memfd extends File {
  readonly range: PageRange;
  readonly #machine: Machine;

  constructor(machine: Machine, pages: number) {
    super({ flags: 2, label: '/memfd:test', seek: 'normal' });
    this.#machine = machine;
    this.range = machine.host.memory.alloc(pages, 'memfd');
  }

  pinFrames(index: number, pages: number): PinnedRun[] {
    if (index + pages > this.range.pages) throw Object.assign(new Error('past the end'), { code: 'EINVAL' });
    return [new PinnedRun(this.#machine.host.tracker, this.range, this.range.basePfn + index, pages)];
  }

  override release(): void {
    this.range.put();
  }
}

const mapFile = (user: User, ioasId: number, fd: number, start: bigint, length: bigint, iova: bigint, flags = RW) =>
  user.request(IommufdRequest.IOAS_MAP_FILE, iommuIoasMapFile, {
    size: 40,
    flags: flags | FIXED,
    ioasId,
    fd,
    start,
    length,
    iova,
  });

const changeProcess = (user: User, value: object = {}) =>
  user.request(IommufdRequest.IOAS_CHANGE_PROCESS, iommuIoasChangeProcess, { size: 8, ...value });

describe('IOAS_MAP_FILE', () => {
  it('maps a part of a file, which stays open', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const file = new Memfd(machine, 8);
    const fd = user.process.files.add(file);
    await fails(mapFile(user, ioas, 999, 0n, P, 0x10000n), 'EBADF');
    await fails(mapFile(user, ioas, fd, 0n, 0n, 0x10000n), 'EINVAL');
    await fails(mapFile(user, ioas, fd, 2n ** 64n - P, P, 0x10000n), 'EOVERFLOW');
    await fails(mapFile(user, ioas, fd, 0n, P, 0x10000n, 8), 'EOPNOTSUPP');
    await fails(mapFile(user, ioas, fd, 0n, P, 0x10000n, 0), 'EINVAL');
    await mapFile(user, ioas, fd, 2n * P, 2n * P, 0x10000n);
    await user.process.close(fd);
    const access = await accessCreate(user.context, { needsPinPages: true });
    await accessAttach(access, ioas);
    await accessRw(access, 0x10004n, new Uint8Array([7]), true, user.process.mm);
    const bytes = new Uint8Array(1);
    file.range.read(2 * PAGE_SIZE + 4, bytes);
    expect(bytes[0]).toBe(7);
    const [page] = await accessPinPages(access, 0x11000n, P, true);
    expect(page?.pfn).toBe(file.range.basePfn + 3);
    await accessUnpinPages(access, 0x11000n, P);
    expect(file.range.count).toBe(1);
    await user.unmap(ioas);
    expect(file.count).toBe(0);
    await accessDestroy(access);
  });

  it('takes any file until somebody wants its memory', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const ioas = await user.ioas();
    const fd = await user.process.open('/dev/null', 2);
    await mapFile(user, ioas, fd, 0n, P, 0x10000n);
    const bound = await deviceBind(user.context, await machine.device());
    await fails(deviceAttach(bound, ioas), 'EINVAL');
    await user.unmap(ioas);
    await deviceAttach(bound, ioas);
    await fails(mapFile(user, ioas, fd, 0n, P, 0x10000n), 'EINVAL');
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });
});

describe('IOAS_CHANGE_PROCESS', () => {
  it('moves what is charged to the caller, if all of it is of files', async () => {
    await using machine = await Machine.start();
    for (const mode of [0n, 1n]) {
      const user = await machine.user({ memlock: 8n * P });
      await user.option(0, 0, 0, mode);
      const [poor, child] = [user.process.fork('poor'), user.process.fork('child')];
      poor.setrlimit('memlock', 3n * P);
      user.process.setuid(1000);
      poor.setuid(3000);
      child.setuid(2000);
      const ioas = await user.ioas();
      const other = await user.ioas();
      const fd = user.process.files.add(new Memfd(machine, 4));
      const bound = await deviceBind(user.context, await machine.device());
      await deviceAttach(bound, ioas);
      await mapFile(user, ioas, fd, 0n, 4n * P, 0x10000n);
      await user.copy(other, ioas, 0x10000n, P, 0x10000n);
      const charged = () =>
        mode === 1n
          ? [user.process.mm.lockedVm, child.mm.lockedVm]
          : [machine.iommufd.lockedByUser.of(1000), machine.iommufd.lockedByUser.of(2000)];
      expect(charged()).toEqual([4, 0]);
      const request = IommufdRequest.IOAS_CHANGE_PROCESS;
      const args = iommuIoasChangeProcess.encode({ size: 8 }, 'little');
      await fails(poor.ioctl(user.fd, request, args), 'ENOMEM');
      expect([charged(), poor.mm.pinnedVm]).toEqual([[4, 0], 0]);
      await child.ioctl(user.fd, request, args);
      expect(charged()).toEqual([0, 4]);
      expect([user.process.mm.pinnedVm, child.mm.pinnedVm]).toEqual([0, 4]);
      await user.map(other, user.anon(1), P, 0x20000n);
      await fails(changeProcess(user), 'EINVAL');
      await fails(changeProcess(user, { reserved: 1 }), 'EOPNOTSUPP');
      await user.unmap(ioas);
      expect(charged()).toEqual([0, 0]);
      await deviceDetach(bound);
      await deviceUnbind(bound);
      await poor.exit(0);
      await child.exit(0);
    }
  });
});

describe('pages in domains', () => {
  it('may be parts of pages where hardware has smaller ones', async () => {
    await using machine = await Machine.start({ host: { iommu: { ...vtd, pageSizes: 0x1_1800n } } });
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    await deviceAttach(bound, ioas);
    expect((await user.ranges(ioas)).alignment).toBe(2048n);
    const m = user.anon(4);
    user.process.mm.copyTo(m, new Uint8Array([1]));
    await user.map(ioas, m + 2048n, 3n * 2048n, 0x10800n);
    const { domain } = bound.igroup.group;
    const [run] = user.process.mm.pinPages(m, 4, false);
    const phys = (run?.pfn ?? 0) * PAGE_SIZE;
    run?.unpin();
    expect([0x10800n, 0x11000n, 0x11fffn].map((iova) => domain?.iovaToPhys(iova))).toEqual([
      phys + 2048,
      phys + 4096,
      phys + 8191,
    ]);
    expect(domain?.iovaToPhys(0x12000n)).toBeUndefined();
    await fails(user.map(ioas, m + 1024n, 2048n, 0x20000n), 'EINVAL');
    expect(await user.unmap(ioas)).toBe(3n * 2048n);
    await deviceDetach(bound);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('EINVAL for hardware that has larger pages only', async () => {
    await using machine = await Machine.start({ host: { iommu: { ...vtd, pageSizes: 0x1_0000n } } });
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    await fails(deviceAttach(bound, await user.ioas()), 'EINVAL');
    await deviceUnbind(bound);
  });

  it('are the same pins for devices, accesses and copies, whichever comes first', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const [a, b] = [await user.ioas(), await user.ioas()];
    const m = user.anon(8);
    await user.map(a, m, 8n * P, 0x10000n);
    await user.copy(b, a, 0x12000n, 2n * P, 0x50000n);
    const access = await accessCreate(user.context, { needsPinPages: true });
    await accessAttach(access, b);
    await accessPinPages(access, 0x50000n, P, false);
    expect(user.process.mm.pinnedVm).toBe(1);
    const id = await deviceAttach(bound, a);
    expect(user.process.mm.pinnedVm).toBe(8);
    await accessPinPages(access, 0x51000n, P, false);
    expect(user.process.mm.pinnedVm).toBe(8);
    const { domain } = bound.igroup.group;
    expect(Number(domain?.iovaToPhys(0x17000n)) - Number(domain?.iovaToPhys(0x10000n))).toBe(7 * PAGE_SIZE);
    await user.unmap(a);
    expect(user.process.mm.pinnedVm).toBe(2);
    await accessUnpinPages(access, 0x50000n, P);
    await accessUnpinPages(access, 0x51000n, P);
    expect(user.process.mm.pinnedVm).toBe(0);
    expect(machine.host.tracker.count('pin')).toBe(0);
    await accessDestroy(access);
    await deviceDetach(bound);
    await deviceUnbind(bound);
    expect(id).toBeGreaterThan(0);
  });

  it('are pinned for writing only if they were mapped so', async () => {
    await using machine = await Machine.start();
    const user = await machine.user();
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    await deviceAttach(bound, ioas);
    const m = user.anon(2, Prot.READ);
    await fails(user.map(ioas, m, 2n * P, 0x10000n), 'EFAULT');
    await user.map(ioas, m, 2n * P, 0x10000n, R);
    await fails(user.map(ioas, user.anon(1), P, TOP + 1n), 'EINVAL');
    await deviceDetach(bound);
    await deviceUnbind(bound);
  });

  it('stay pinned after the process has ended, and give nothing back to it', async () => {
    await using machine = await Machine.start();
    const user = await machine.user({ uid: 1000, memlock: 16n * P });
    const bound = await deviceBind(user.context, await machine.device());
    const ioas = await user.ioas();
    await deviceAttach(bound, ioas);
    await user.map(ioas, user.anon(4), 4n * P, 0x10000n);
    const context = user.context.get();
    await user.process.exit(0);
    expect(machine.host.tracker.count('pin')).toBe(1);
    expect(machine.iommufd.lockedByUser.of(1000)).toBe(4);
    await deviceDetach(bound);
    expect(machine.iommufd.lockedByUser.of(1000)).toBe(0);
    await fails(deviceAttach(bound, ioas), 'EFAULT');
    await deviceUnbind(bound);
    await context.put();
    expect(machine.host.tracker.count('pin')).toBe(0);
  });
});
