/*
 * The region of the legacy VGA addresses, at their own places: memory from 0xa0000 on, and the ports around 0x3c0.
 */
import { VfioError } from '@vfio/core';
import type { UserBuffer } from '@vfio/host';
import type { PciDev } from '../../bus/pci-dev.js';
import { VgaRsrc, vgaGet } from '../../bus/vga.js';
import type { PciCoreDevice } from '../core-device.js';
import { doIoRw, type IoRange } from './bar-access.js';

/** Bytes of the region: up to the end of VGA memory. */
export const VGA_REGION_SIZE = 0xc0000;

/** A range of legacy addresses, both ends inclusive, and what has to be routed for it. */
interface LegacyRange {
  readonly space: 'memory' | 'io';
  readonly first: number;
  readonly last: number;
  readonly rsrc: number;
}

/** Ports 0x3bc to 0x3bf are a printer's. Source: drivers/vfio/pci/vfio_pci_rdwr.c vfio_pci_vga_rw() */
const ranges: readonly LegacyRange[] = [
  { space: 'memory', first: 0xa0000, last: 0xbffff, rsrc: VgaRsrc.LEGACY_MEM },
  { space: 'io', first: 0x3b0, last: 0x3bb, rsrc: VgaRsrc.LEGACY_IO },
  { space: 'io', first: 0x3c0, last: 0x3df, rsrc: VgaRsrc.LEGACY_IO },
];

/**
 * Reads or writes legacy addresses, which are routed to the function meanwhile.
 *
 * @param offset - the address
 * @returns bytes done; fewer than asked for at the end of a range
 * @throws EINVAL - the function has none, or nothing is at that address
 * @throws ENOMEM
 * @throws EINTR, EBUSY, ENODEV - they can not be routed
 * @source drivers/vfio/pci/vfio_pci_rdwr.c vfio_pci_vga_rw()
 */
export async function vgaRw(
  device: PciCoreDevice,
  buffer: UserBuffer,
  offset: number,
  isWrite: boolean,
): Promise<number> {
  const { pdev } = device;
  const range = ranges.find(({ first, last }) => offset >= first && offset <= last);
  if (!device.hasVga || !range) {
    throw new VfioError('EINVAL', `nothing of VGA is at 0x${offset.toString(16)}`, { subject: pdev.name });
  }
  pdev.pciHost.faults.check('vfio_pci_vga_rw:mapping');
  const count = Math.min(buffer.length, range.last - offset + 1);
  using _routed = await vgaGet(pdev, range.rsrc);
  return await doIoRw(device, legacyIo(pdev, range), buffer, offset, count, isWrite);
}

/** Straight to the hardware: what is behind the bridges is routed already. */
function legacyIo({ hw }: PciDev, { space, last }: LegacyRange): IoRange {
  return {
    mapping: {
      read: (offset, width) => hw.readLegacy?.(space, offset, width) ?? 0xffff_ffff,
      write: (offset, width, value) => hw.writeLegacy?.(space, offset, width, value),
      read64: () => 0n,
      write64: () => {},
    },
    length: last + 1,
    testMem: false,
    xStart: 0,
    xEnd: 0,
    wide: false,
  };
}
