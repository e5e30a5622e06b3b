/*
 * The module `vfio_pci_core`: nothing of its own, but what all drivers on it depend on.
 */
import type { Host } from '@vfio/host';

/**
 * Makes module `vfio_pci_core` known to a host. Every package that needs it may say so.
 *
 * @source drivers/vfio/pci/vfio_pci_core.c
 */
export function defineVfioPciCore(host: Host): void {
  if (host.modules.known().includes('vfio_pci_core')) return;
  host.modules.define({ name: 'vfio_pci_core', depends: ['vfio'], importNs: ['DMA_BUF'], init: () => {} });
}
