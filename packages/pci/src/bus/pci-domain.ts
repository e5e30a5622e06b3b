/*
 * A domain: everything below one host bridge, with the address windows that it passes on.
 */
import type { Device, Host } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import type { PciRoot } from './function.js';
import type { PciBus } from './pci-bus.js';
import type { ResourceTree } from './resource-tree.js';

/**
 * A host bridge.
 *
 * @source include/linux/pci.h struct pci_host_bridge
 */
export interface PciDomain {
  readonly number: number;
  readonly type: PciBusType;
  readonly host: Host;
  readonly root: PciRoot;
  /** `pci0000:00`, the directory that everything is below. */
  readonly bridge: Device;
  readonly rootBus: PciBus;
  /** Who has which memory and ports, in the windows of the host bridge. */
  readonly memory: ResourceTree;
  readonly io: ResourceTree;
}
