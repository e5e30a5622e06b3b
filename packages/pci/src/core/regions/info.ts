/*
 * VFIO_DEVICE_GET_REGION_INFO: how large regions are, and what can be done with them.
 */
import {
  type InfoCap,
  infoCapHeader,
  PCI_NUM_REGIONS,
  PciRegionIndex,
  type RegionInfo,
  RegionInfoCap,
  RegionInfoFlag,
  regionInfoCapType,
  regionStart,
  VfioError,
} from '@vfio/core';
import { resourceLen } from '../../bus/resources.js';
import type { PciCoreDevice } from '../core-device.js';
import { describeRom } from './rom.js';
import { VGA_REGION_SIZE } from './vga.js';

const { READ, WRITE, MMAP } = RegionInfoFlag;
const VERSION = 1;

/**
 * Fills in what region info says, and adds capabilities.
 *
 * @throws EINVAL - no such region
 * @throws ENOMEM
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_ioctl_get_region_info()
 */
export async function getRegionInfo(device: PciCoreDevice, info: RegionInfo, caps: InfoCap): Promise<void> {
  info.offset = regionStart(info.index);
  switch (info.index) {
    case PciRegionIndex.CONFIG:
      set(info, device.pdev.cfgSize, READ | WRITE);
      return;
    case PciRegionIndex.ROM:
      await describeRom(device, info);
      return;
    case PciRegionIndex.VGA:
      if (!device.hasVga) throw invalid(device, 'it has no legacy VGA addresses');
      set(info, VGA_REGION_SIZE, READ | WRITE);
      return;
    default:
      if (info.index < PciRegionIndex.ROM) describeBar(device, info, caps);
      else describeDeviceRegion(device, info, caps);
  }
}

function describeBar(device: PciCoreDevice, info: RegionInfo, caps: InfoCap): void {
  const size = resourceLen(device.pdev, info.index);
  if (size === 0) {
    set(info, 0, 0);
    return;
  }
  const mappable = device.barMmapSupported[info.index] === true;
  set(info, size, mappable ? READ | WRITE | MMAP : READ | WRITE);
  // The table is in what can be mapped: nobody has to keep off its page.
  if (mappable && info.index === device.msixBar) {
    caps.add(infoCapHeader.size, RegionInfoCap.MSIX_MAPPABLE, VERSION);
  }
}

function describeDeviceRegion(device: PciCoreDevice, info: RegionInfo, caps: InfoCap): void {
  const region = device.regions[info.index - PCI_NUM_REGIONS];
  if (!region) throw invalid(device, `no region ${info.index}`);
  set(info, region.size, region.flags);
  const { type, subtype } = region;
  const header = { id: RegionInfoCap.TYPE, version: VERSION };
  caps.addCapability(regionInfoCapType.encode({ header, type, subtype }, caps.order));
  region.ops.addCapability?.(device, caps);
}

function set(info: RegionInfo, size: number, flags: number): void {
  info.size = BigInt(size);
  info.flags = flags;
}

function invalid({ pdev }: PciCoreDevice, reason: string): VfioError {
  return new VfioError('EINVAL', reason, { syscall: 'VFIO_DEVICE_GET_REGION_INFO', subject: pdev.name });
}
