/*
 * BARs: how large they are, who has claimed them, and accesses to what they map.
 */
import type { PciWidth } from './function.js';
import type { PciDev } from './pci-dev.js';

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
export function requestSelectedRegions(_pdev: PciDev, _bars: number, _name: string): void {
  throw new TypeError('to come');
}

/** Source: drivers/pci/pci.c pci_release_selected_regions() */
export function releaseSelectedRegions(_pdev: PciDev, _bars: number): void {
  throw new TypeError('to come');
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
 * @throws ENOMEM
 * @source lib/pci_iomap.c pci_iomap(), pci_iounmap()
 */
export function iomap(_pdev: PciDev, _bar: number): BarMapping & Disposable {
  throw new TypeError('to come');
}
