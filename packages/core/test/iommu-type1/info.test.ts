import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { Extension, IommuInfoFlag, iommuType1Info, Request } from '../../src/uapi/vfio.js';
import { error, Machine, P, U64_MAX } from './harness.js';

let machine: Machine;

beforeEach(async () => {
  machine = await Machine.create();
});
afterEach(() => machine[Symbol.asyncDispose]());

/** What Linux answers to an argsz of 120 or more with one group behind VT-d. */
const recorded =
  '780000000300000000102040000000001800000000000000' +
  '0200010038000000000000000000000000100000000000000000001000000000' +
  '0300010048000000ffff000000000000' +
  '01000100000000000200000000000000' +
  '0000000000000000ffffdffe000000000000f0fe00000000ffffffffffff0000';

describe('GET_INFO', () => {
  it('CORE-182 (H37) lists migration, mappings left and windows, at 24, 56 and 72', async () => {
    const user = (await machine.container([await machine.hardware('0000:00:02.0')])).user();
    const info = await user.info(120);
    expect(info.chain).toEqual([
      { id: 2, at: 24 },
      { id: 3, at: 56 },
      { id: 1, at: 72 },
    ]);
    expect(info.windows).toEqual([
      { start: 0n, end: 0xfedf_ffffn },
      { start: 0xfef0_0000n, end: 2n ** 48n - 1n },
    ]);
    expect(Buffer.from(info.bytes.subarray(0, 120)).toString('hex')).toBe(recorded);
    expect(info.bytes.subarray(120).every((byte) => byte === 0)).toBe(true);
  });

  it('CORE-182 takes an argsz of 16, says how much would do, and writes nothing beyond', async () => {
    const user = (await machine.container([await machine.hardware('0000:00:02.0')])).user();
    for (const argsz of [16, 20, 24, 64, 96, 119]) {
      const bytes = new Uint8Array(256).fill(0xaa);
      bytes.set(iommuType1Info.encode({ argsz }, 'little').subarray(0, 16));
      await user.process.ioctl(user.fd, Request.IOMMU_GET_INFO, bytes);
      const { flags, iovaPgsizes } = iommuType1Info.decode(bytes, 'little');
      expect(iommuType1Info.decode(bytes, 'little').argsz).toBe(120);
      expect(flags).toBe(IommuInfoFlag.PGSIZES | IommuInfoFlag.CAPS);
      expect(iovaPgsizes).toBe(0x4020_1000n);
      const end = Math.min(argsz, iommuType1Info.size);
      expect(bytes.subarray(16, end).every((byte) => byte === 0)).toBe(true);
      expect(bytes.subarray(end).every((byte) => byte === 0xaa)).toBe(true);
    }
    for (const argsz of [0, 15]) await expect(user.info(argsz)).rejects.toEqual(error.EINVAL);
    await expect(user.process.ioctl(user.fd, Request.IOMMU_GET_INFO, 0n)).rejects.toEqual(error.EFAULT);
    await expect(user.process.ioctl(user.fd, Request.IOMMU_GET_INFO, new Uint8Array(15))).rejects.toEqual(error.EFAULT);
  });

  it('CORE-182 has no windows while only emulated groups are attached, and every page size', async () => {
    const user = (await machine.container([await machine.emulated('mtty')])).user();
    const info = await user.info(256);
    expect(info.windows).toBeUndefined();
    expect(info.chain.map(({ id }) => id)).toEqual([2, 3]);
    expect(info.iovaPgsizes).toBe(U64_MAX - P + 1n);
    expect((await user.info(71)).argsz).toBe(72);
  });

  it('answers in the byte order of the caller', async () => {
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const info = await container.user(machine.host.spawn({ byteOrder: 'big' })).info();
    expect(info.chain.map(({ at }) => at)).toEqual([24, 56, 72]);
    expect(info.windows?.length).toBe(2);
    expect(info.avail).toBe(65535);
  });
});

describe('requests and extensions', () => {
  it('CORE-106 knows no other request', async () => {
    const user = (await machine.container([await machine.emulated('mtty')])).user();
    for (const request of [Request.IOMMU_ENABLE, Request.IOMMU_DISABLE, Request.EEH_PE_OP, 0x3bff, 0]) {
      await expect(user.process.ioctl(user.fd, request)).rejects.toEqual(error.ENOTTY);
    }
  });

  it('CORE-102 offers both versions and UNMAP_ALL before it is chosen', () => {
    const offered = Array.from({ length: 13 }, (_, arg) => machine.driver.checkExtension(arg));
    expect(offered).toEqual([0, 1, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0]);
    expect(machine.driver.checkExtension(999)).toBe(0);
  });

  it('CORE-103 offers coherent DMA and the exchange of addresses once it is chosen', async () => {
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    const offered = await Promise.all(Array.from({ length: 13 }, (_, arg) => container.backend.checkExtension(arg)));
    expect(offered).toEqual([0, 1, 0, 1, 1, 0, 0, 0, 0, 1, 1, 0, 0]);
  });

  it('CORE-104 does not offer the exchange while a group is emulated', async () => {
    const emulated = await machine.emulated('mtty');
    const container = await machine.container([emulated, await machine.hardware('0000:00:02.0')]);
    expect(await container.backend.checkExtension(Extension.UPDATE_VADDR)).toBe(0);
    await container.detach(emulated);
    expect(await container.backend.checkExtension(Extension.UPDATE_VADDR)).toBe(1);
  });

  it('says coherent only while every domain enforces it', async () => {
    const lax = machine.host.iommu.addUnit({
      aperture: [0n, 2n ** 48n - 1n],
      pageSizes: 0x4020_1000n,
      coherent: true,
      enforceCoherency: false,
      msiIsolated: true,
      reserved: [],
    });
    const container = await machine.container([await machine.hardware('0000:00:02.0')]);
    expect(await container.backend.checkExtension(Extension.DMA_CC_IOMMU)).toBe(1);
    await container.attach(await machine.hardware('0000:00:03.0', { unit: lax }));
    expect(await container.backend.checkExtension(Extension.DMA_CC_IOMMU)).toBe(0);
  });

  it('refuses kinds that it does not know', () => {
    for (const kind of [0, 2, 6, 8, 99]) {
      expect(() => machine.driver.open(kind, machine.host.init)).toThrow(error.EINVAL);
    }
  });
});
