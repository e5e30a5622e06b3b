/*
 * What debugfs shows of a device's latched parameters: /sys/kernel/debug/vfio/<device>/pci/. It goes with the device's directory.
 */
import { isSystemError } from '@vfio/host';
import type { PciCoreDevice } from './core-device.js';

/**
 * Adds the directory, where there is one to add it to. Without it everything goes on.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_debugfs_init()
 */
export function debugfsInit({ record, options, pdev }: PciCoreDevice): void {
  const { debugfs, log } = pdev.pciHost;
  try {
    const directory = record?.debugRoot?.mkdir('pci');
    if (!directory) return;
    debugfs.addText(directory, 'nointxmask', () => yesNo(options.nointxmask));
    debugfs.addText(directory, 'disable_idle_d3', () => yesNo(options.disableIdleD3));
  } catch (error) {
    if (!isSystemError(error)) throw error;
    log.err(`debugfs: ${error.message}`, pdev.name);
  }
}

function yesNo(value: boolean): string {
  return value ? 'Y\n' : 'N\n';
}
