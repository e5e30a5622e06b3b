/*
 * read and write of a device file: which region a position lies in, and who serves it. The function is awake meanwhile.
 */
import { PCI_NUM_REGIONS, PciRegionIndex, regionIndexAt, regionOffsetAt, VfioError } from '@vfio/core';
import { isSystemError, type RuntimePm, type UserBuffer } from '@vfio/host';
import { resourceLen, resourceStart } from '../../bus/resources.js';
import type { PciCoreDevice } from '../core-device.js';
import { doIoRw } from './bar-access.js';
import { withRom } from './rom.js';
import { vgaRw } from './vga.js';

/**
 * Reads the device file.
 *
 * @returns bytes read; fewer than asked for at the end of a BAR
 * @throws EINVAL - no such region, or behind its end
 * @throws EIO - the function can not be woken, or its memory is not enabled
 * @throws EFAULT, ENOMEM, ENODEV, EBUSY, EINTR - as the region says
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_read()
 */
export function coreRead(device: PciCoreDevice, buffer: UserBuffer, position: number): number | Promise<number> {
  return buffer.length === 0 ? 0 : rw(device, buffer, position, false);
}

/** As `coreRead`; a ROM can not be written (EINVAL). Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_write() */
export function coreWrite(device: PciCoreDevice, buffer: UserBuffer, position: number): number | Promise<number> {
  return buffer.length === 0 ? 0 : rw(device, buffer, position, true);
}

/** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_rw() */
function rw(device: PciCoreDevice, buffer: UserBuffer, position: number, isWrite: boolean): number | Promise<number> {
  const index = regionIndexAt(position);
  if (index >= PCI_NUM_REGIONS + device.regions.length) throw invalid(device, `no region ${index}`);
  const { pm } = device.pdev;
  // What is in use by somebody stays so as long as nobody waits.
  if (pm.usageCount === 0 || pm.status !== 'active') return awakened(device, pm, index, buffer, position, isWrite);
  const result = access(device, index, buffer, position, isWrite);
  if (typeof result === 'number') return result;
  pm.getNoresume();
  return thenPut(result, pm);
}

async function awakened(
  device: PciCoreDevice,
  pm: RuntimePm,
  index: number,
  buffer: UserBuffer,
  position: number,
  isWrite: boolean,
): Promise<number> {
  try {
    await pm.resumeAndGet();
  } catch (cause) {
    if (!isSystemError(cause)) throw cause;
    device.pdev.pciHost.log.info(`runtime resume failed ${cause.errno}`, device.pdev.logName());
    throw new VfioError('EIO', 'it can not be resumed', { subject: device.pdev.name, cause });
  }
  try {
    return await access(device, index, buffer, position, isWrite);
  } finally {
    await pm.put();
  }
}

async function thenPut(result: Promise<number>, pm: RuntimePm): Promise<number> {
  try {
    return await result;
  } finally {
    await pm.put();
  }
}

function access(
  device: PciCoreDevice,
  index: number,
  buffer: UserBuffer,
  position: number,
  isWrite: boolean,
): number | Promise<number> {
  const offset = regionOffsetAt(position);
  if (index < PciRegionIndex.ROM) return barRw(device, index, buffer, offset, isWrite);
  switch (index) {
    case PciRegionIndex.CONFIG:
      if (!device.config) throw invalid(device, 'it is not open');
      return isWrite ? device.config.write(buffer, offset) : device.config.read(buffer, offset);
    case PciRegionIndex.ROM:
      if (isWrite) throw invalid(device, 'a ROM can not be written');
      return withRom(device, offset, buffer.length, (io, count) => doIoRw(device, io, buffer, offset, count, false));
    case PciRegionIndex.VGA:
      return vgaRw(device, buffer, offset, isWrite);
    default: {
      const region = device.regions[index - PCI_NUM_REGIONS];
      if (!region) throw invalid(device, `no region ${index}`);
      return region.ops.rw(device, buffer, offset, isWrite);
    }
  }
}

/** Source: drivers/vfio/pci/vfio_pci_rdwr.c vfio_pci_bar_rw() */
function barRw(
  device: PciCoreDevice,
  bar: number,
  buffer: UserBuffer,
  offset: number,
  isWrite: boolean,
): number | Promise<number> {
  const io = device.barIo[bar];
  if (!io) throw notMapped(device, bar, offset);
  const { length } = io;
  if (offset >= length) throw invalid(device, `BAR ${bar} has ${length} bytes`);
  return doIoRw(device, io, buffer, offset, Math.min(buffer.length, length - offset), isWrite);
}

/** Why a BAR can not be accessed. */
function notMapped({ pdev, barmap }: PciCoreDevice, bar: number, offset: number): VfioError {
  const mapped = barmap[bar];
  const absent = resourceStart(pdev, bar) === 0 || offset >= resourceLen(pdev, bar);
  const code = absent || typeof mapped !== 'string' ? 'EINVAL' : mapped;
  return new VfioError(code, `BAR ${bar} is not mapped`, { subject: pdev.name });
}

function invalid({ pdev }: PciCoreDevice, reason: string): VfioError {
  return new VfioError('EINVAL', reason, { subject: pdev.name });
}
