/*
 * Functions that no program may drive: they do not keep DMA within bounds when they are used wrongly.
 */
import type { PciDev } from './bus/pci-dev.js';

const INTEL = 0x8086;
/** QuickAssist, data streaming and analytics accelerators. Source: drivers/vfio/pci/vfio_pci.c vfio_pci_dev_in_denylist() */
const denied: ReadonlySet<number> = new Set([0x0435, 0x0443, 0x0b25, 0x0cfe, 0x19e2, 0x19e3, 0x37c8, 0x37c9]);

/**
 * Whether a function may not be had.
 *
 * @param disabled - it may, says an administrator; that is logged
 * @source drivers/vfio/pci/vfio_pci.c vfio_pci_is_denylisted()
 */
export function isDenied(pdev: PciDev, disabled: boolean): boolean {
  const { vendor, deviceId, pciHost } = pdev;
  if (vendor !== INTEL || !denied.has(deviceId)) return false;
  const ids = `[${hex(vendor)}:${hex(deviceId)}]`;
  if (disabled) {
    pciHost.log.warn(`device denylist disabled - allowing device ${ids}.`, pdev.logName());
    return false;
  }
  pciHost.log.warn(`${ids} exists in vfio-pci device denylist, driver probing disallowed.`, pdev.logName());
  return true;
}

function hex(id: number): string {
  return id.toString(16).padStart(4, '0');
}
