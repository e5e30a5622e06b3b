/*
 * What displays of Intel have beside their BARs: the OpRegion and copies of the bridges' config spaces. None of it is there yet,
 * so that each display is one without an OpRegion, which opens all the same.
 */
import type { PciCoreDevice } from './core-device.js';
import { failure } from './pci-failure.js';

/**
 * Adds the regions of an Intel display to a device that is being opened.
 *
 * @throws ENODEV - it has no OpRegion
 * @source drivers/vfio/pci/vfio_pci_igd.c vfio_pci_igd_init()
 */
export function igdInit({ pdev }: PciCoreDevice): void {
  throw failure('ENODEV', pdev, 'it has no OpRegion', 'vfio_pci_igd_init');
}
