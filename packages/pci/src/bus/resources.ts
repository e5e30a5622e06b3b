/*
 * BARs: how large they are, who has claimed them, and accesses to what they map.
 */
import { isSystemError, SystemError } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import { readBar64, writeBar64 } from './cycles.js';
import type { PciFunction, PciWidth } from './function.js';
import type { PciDev } from './pci-dev.js';
import { ResourceIndex } from './regs.js';
import { Resource, ResourceFlag } from './resource-tree.js';

/** Bytes of a resource; 0: it is not there. Source: include/linux/pci.h pci_resource_len() */
export function resourceLen(pdev: PciDev, index: number): number {
  return pdev.resource[index]?.size ?? 0;
}

/** Where it starts. Source: include/linux/pci.h pci_resource_start() */
export function resourceStart(pdev: PciDev, index: number): number {
  return pdev.resource[index]?.start ?? 0;
}

/** `ResourceFlag` bits. Source: include/linux/pci.h pci_resource_flags() */
export function resourceFlags(pdev: PciDev, index: number): number {
  return pdev.resource[index]?.flags ?? 0;
}

/**
 * Claims BARs for a driver, so that nobody else does.
 *
 * @param bars - a bit for each
 * @throws EBUSY - one of them is taken; none is claimed then
 * @source drivers/pci/pci.c pci_request_selected_regions()
 */
export function requestSelectedRegions(pdev: PciDev, bars: number, name: string): void {
  const { domain } = pdev.pciBus;
  let claimed = 0;
  try {
    for (let index = 0; index < ResourceIndex.ROM; index++) {
      const resource = resourceAt(pdev, index);
      if ((bars & (1 << index)) === 0 || resource.size === 0) continue;
      domain.host.faults.check('__request_region:resource', 'EBUSY');
      domain.tree(resource).request(resource, new Resource(name, resource.start, resource.end, resource.flags));
      claimed |= 1 << index;
    }
  } catch (error) {
    releaseSelectedRegions(pdev, claimed);
    if (!isSystemError(error)) throw error;
    throw new SystemError('EBUSY', error.reason, {
      syscall: 'pci_request_selected_regions',
      subject: pdev.name,
      cause: error,
    });
  }
}

/** Source: drivers/pci/pci.c pci_release_selected_regions() */
export function releaseSelectedRegions(pdev: PciDev, bars: number): void {
  const { domain } = pdev.pciBus;
  for (let index = 0; index < ResourceIndex.ROM; index++) {
    const resource = resourceAt(pdev, index);
    const claim = (bars & (1 << index)) === 0 ? undefined : wholeClaim(resource);
    if (claim) domain.tree(resource).release(claim);
  }
}

/** What was claimed of all of a BAR. */
function wholeClaim(resource: Resource): Resource | undefined {
  return resource.children.find(({ start, end }) => start === resource.start && end === resource.end);
}

/** A BAR that is mapped for the kernel: memory or ports, `offset` from its start. */
export interface BarMapping {
  readonly length: number;
  read(offset: number, width: PciWidth): number;
  write(offset: number, width: PciWidth, value: number): void;
  read64(offset: number): bigint;
  write64(offset: number, value: bigint): void;
}

/**
 * Maps a BAR.
 *
 * @throws ENOMEM - it is not there, or there is no memory
 * @source lib/pci_iomap.c pci_iomap(), pci_iounmap()
 */
export function iomap(pdev: PciDev, bar: number): BarMapping & Disposable {
  const { host } = pdev.pciBus.domain;
  const { size, flags, start } = resourceAt(pdev, bar);
  const absent = size === 0 || (start === 0 && (flags & ResourceFlag.IO) === 0);
  if (absent) {
    throw new SystemError('ENOMEM', `BAR ${bar} has no address`, { syscall: 'pci_iomap', subject: pdev.name });
  }
  host.faults.check('pci_iomap:mapping');
  const tracked = host.tracker.track('mapping', () => `BAR ${bar} of ${pdev.name}`);
  return new MappedBar(pdev.hw, bar, size, () => tracked.release());
}

/** Straight to the hardware, which decodes or not. */
class MappedBar implements BarMapping, Disposable {
  readonly length: number;
  readonly #hw: PciFunction;
  readonly #bar: number;
  readonly #unmap: () => void;

  constructor(hw: PciFunction, bar: number, length: number, unmap: () => void) {
    this.#hw = hw;
    this.#bar = bar;
    this.length = length;
    this.#unmap = unmap;
  }

  read(offset: number, width: PciWidth): number {
    return this.#hw.readBar(this.#bar, offset, width);
  }

  write(offset: number, width: PciWidth, value: number): void {
    this.#hw.writeBar(this.#bar, offset, width, value);
  }

  read64(offset: number): bigint {
    return readBar64(this.#hw, this.#bar, offset);
  }

  write64(offset: number, value: bigint): void {
    writeBar64(this.#hw, this.#bar, offset, value);
  }

  [Symbol.dispose](): void {
    this.#unmap();
  }
}
