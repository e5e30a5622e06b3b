/*
 * The bus `pci` of a host: its drivers and domains, and the files in /sys/bus/pci.
 */
import { Bus, DriverData, type Host } from '@vfio/host';
import type { PciRoot } from './function.js';
import type { PciDev } from './pci-dev.js';
import type { PciDomain } from './pci-domain.js';

/** The bus of all PCI functions of a host. Source: drivers/pci/pci-driver.c pci_bus_type */
export class PciBusType extends Bus {
  readonly host: Host;
  readonly domains: PciDomain[] = [];
  /** @internal use `setDrvdata` and `getDrvdata` */
  readonly drvdata = new DriverData<object>();

  constructor(host: Host) {
    super({ name: 'pci', driverOverride: true });
    this.host = host;
  }

  /**
   * Scans a root: finds its functions, gives them resources and groups, and adds them, drivers included.
   *
   * @throws EEXIST - there is a domain of that number with that bus
   * @source drivers/pci/probe.c pci_scan_root_bus(), pci_bus_add_devices()
   */
  async addRoot(_root: PciRoot): Promise<PciDomain> {
    throw new TypeError('to come');
  }

  /** Finds a function by domain, bus and devfn. Source: drivers/pci/search.c pci_get_domain_bus_and_slot() */
  find(_domain: number, _bus: number, _devfn: number): PciDev | undefined {
    return undefined;
  }
}

/**
 * The bus `pci` of a host; made and registered on first use.
 *
 * @source drivers/pci/pci-driver.c pci_driver_init()
 */
export async function pciInit(host: Host): Promise<PciBusType> {
  const found = host.devices.findBus('pci');
  if (found instanceof PciBusType) return found;
  const type = new PciBusType(host);
  await host.devices.busRegister(type);
  return type;
}
