import {
  type DmaBufAttachment,
  DmaBufFile,
  type DmaBufOps,
  type DmaBufSegment,
  IommuProt,
  SystemError,
} from '@vfio/host';
import { describe, expect, it } from 'vitest';
import { accessAttach, accessCreate, accessDestroy } from '../../src/iommufd/access.js';
import { accessPinPages, accessRw } from '../../src/iommufd/access-pages.js';
import { attachedHwpt, deviceAttach, deviceDetach } from '../../src/iommufd/attach.js';
import { deviceBind, deviceUnbind } from '../../src/iommufd/device.js';
import { HwptPaging } from '../../src/iommufd/hwpt.js';
import { iommuIoasChangeProcess, iommuIoasMapFile } from '../../src/uapi/iommufd.js';
import { DmaUnmapFlag, IommufdRequest, iommuType1DmaUnmap, Request } from '../../src/uapi/vfio.js';
import { FIXED, fails, Machine, P, RW, type User } from './harness.js';

/** Where the registers of the model device are. */
const registersAt = 0xf000_0000;

/** What a VFIO device exports: its registers, which it can take back. */
class Registers implements DmaBufOps {
  readonly file: DmaBufFile;
  readonly bytes: Uint8Array;
  readonly #segments: readonly DmaBufSegment[];
  revoked = false;

  constructor(
    machine: Machine,
    pages = 4,
    segments: readonly DmaBufSegment[] = [{ phys: registersAt, length: pages * 4096 }],
  ) {
    this.bytes = new Uint8Array(pages * 4096);
    this.#segments = segments;
    machine.host.memory.addMmio(registersAt / 4096, pages, {
      read: (offset, into) => into.set(this.bytes.subarray(offset, offset + into.length)),
      write: (offset, from) => this.bytes.set(from, offset),
    });
    this.file = new DmaBufFile({ size: pages * 4096, flags: 2, ops: this });
  }

  map(attachment: DmaBufAttachment): readonly DmaBufSegment[] {
    if (this.revoked || !attachment.importer.peer2peer) throw new SystemError('ENODEV', 'taken back');
    return this.#segments;
  }
  unmap(): void {}
  release(): void {}

  async revoke(): Promise<void> {
    this.revoked = true;
    await this.file.invalidateMappings();
  }
}

interface Wanted {
  readonly ioasId: number;
  readonly fd: number;
  readonly iova: bigint;
  readonly start?: bigint;
  readonly length?: bigint;
  readonly flags?: number;
}

const mapFile = (user: User, { start = 0n, length = 4n * P, flags = RW, ...wanted }: Wanted) =>
  user.request(IommufdRequest.IOAS_MAP_FILE, iommuIoasMapFile, {
    size: 40,
    flags: flags | FIXED,
    start,
    length,
    ...wanted,
  });

async function scene(machine: Machine) {
  const user = await machine.user();
  const device = await machine.device();
  const bound = await deviceBind(user.context, device);
  const ioas = await user.ioas();
  const exported = new Registers(machine);
  const fd = user.process.files.add(exported.file);
  return { user, device, bound, ioas, exported, fd, dma: machine.host.iommu.dma(device) };
}

describe('IOAS_MAP_FILE of a buffer that a VFIO device exports', () => {
  it('lets another device reach its registers, neither pinned nor charged', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas, exported, fd, dma } = await scene(machine);
    user.process.setrlimit('memlock', 0n);
    user.process.credentials.capabilities.delete('IPC_LOCK');
    await mapFile(user, { ioasId: ioas, fd, iova: 0x10000n });
    await deviceAttach(bound, ioas);
    await dma.write(0x11004n, Uint8Array.of(1, 2));
    expect([...exported.bytes.subarray(0x1004, 0x1006)]).toEqual([1, 2]);
    const found = attachedHwpt(bound)?.domain.translate(0x11004n, 2);
    expect(found).toMatchObject({
      phys: registersAt + 0x1004,
      prot: IommuProt.READ | IommuProt.WRITE | IommuProt.MMIO,
    });
    expect([user.process.mm.pinnedVm, machine.host.tracker.count('pin')]).toEqual([0, 0]);
    // a part, where a domain is there already, for reading only
    await mapFile(user, { ioasId: ioas, fd, iova: 0x20000n, start: P, length: P, flags: 4 });
    const seen = new Uint8Array(2);
    await dma.read(0x20004n, seen);
    expect([...seen]).toEqual([1, 2]);
    expect(() => dma.write(0x20004n, seen)).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    // a copy shares it
    const other = await user.ioas();
    await user.copy(other, ioas, 0x10000n, 4n * P, 0x30000n);
    await user.process.close(fd);
    expect(await user.unmap(ioas)).toBe(5n * P);
    expect(exported.file.attachments).toHaveLength(1);
    await user.unmap(other);
    expect(exported.file.attachments).toHaveLength(0);
    await deviceDetach(bound);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('loses it everywhere when the device takes it back; the mappings stay', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas, exported, fd, dma } = await scene(machine);
    await deviceAttach(bound, ioas);
    const twin = await deviceBind(user.context, await machine.device());
    const other = await user.ioas();
    await deviceAttach(twin, other);
    await mapFile(user, { ioasId: ioas, fd, iova: 0x10000n });
    await user.copy(other, ioas, 0x10000n, 2n * P, 0x30000n);
    const second = machine.host.iommu.dma(twin.device);
    await second.read(0x30000n, new Uint8Array(1));
    await exported.revoke();
    expect(() => dma.read(0x10000n, new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    expect(() => second.read(0x30000n, new Uint8Array(1))).toThrow(expect.objectContaining({ code: 'EFAULT' }));
    await fails(user.map(ioas, user.anon(1), P, 0x10000n), 'EEXIST');
    // it does not come back, for no new domain either
    exported.revoked = false;
    await exported.file.invalidateMappings();
    const late = await user.hwpt(bound.id, ioas);
    {
      using held = user.context.objects.hold(late, HwptPaging);
      expect(held.object.domain.iovaToPhys(0x10000n)).toBeUndefined();
    }
    await user.destroy(late);
    expect(await user.unmap(ioas, 0x10000n, 4n * P)).toBe(4n * P);
    for (const each of [bound, twin]) {
      await deviceDetach(each);
      await deviceUnbind(each);
    }
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('is cut by version 1 of the container like everything else', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas, exported, fd, dma } = await scene(machine);
    await user.vfioIoas(1, ioas);
    await user.process.ioctl(user.fd, Request.SET_IOMMU, 1);
    await deviceAttach(bound, ioas);
    await mapFile(user, { ioasId: ioas, fd, iova: 0x10000n });
    const unmap = (iova: bigint, size: bigint, flags = 0) =>
      user.request(Request.IOMMU_UNMAP_DMA, iommuType1DmaUnmap, { argsz: 24, flags, iova, size });
    expect((await unmap(0x11000n, P)).size).toBe(P);
    await dma.read(0x12000n, new Uint8Array(1));
    expect(() => dma.read(0x11000n, new Uint8Array(1))).toThrow();
    await exported.revoke();
    for (const iova of [0x10000n, 0x12000n]) expect(() => dma.read(iova, new Uint8Array(1))).toThrow();
    expect((await unmap(0n, 0n, DmaUnmapFlag.ALL)).size).toBe(3n * P);
    await deviceDetach(bound);
    await deviceUnbind(bound);
    expect(machine.host.log.warnings()).toEqual([]);
  });

  it('is nothing for emulated devices, nor for a new process', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas, fd } = await scene(machine);
    await mapFile(user, { ioasId: ioas, fd, iova: 0x10000n });
    const access = await accessCreate(user.context, { needsPinPages: true });
    await accessAttach(access, ioas);
    await fails(accessPinPages(access, 0x10000n, P, false), 'EINVAL');
    await fails(accessRw(access, 0x10000n, new Uint8Array(4), false), 'EINVAL');
    await fails(user.request(IommufdRequest.IOAS_CHANGE_PROCESS, iommuIoasChangeProcess, { size: 8 }), 'EINVAL');
    await accessDestroy(access);
    await deviceUnbind(bound);
  });

  it('refuses what it can not use, and lets go of it', async () => {
    await using machine = await Machine.start();
    const { user, bound, ioas, exported, fd } = await scene(machine);
    const wanted = { ioasId: ioas, fd, iova: 0x10000n };
    await fails(mapFile(user, { ...wanted, length: 5n * P }), 'EINVAL');
    await fails(mapFile(user, { ...wanted, start: 4n * P, length: P }), 'EINVAL');
    await fails(mapFile(user, { ...wanted, length: 0n }), 'EINVAL');
    await user.map(ioas, user.anon(1), P, 0x10000n);
    await fails(mapFile(user, wanted), 'EEXIST');
    const memory = machine.host.memory.alloc(1, 'memory');
    const phys = memory.basePfn * 4096;
    for (const segments of [
      [
        { phys: registersAt, length: 4096 },
        { phys: registersAt + 8192, length: 4096 },
      ],
      [{ phys, length: 4096 }],
    ]) {
      const ops: DmaBufOps = { map: () => segments, unmap() {}, release() {} };
      const other = user.process.files.add(new DmaBufFile({ size: 8192, flags: 2, ops }));
      await fails(mapFile(user, { ...wanted, fd: other, iova: 0x20000n, length: P }), 'EOPNOTSUPP');
      await user.process.close(other);
    }
    memory.put();
    await exported.revoke();
    await fails(mapFile(user, { ...wanted, iova: 0x30000n }), 'ENODEV');
    expect(exported.file.attachments).toHaveLength(0);
    await deviceUnbind(bound);
  });
});
