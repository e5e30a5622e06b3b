/*
 * BARs of a device that is being opened: claimed and mapped for the kernel, and looked at whether users may map them too.
 */
import { isSystemError, PAGE_SIZE } from '@vfio/host';
import { resourceAt } from '../bus/bar-sizing.js';
import { ResourceIndex } from '../bus/regs.js';
import { Resource, ResourceFlag } from '../bus/resource-tree.js';
import { iomap, releaseSelectedRegions, requestSelectedRegions, resourceFlags, resourceLen } from '../bus/resources.js';
import type { BarMap, PciCoreDevice } from './core-device.js';
import type { IoRange } from './regions/bar-access.js';

/**
 * Maps what can be mapped. A BAR that can not keeps the reason, which whoever accesses it gets.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_map_bars()
 */
export function mapBars(device: PciCoreDevice): void {
  for (let bar = 0; bar < ResourceIndex.ROM; bar++) {
    const mapped = mapBar(device, bar);
    device.barmap[bar] = mapped;
    device.barIo[bar] = typeof mapped === 'object' ? ioRange(device, bar, mapped) : undefined;
  }
}

function mapBar({ pdev }: PciCoreDevice, bar: number): BarMap {
  if (resourceLen(pdev, bar) === 0 || pdev.nonMappableBars) return 'ENODEV';
  try {
    requestSelectedRegions(pdev, 1 << bar, 'vfio-pci');
  } catch (error) {
    if (!isSystemError(error)) throw error;
    pdev.pciHost.log.debug(`Failed to reserve region ${bar}`, pdev.logName());
    return 'EBUSY';
  }
  try {
    return iomap(pdev, bar);
  } catch (error) {
    releaseSelectedRegions(pdev, 1 << bar);
    if (!isSystemError(error)) throw error;
    pdev.pciHost.log.debug(`Failed to iomap region ${bar}`, pdev.logName());
    return 'ENOMEM';
  }
}

/** How registers of a BAR are accessed: all but the table of MSI-X, which the kernel keeps for itself. */
function ioRange(device: PciCoreDevice, bar: number, mapping: IoRange['mapping']): IoRange {
  const { pdev, msixBar, msixOffset, msixSize } = device;
  const hasTable = bar === msixBar;
  return {
    mapping,
    length: resourceLen(pdev, bar),
    testMem: (resourceFlags(pdev, bar) & ResourceFlag.MEM) !== 0,
    xStart: hasTable ? msixOffset : 0,
    xEnd: hasTable ? msixOffset + msixSize : 0,
    wide: true,
  };
}

/** Takes the mappings back; the reasons of those that have none stay. Source: vfio_pci_core.c vfio_pci_core_unmap_bars() */
export function unmapBars({ pdev, barmap, barIo }: PciCoreDevice): void {
  for (const [bar, mapped] of barmap.entries()) {
    if (typeof mapped !== 'object') continue;
    barIo[bar] = undefined;
    barmap[bar] = undefined;
    mapped[Symbol.dispose]();
    releaseSelectedRegions(pdev, 1 << bar);
  }
}

/**
 * Looks which BARs users may map: memory, by whole pages. The rest of the page that a small one begins is kept free, so that
 * nothing else comes to lie in what the user maps.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_probe_mmaps()
 */
export function probeMmaps(device: PciCoreDevice): void {
  for (let bar = 0; bar < ResourceIndex.ROM; bar++) device.barMmapSupported[bar] = mmapSupported(device, bar);
}

function mmapSupported(device: PciCoreDevice, bar: number): boolean {
  const { pdev, dummyResources } = device;
  const resource = resourceAt(pdev, bar);
  const { size, start, end, flags, parent } = resource;
  if (pdev.nonMappableBars || (flags & ResourceFlag.MEM) === 0 || size === 0) return false;
  if (size >= PAGE_SIZE) return true;
  if (start % PAGE_SIZE !== 0 || !parent) return false;
  const rest = new Resource('vfio sub-page reserved', end + 1, start + PAGE_SIZE - 1, flags);
  try {
    pdev.pciHost.faults.check('vfio_pci_probe_mmaps:dummy');
    pdev.pciBus.domain.tree(resource).request(parent, rest);
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return false;
  }
  dummyResources.push(rest);
  return true;
}

/** Gives the rests of pages back. */
export function releaseDummies({ pdev, dummyResources }: PciCoreDevice): void {
  for (const rest of dummyResources.splice(0)) pdev.pciBus.domain.tree(rest).release(rest);
}
