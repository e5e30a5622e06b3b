/*
 * The region of the ROM: as large as its BAR, with ones behind the images. A function without the BAR may have a copy that the
 * platform keeps.
 */
import { type RegionInfo, RegionInfoFlag, VfioError } from '@vfio/core';
import type { PciDev } from '../../bus/pci-dev.js';
import { ResourceIndex } from '../../bus/regs.js';
import { ResourceFlag } from '../../bus/resource-tree.js';
import { resourceFlags, resourceLen, resourceStart } from '../../bus/resources.js';
import { mapRom } from '../../bus/rom.js';
import type { PciCoreDevice } from '../core-device.js';
import { memoryLockAndEnable } from '../memory.js';
import type { IoRange } from './bar-access.js';

/** Bytes of a platform's copy as a BAR would have them. */
function platformSize({ hw }: PciDev): number {
  const length = hw.platformRom?.length ?? 0;
  return length === 0 ? 0 : 2 ** Math.ceil(Math.log2(length));
}

/** Bytes of the ROM as its BAR has them, or would have; 0: there is none. What config space shows as the size of its BAR. */
export function romRegionSize(pdev: PciDev): number {
  return resourceStart(pdev, ResourceIndex.ROM) === 0 ? platformSize(pdev) : resourceLen(pdev, ResourceIndex.ROM);
}

/**
 * Region info of the ROM. Whether there is an image in it is known only by reading it, with memory enabled.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_get_region_info()
 */
export async function describeRom(device: PciCoreDevice, info: RegionInfo): Promise<void> {
  const { pdev } = device;
  info.flags = 0;
  info.size = 0n;
  if (resourceStart(pdev, ResourceIndex.ROM) !== 0) {
    using _decoding = await memoryLockAndEnable(device);
    using rom = mapRom(pdev);
    if (!rom) return;
  } else if (platformSize(pdev) === 0) return;
  info.flags = RegionInfoFlag.READ;
  info.size = BigInt(romRegionSize(pdev));
}

/**
 * Has the ROM mapped while a part of it is read.
 *
 * @param offset - bytes from its start
 * @param wanted - bytes
 * @param read - reads as many as it is told, those up to the end of the BAR
 * @throws EINVAL - there is no ROM, or `offset` is behind its end
 * @throws ENOMEM - it can not be mapped, or has no image
 * @source drivers/vfio/pci/vfio_pci_rdwr.c vfio_pci_bar_rw()
 */
export function withRom(
  device: PciCoreDevice,
  offset: number,
  wanted: number,
  read: (io: IoRange, count: number) => number | Promise<number>,
): number | Promise<number> {
  const { pdev } = device;
  const length = romRegionSize(pdev);
  if (offset >= length) throw new VfioError('EINVAL', `its ROM has ${length} bytes`, { subject: pdev.name });
  const rom = resourceStart(pdev, ResourceIndex.ROM) === 0 ? platformCopy(pdev) : mapRom(pdev);
  if (!rom) throw new VfioError('ENOMEM', 'its ROM can not be mapped', { subject: pdev.name });
  const testMem = (resourceFlags(pdev, ResourceIndex.ROM) & ResourceFlag.MEM) !== 0;
  const mapping = { read: rom.read, write: () => {}, read64: () => 0n, write64: () => {} };
  const io: IoRange = { mapping, length, testMem, xStart: rom.size, xEnd: length, wide: false };
  let result: number | Promise<number>;
  try {
    result = read(io, Math.min(wanted, length - offset));
  } catch (error) {
    rom[Symbol.dispose]();
    throw error;
  }
  if (typeof result !== 'number') return unmapAfter(result, rom);
  rom[Symbol.dispose]();
  return result;
}

async function unmapAfter(result: Promise<number>, rom: Disposable): Promise<number> {
  using _rom = rom;
  return await result;
}

/** The platform's copy, read as a ROM is. */
function platformCopy({ hw }: PciDev): ReturnType<typeof mapRom> {
  const copy = hw.platformRom;
  if (!copy) return undefined;
  return {
    size: copy.length,
    read: (offset, width) => {
      let value = 0;
      for (let byte = width - 1; byte >= 0; byte--) value = ((value << 8) | (copy[offset + byte] ?? 0xff)) >>> 0;
      return value;
    },
    [Symbol.dispose]: () => {},
  };
}
