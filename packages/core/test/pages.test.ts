import { PAGE_SIZE, Prot } from '@vfio/host';
import { afterEach, describe, expect, it } from 'vitest';
import {
  allocDevice,
  DmaMapFlag,
  dmaRw,
  iommuType1DmaMap,
  iommuType1DmaUnmap,
  maxPinnedPages,
  pinPages,
  putDevice,
  Request,
  registerEmulatedIommuDev,
  unpinPages,
  unregisterGroupDev,
  VfioError,
} from '../src/index.js';
import { benchForEach, closePath, code, openPath, register, type TestBench, TestDevice } from './harness.js';

const P = BigInt(PAGE_SIZE);
const RW = Prot.READ | Prot.WRITE;
/** Where the user's memory is for the device. */
const iova = 0x10n * P;

/** A device that may pin: it hears of unmaps. */
class Pinning extends TestDevice {
  override dmaUnmap(_iova: bigint, _length: bigint): void | Promise<void> {}
}

let on: TestBench;
let device: Pinning;
/** Sixteen pages of the user. */
let memory: bigint;

benchForEach(async (made) => {
  on = made;
  memory = on.process.mm.mmap({ length: 16 * PAGE_SIZE, prot: RW });
});
afterEach(async () => {
  await unregisterGroupDev(device);
  await putDevice(device);
});

async function add<D extends Pinning>(Type: new (options: object) => D): Promise<D> {
  const parent = await on.addParent('dev0', null);
  const made = await allocDevice(on.vfio, Type, parent, {});
  device = made;
  await registerEmulatedIommuDev(made);
  return made;
}

/** The group of the device, in a container with the memory mapped; no device file yet. */
async function mapped(): Promise<number> {
  const container = await on.openContainer();
  const group = await on.openGroup(device);
  await on.setContainer(group, container);
  await on.process.ioctl(container, Request.SET_IOMMU, 3);
  await map(container);
  return group;
}

async function map(container: number): Promise<void> {
  const args = { argsz: 32, flags: DmaMapFlag.READ | DmaMapFlag.WRITE, vaddr: memory, iova, size: 16n * P };
  await on.process.ioctl(container, Request.IOMMU_MAP_DMA, iommuType1DmaMap.encode(args, 'little'));
}

const warnings = () => on.host.log.warnings().length;

describe('memory of the user', () => {
  it('can be pinned and read from the first open on to the end of the last close', async () => {
    const seen: string[] = [];
    class AtOpen extends Pinning {
      override async openDevice(): Promise<void> {
        const [page] = await pinPages(this, iova, 1, RW);
        const bytes = new Uint8Array(2);
        await dmaRw(this, iova, bytes, false);
        seen.push(`open ${page?.iova} ${bytes.join()}`);
      }
      override async closeDevice(): Promise<void> {
        await dmaRw(this, iova, Uint8Array.of(7, 8), true);
        await unpinPages(this, iova, 1);
        seen.push('close');
      }
    }
    await add(AtOpen);
    on.process.mm.copyTo(memory, Uint8Array.of(1, 2));
    const group = await mapped();
    const fd = await on.getDeviceFd(group, 'dev0');
    expect(on.host.tracker.count('pin')).toBe(1);
    await on.process.close(fd);
    expect(seen).toEqual([`open ${iova} 1,2`, 'close']);
    expect([...on.process.mm.copyFrom(memory, 2)]).toEqual([7, 8]);
    expect(on.host.tracker.count('pin')).toBe(0);
    expect(warnings()).toBe(0);
  });

  it('is out of reach again when open_device failed', async () => {
    const opened = { fail: true };
    class FailsOnce extends Pinning {
      override openDevice(): void {
        if (opened.fail) throw new VfioError('EIO', 'was told to fail');
      }
    }
    const made = await add(FailsOnce);
    const group = await mapped();
    await expect(on.getDeviceFd(group, 'dev0')).rejects.toEqual(code('EIO'));
    expect(made.record?.opened).toBeUndefined();
    opened.fail = false;
    await on.process.close(await on.getDeviceFd(group, 'dev0'));
  });

  it('CORE-177 is pinned at most 512 pages at a time, and only by who hears of unmaps', async () => {
    await add(Pinning);
    await using deaf = await register(on, 'dev1', { kind: 'emulated' });
    const path = await openPath(on, device);
    await map(path.container);
    await expect(pinPages(device, iova, maxPinnedPages + 1, RW)).rejects.toEqual(code('E2BIG'));
    await expect(pinPages(device, iova, maxPinnedPages, RW)).rejects.toEqual(code('EINVAL'));
    await expect(pinPages(device, iova, 0, RW)).rejects.toEqual(code('EINVAL'));
    await expect(pinPages(device, iova, -1, RW)).rejects.toEqual(code('EINVAL'));
    await expect(pinPages(device, 2n ** 64n - P, 2, RW)).rejects.toEqual(code('EOVERFLOW'));
    expect((await pinPages(device, iova, 16, RW)).length).toBe(16);
    await unpinPages(device, iova, 16);
    const other = await openPath(on, deaf.device);
    await expect(pinPages(deaf.device, iova, 1, RW)).rejects.toEqual(code('EINVAL'));
    expect(warnings()).toBe(0);
    await unpinPages(deaf.device, iova, 1);
    await unpinPages(device, iova, 0);
    await unpinPages(device, iova, maxPinnedPages + 1);
    expect(warnings()).toBe(3);
    await closePath(on, other);
    await closePath(on, path);
  });

  it('is refused to a device that nobody has open: one warning for all, and one for each pin and unpin', async () => {
    await add(Pinning);
    // without pages nobody looks whether the device is open
    await expect(pinPages(device, iova, 0, RW)).rejects.toEqual(code('EINVAL'));
    await expect(dmaRw(device, iova, new Uint8Array(0), false)).rejects.toEqual(code('EINVAL'));
    expect(warnings()).toBe(0);
    await expect(dmaRw(device, iova, new Uint8Array(4), false)).rejects.toEqual(code('EINVAL'));
    expect(warnings()).toBe(1);
    await expect(dmaRw(device, iova, new Uint8Array(4), true)).rejects.toEqual(code('EINVAL'));
    expect(warnings()).toBe(1);
    await expect(pinPages(device, iova, 1, RW)).rejects.toEqual(code('EINVAL'));
    await unpinPages(device, iova, 1);
    expect(warnings()).toBe(3);
  });

  it('CORE-179 belongs to the process that mapped it, whoever else has the descriptors', async () => {
    await add(Pinning);
    const path = await openPath(on, device);
    await map(path.container);
    const child = on.process.fork();
    const bytes = new Uint8Array(1);
    await expect(dmaRw(device, iova, bytes, false, child.mm)).rejects.toEqual(code('EFAULT'));
    await dmaRw(device, iova, bytes, false, on.process.mm);
    await child.exit(0);
    await closePath(on, path);
  });

  it('CORE-180 and CORE-181 (H40) is given back in the answer to an unmap, which then takes the mapping', async () => {
    const told: string[] = [];
    class LetsGo extends Pinning {
      override async dmaUnmap(first: bigint, length: bigint): Promise<void> {
        told.push(`${first}+${length}`);
        await unpinPages(this, iova, 1);
      }
    }
    await add(LetsGo);
    const path = await openPath(on, device);
    await map(path.container);
    await pinPages(device, iova, 1, RW);
    const args = iommuType1DmaUnmap.encode({ argsz: 24, iova, size: 32n * P }, 'little');
    await on.process.ioctl(path.container, Request.IOMMU_UNMAP_DMA, args);
    expect(iommuType1DmaUnmap.decode(args, 'little').size).toBe(16n * P);
    expect(told).toEqual([`${iova}+${16n * P}`]);
    await closePath(on, path);
  });
});
