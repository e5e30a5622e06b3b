/*
 * PCI drivers: the table of what they drive, the ids that administrators add to it, and the match.
 */
import { Driver, type Module } from '@vfio/host';
import type { PciBusType } from './bus-type.js';
import type { PciDev } from './pci-dev.js';

/** Matches any value. Source: include/linux/mod_devicetable.h PCI_ANY_ID */
export const PCI_ANY_ID = 0xffff_ffff;

/** What a driver drives. Source: include/linux/mod_devicetable.h struct pci_device_id */
export interface PciDeviceId {
  readonly vendor: number;
  readonly device: number;
  readonly subvendor: number;
  readonly subdevice: number;
  /** 24 bits, compared under `classMask`. */
  readonly class: number;
  readonly classMask: number;
  /** It matches only a device whose driver_override names the driver. */
  readonly overrideOnly?: boolean;
}

/** How a driver answers to an error. Source: include/linux/pci.h pci_ers_result_t */
export type ErsResult = 'none' | 'can-recover' | 'need-reset' | 'disconnect' | 'recovered' | 'no-aer-driver';

/** The state of a function's link after an error. Source: include/linux/pci.h pci_channel_state_t */
export type ChannelState = 'normal' | 'frozen' | 'perm-failure';

/** What a driver is told about errors and resets. Source: include/linux/pci.h struct pci_error_handlers */
export interface PciErrorHandlers {
  errorDetected?(pdev: PciDev, state: ChannelState): ErsResult | Promise<ErsResult>;
  mmioEnabled?(pdev: PciDev): ErsResult | Promise<ErsResult>;
  slotReset?(pdev: PciDev): ErsResult | Promise<ErsResult>;
  resetPrepare?(pdev: PciDev): void | Promise<void>;
  resetDone?(pdev: PciDev): void | Promise<void>;
  resume?(pdev: PciDev): void | Promise<void>;
}

/** What a PCI driver is made of. */
export interface PciDriverOptions {
  readonly name: string;
  readonly bus: PciBusType;
  readonly module?: Module;
  readonly idTable?: readonly PciDeviceId[];
  /** @param id - the entry that matched */
  probe(pdev: PciDev, id: PciDeviceId): void | Promise<void>;
  remove?(pdev: PciDev): void | Promise<void>;
  /**
   * Somebody writes `sriov_numvfs`.
   *
   * @returns how many virtual functions there are now
   */
  sriovConfigure?(pdev: PciDev, count: number): number | Promise<number>;
  readonly errHandler?: PciErrorHandlers;
  /** DMA is for others (`driver_managed_dma`): the bus claims nothing. */
  readonly managesDma?: boolean;
}

/** A PCI driver. Source: include/linux/pci.h struct pci_driver */
export class PciDriver extends Driver {
  readonly pci: PciDriverOptions;

  constructor(options: PciDriverOptions) {
    const { name, bus, module, managesDma = false } = options;
    super({ name, bus, managesDma, ...(module ? { module } : {}) });
    this.pci = options;
  }
}

/** Makes a driver known, with `new_id` and `remove_id`. Source: drivers/pci/pci-driver.c __pci_register_driver() */
export async function registerDriver(driver: PciDriver): Promise<void> {
  await driver.pci.bus.host.devices.driverRegister(driver);
}

/** Takes it back. Source: drivers/pci/pci-driver.c pci_unregister_driver() */
export async function unregisterDriver(driver: PciDriver): Promise<void> {
  await driver.pci.bus.host.devices.driverUnregister(driver);
}

/**
 * Adds an id to a driver that runs, and offers it devices.
 *
 * @throws EEXIST, ENOMEM
 * @source drivers/pci/pci-driver.c pci_add_dynid()
 */
export async function addDynid(_driver: PciDriver, _id: PciDeviceId): Promise<void> {
  throw new TypeError('to come');
}

/** The driver of a function, if it is a PCI driver. */
export function pciDriverOf(pdev: PciDev): PciDriver | undefined {
  return pdev.driver instanceof PciDriver ? pdev.driver : undefined;
}
