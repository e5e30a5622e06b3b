/*
 * The file `config`: config space for whoever may look. Ordinary users see the header only, as reading beyond it can have
 * effects in some hardware.
 */
import type { BinAttribute } from '@vfio/host';
import { userReadConfig, userWriteConfig } from './config.js';
import { widthAt } from './cycles.js';
import type { PciDev } from './pci-dev.js';
import { HeaderType, STD_HEADER_SIZE } from './regs.js';

/** What users without rights see of a CardBus bridge. */
const CARDBUS_HEADER_SIZE = 128;

/** Source: drivers/pci/pci-sysfs.c pci_read_config(), pci_write_config() */
export function configAttribute(pdev: PciDev): BinAttribute {
  return {
    name: 'config',
    mode: 0o644,
    size: pdev.cfgSize,
    read: async (offset, length, process) => {
      const all = process.credentials.capable('SYS_ADMIN');
      const shown = pdev.hdrType === HeaderType.CARDBUS ? CARDBUS_HEADER_SIZE : STD_HEADER_SIZE;
      const end = Math.min(offset + length, all ? pdev.cfgSize : shown);
      const bytes = new Uint8Array(Math.max(0, end - offset));
      for (let done = 0; done < bytes.length; ) {
        const width = widthAt(offset + done, bytes.length - done);
        const value = await userReadConfig(pdev, offset + done, width);
        for (let byte = 0; byte < width; byte++) bytes[done + byte] = value >>> (8 * byte);
        done += width;
      }
      return bytes;
    },
    write: async (offset, bytes) => {
      for (let done = 0; done < bytes.length; ) {
        const width = widthAt(offset + done, bytes.length - done);
        let value = 0;
        for (let byte = 0; byte < width; byte++) value |= (bytes[done + byte] ?? 0) << (8 * byte);
        await userWriteConfig(pdev, offset + done, width, value >>> 0);
        done += width;
      }
    },
  };
}
