/*
 * BARs in the memory of a process. Pages are there from the first access on, and only while memory is enabled; a reset takes
 * them away from everybody, and they come back by themselves.
 */
import { PCI_NUM_REGIONS, PciRegionIndex, RegionInfoFlag, regionIndexAt, regionOffsetAt, VfioError } from '@vfio/core';
import { type AccessSize, type ErrnoCode, type Mapping, type MmapRequest, PAGE_SIZE } from '@vfio/host';
import type { BarMapping } from '../../bus/resources.js';
import { resourceLen, resourceStart } from '../../bus/resources.js';
import type { PciCoreDevice } from '../core-device.js';
import { memoryEnabled } from '../memory.js';

/**
 * Maps a part of a BAR, or of a region that only this device has.
 *
 * @throws EINVAL - no such region, private, a region that can not be mapped, or behind its end
 * @throws ENODEV, EBUSY, ENOMEM - the BAR was not mapped at open
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_mmap()
 */
export function coreMmap(device: PciCoreDevice, request: MmapRequest): Mapping {
  const { pdev, regions, barmap, barMmapSupported } = device;
  const index = regionIndexAt(request.offset);
  const offset = regionOffsetAt(request.offset);
  if (index >= PCI_NUM_REGIONS + regions.length) throw refused(device, 'EINVAL', `no region ${index}`);
  if (!request.shared) throw refused(device, 'EINVAL', 'registers can not be copied');
  if (index >= PCI_NUM_REGIONS) {
    const region = regions[index - PCI_NUM_REGIONS];
    if (region?.ops.mmap && (region.flags & RegionInfoFlag.MMAP) !== 0) {
      return region.ops.mmap(device, request, offset);
    }
    throw refused(device, 'EINVAL', `region ${index} can not be mapped`);
  }
  if (index >= PciRegionIndex.ROM || !barMmapSupported[index]) {
    throw refused(device, 'EINVAL', `region ${index} can not be mapped`);
  }
  const whole = Math.ceil(resourceLen(pdev, index) / PAGE_SIZE) * PAGE_SIZE;
  if (offset + request.length > whole) throw refused(device, 'EINVAL', `BAR ${index} has ${whole} bytes`);
  const mapped = barmap[index];
  if (mapped === undefined) throw refused(device, 'EINVAL', `BAR ${index} is not mapped`);
  if (typeof mapped === 'string') throw refused(device, mapped, `BAR ${index} could not be mapped`);
  return new BarUserMapping(device, mapped, offset, resourceStart(pdev, index) + offset);
}

function refused({ pdev }: PciCoreDevice, code: ErrnoCode, reason: string): VfioError {
  return new VfioError(code, reason, { syscall: 'mmap', subject: pdev.name });
}

/** A part of a BAR in a process. Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_mmap_ops */
class BarUserMapping implements Mapping {
  readonly kind = 'io';
  readonly #device: PciCoreDevice;
  readonly #bar: BarMapping;
  readonly #offset: number;
  readonly #frame: number;

  constructor(device: PciCoreDevice, bar: BarMapping, offset: number, address: number) {
    this.#device = device;
    this.#bar = bar;
    this.#offset = offset;
    this.#frame = Math.floor(address / PAGE_SIZE);
  }

  /**
   * Differs: Linux waits for whoever is just changing whether the memory answers; here the access fails, as it would after a
   * change that takes the memory away.
   *
   * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_mmap_page_fault()
   */
  fault(): 'SIGBUS' | undefined {
    const { memoryLock, pmRuntimeEngaged } = this.#device;
    return memoryLock.writing || pmRuntimeEngaged || !memoryEnabled(this.#device) ? 'SIGBUS' : undefined;
  }

  load(offset: number, size: AccessSize): bigint {
    const at = this.#offset + offset;
    if (at + size > this.#bar.length) return 2n ** BigInt(8 * size) - 1n;
    return size === 8 ? this.#bar.read64(at) : BigInt(this.#bar.read(at, size) >>> 0);
  }

  store(offset: number, size: AccessSize, value: bigint): void {
    const at = this.#offset + offset;
    // What fills the page of a small BAR belongs to nobody.
    if (at + size > this.#bar.length) return;
    if (size === 8) this.#bar.write64(at, value);
    else this.#bar.write(at, size, Number(value));
  }

  pfn(pageIndex: number): number {
    return this.#frame + pageIndex;
  }
}
