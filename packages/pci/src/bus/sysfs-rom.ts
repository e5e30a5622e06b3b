/*
 * The files `rom` and `vpd`: memories of a function that are read through a window.
 */
import { type BinAttribute, SystemError } from '@vfio/host';
import { resourceAt } from './bar-sizing.js';
import type { PciDev } from './pci-dev.js';
import { ResourceIndex } from './regs.js';
import { mapRom } from './rom.js';
import { hasVpd, readVpd, writeVpd } from './vpd.js';

/** Source: drivers/pci/pci-sysfs.c pci_dev_rom_attrs, drivers/pci/vpd.c vpd_attrs */
export function romAttributes(pdev: PciDev): BinAttribute[] {
  const rom = resourceAt(pdev, ResourceIndex.ROM).size > 0 ? [romAttribute(pdev)] : [];
  return [...rom, ...(hasVpd(pdev) ? [vpdAttribute(pdev)] : [])];
}

/**
 * Reading a ROM may keep a function from doing its work, so it has to be asked for: whatever is written but 0 does.
 *
 * @source drivers/pci/pci-sysfs.c pci_read_rom(), pci_write_rom()
 */
function romAttribute(pdev: PciDev): BinAttribute {
  let enabled = false;
  return {
    name: 'rom',
    mode: 0o600,
    size: resourceAt(pdev, ResourceIndex.ROM).size,
    read: async (offset, length) => {
      if (!enabled) throw new SystemError('EINVAL', 'reading it is not enabled', { subject: pdev.name });
      await pdev.pm.resumeAndGet();
      try {
        using rom = mapRom(pdev);
        if (!rom) throw new SystemError('EIO', 'no ROM can be read', { subject: pdev.name });
        const count = Math.max(0, Math.min(length, rom.size - offset));
        return Uint8Array.from({ length: count }, (_, byte) => rom.read(offset + byte, 1));
      } finally {
        await pdev.pm.put();
      }
    },
    write: (offset, bytes) => {
      enabled = !(offset === 0 && bytes.length === 2 && bytes[0] === '0'.charCodeAt(0));
    },
  };
}

/** Source: drivers/pci/vpd.c vpd_read(), vpd_write() */
function vpdAttribute(pdev: PciDev): BinAttribute {
  return {
    name: 'vpd',
    mode: 0o600,
    size: 0,
    read: async (offset, length) => {
      await pdev.pm.resumeAndGet();
      try {
        const bytes = new Uint8Array(length);
        return bytes.subarray(0, await readVpd(pdev, offset, bytes));
      } finally {
        await pdev.pm.put();
      }
    },
    write: async (offset, bytes) => {
      await pdev.pm.resumeAndGet();
      try {
        return await writeVpd(pdev, offset, bytes);
      } finally {
        await pdev.pm.put();
      }
    },
  };
}
