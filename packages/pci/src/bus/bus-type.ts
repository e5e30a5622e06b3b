/*
 * The bus `pci` of a host: its drivers and domains, and the files in /sys/bus/pci.
 */
import {
  type AttributeGroup,
  Bus,
  Device,
  DeviceClass,
  type Driver,
  DriverData,
  type Host,
  KernelBug,
  Mutex,
  type SysfsDir,
  SystemError,
  Undo,
  WorkQueue,
} from '@vfio/host';
import { assignResources } from './assign-resources.js';
import { busAddDevices } from './bus-add.js';
import { registerBusDevice, scanChildBus, unregisterBusDevice } from './enumerate.js';
import { Firmware } from './firmware.js';
import type { PciRoot } from './function.js';
import { iommuPlace } from './groups.js';
import { removeBusDevice } from './hotplug.js';
import { IntxWire } from './intx-routing.js';
import type { PciBus } from './pci-bus.js';
import { isPciDev, type PciDev } from './pci-dev.js';
import { PciDomain } from './pci-domain.js';
import { matchDevice, PciDriver, probeDevice, removeDevice } from './pci-driver.js';
import { registerPortDriver } from './portdrv.js';
import { busGroups, busRescanGroup, driverGroups, pciBusGroups } from './sysfs-bus.js';
import { functionGroups } from './sysfs-function.js';
import { addUeventVars } from './uevent.js';
import { VgaArbiter } from './vga.js';

/** The bus of all PCI functions of a host. Source: drivers/pci/pci-driver.c pci_bus_type */
export class PciBusType extends Bus {
  readonly host: Host;
  readonly domains: PciDomain[] = [];
  /** @internal use `setDrvdata` and `getDrvdata` */
  readonly drvdata = new DriverData<object>();
  /** Held while functions come or go. Source: drivers/pci/probe.c pci_rescan_remove_lock */
  readonly rescanRemove: Mutex;
  /** Recovers from errors that functions report. */
  readonly aerQueue: WorkQueue;
  /** @internal use the functions of `vga.ts` */
  readonly vga = new VgaArbiter();
  readonly #wires = new Map<number, IntxWire>();
  #busClass: DeviceClass | undefined;
  #slotsDir: SysfsDir | undefined;
  #iommuWatch: Disposable | undefined;
  #boundWatch: Disposable | undefined;
  #firmware: Firmware | undefined;

  constructor(host: Host) {
    super({
      name: 'pci',
      driverOverride: true,
      match: (dev, drv) => isPciDev(dev) && drv instanceof PciDriver && matchDevice(drv, dev) !== undefined,
      probe: async (dev, drv) => await probeDevice(pciDev(dev), pciDriver(drv)),
      remove: async (dev, drv) => await removeDevice(pciDev(dev), pciDriver(drv)),
      dmaConfigure: (dev, drv) => {
        if (!drv.managesDma) host.iommu.useDefaultDomain(dev);
      },
      dmaCleanup: (dev) => {
        if (dev.driver && !dev.driver.managesDma) host.iommu.unuseDefaultDomain(dev);
      },
      uevent: (dev, env) => addUeventVars(pciDev(dev), env),
      groups: busGroups(() => this),
      driverGroups: (drv) => driverGroups(pciDriver(drv)),
    });
    this.host = host;
    this.rescanRemove = new Mutex(host, 'pci_rescan_remove_lock');
    this.aerQueue = new WorkQueue(host, 'aerdrv');
  }

  /** Class `pci_bus`, of the buses themselves. */
  get busClass(): DeviceClass {
    return registered(this.#busClass);
  }

  /** /sys/bus/pci/slots */
  get slotsDir(): SysfsDir {
    return registered(this.#slotsDir);
  }

  /**
   * Makes bus, class and the driver of ports visible.
   *
   * @throws EEXIST, ENOMEM
   * @source drivers/pci/pci-driver.c pci_driver_init(), drivers/pci/probe.c pcibus_class_init()
   */
  async register(): Promise<void> {
    const { devices, iommu } = this.host;
    await using undo = new Undo();
    // The IOMMU's driver comes first, as the devices find their units by it.
    await this.host.iommuSysfs.addUnits();
    await devices.busRegister(this);
    undo.add(() => devices.busUnregister(this));
    this.#slotsDir = registered(this.record).sysfs.mkdir('slots');
    undo.add(() => this.#slotsDir?.remove());
    const busClass = new DeviceClass(this.host, 'pci_bus', { devGroups: pciBusGroups(this) });
    undo.add(() => busClass.destroy());
    this.#busClass = busClass;
    this.#iommuWatch = iommu.watchBus(this, (dev) => (isPciDev(dev) ? iommuPlace(dev) : undefined));
    undo.add(() => this.#iommuWatch?.[Symbol.dispose]());
    this.#boundWatch = this.subscribe((event, dev) => {
      if (event === 'bound-driver' && isPciDev(dev)) this.#firmware?.bound(dev);
    });
    undo.add(() => this.#boundWatch?.[Symbol.dispose]());
    const portDriver = await registerPortDriver(this);
    undo.add(() => devices.driverUnregister(portDriver));
    undo.keep();
    this.host.atShutdown(async () => {
      for (const domain of [...this.domains].reverse()) await this.removeRoot(domain);
      await this.aerQueue.destroy();
      await devices.driverUnregister(portDriver);
      this.#iommuWatch?.[Symbol.dispose]();
      this.#boundWatch?.[Symbol.dispose]();
      this.#firmware?.destroy();
      for (const wire of this.#wires.values()) wire.free();
      await busClass.destroy();
      this.#slotsDir?.remove();
      await devices.busUnregister(this);
    });
  }

  /**
   * Scans a root: finds its functions, gives them resources and groups, and adds them, drivers included.
   *
   * @throws EEXIST - there is a domain of that number with that bus
   * @throws EBUSY - its windows overlap, or there is memory in one of them
   * @throws ENOMEM
   * @source drivers/pci/probe.c pci_scan_root_bus(), pci_bus_add_devices()
   */
  async addRoot(root: PciRoot): Promise<PciDomain> {
    using _held = await this.rescanRemove.lock();
    if (this.domains.some(({ number, buses }) => number === root.domain && buses.has(root.bus))) {
      throw new SystemError('EEXIST', `domain ${root.domain} has a bus ${root.bus}`, { syscall: 'pci_scan_root_bus' });
    }
    const { devices } = this.host;
    await using undo = new Undo();
    this.host.faults.check('pci_alloc_host_bridge:bridge');
    const bridge = new Device({ name: `pci${hex(root.domain, 4)}:${hex(root.bus, 2)}` });
    const domain = new PciDomain(this, root, bridge);
    devices.init(bridge);
    undo.add(() => bridge.put());
    await devices.add(bridge);
    undo.add(() => devices.del(bridge));
    if (root.acpi) {
      await this.firmware().addRoot(domain);
      undo.add(() => this.#firmware?.removeRoot(domain));
    }
    domain.mmio = domain.addMmio();
    undo.add(() => domain.mmio?.[Symbol.dispose]());
    await registerBusDevice(domain.rootBus);
    undo.add(() => unregisterBusDevice(domain.rootBus));
    undo.add(() => removeFunctions(domain));
    domain.rootBus.subordinate = Math.max(await scanChildBus(domain.rootBus), domain.rootBus.subordinate);
    assignResources(domain.rootBus);
    this.domains.push(domain);
    undo.add(() => void this.domains.splice(this.domains.indexOf(domain), 1));
    await busAddDevices(domain.rootBus);
    undo.keep();
    return domain;
  }

  /** Takes a root out, with everything below. Source: drivers/pci/remove.c pci_stop_root_bus(), pci_remove_root_bus() */
  async removeRoot(domain: PciDomain): Promise<void> {
    using _held = await this.rescanRemove.lock();
    await removeFunctions(domain);
    this.domains.splice(this.domains.indexOf(domain), 1);
    await unregisterBusDevice(domain.rootBus);
    domain.mmio?.[Symbol.dispose]();
    await this.#firmware?.removeRoot(domain);
    await this.host.devices.unregister(domain.bridge);
  }

  /** Finds a function by domain, bus and devfn. Source: drivers/pci/search.c pci_get_domain_bus_and_slot() */
  find(domain: number, bus: number, devfn: number): PciDev | undefined {
    for (const { number, buses } of this.domains) {
      const found = number === domain ? buses.get(bus)?.device(devfn) : undefined;
      if (found) return found;
    }
    return undefined;
  }

  /**
   * @internal what describes functions, on platforms that have it
   * @throws EEXIST, ENOMEM
   */
  firmware(): Firmware {
    this.#firmware ??= new Firmware(this.host);
    return this.#firmware;
  }

  /** @internal files in the directory of a function */
  functionGroups(pdev: PciDev): readonly AttributeGroup[] {
    return functionGroups(pdev);
  }

  /** @internal files in the directory of a bus, beside those of its class */
  busDirGroups(bus: PciBus): readonly AttributeGroup[] {
    return [busRescanGroup(bus)];
  }

  /** @internal the wire of a platform interrupt */
  wire(number: number): IntxWire {
    let wire = this.#wires.get(number);
    if (!wire) {
      wire = new IntxWire(this.host, number);
      this.#wires.set(number, wire);
    }
    return wire;
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
  await type.register();
  return type;
}

async function removeFunctions({ rootBus }: PciDomain): Promise<void> {
  for (let pdev = rootBus.devices.at(-1); pdev; pdev = rootBus.devices.at(-1)) await removeBusDevice(pdev);
}

function pciDev(dev: Device): PciDev {
  if (!isPciDev(dev)) throw new KernelBug('driver', `${dev.name} on bus pci is no PCI function`);
  return dev;
}

function pciDriver(drv: Driver): PciDriver {
  if (!(drv instanceof PciDriver)) throw new KernelBug('driver', `${drv.name} on bus pci is no PCI driver`);
  return drv;
}

function registered<T>(value: T | undefined): T {
  if (value === undefined) throw new KernelBug('driver', 'bus pci is not registered');
  return value;
}

function hex(value: number, digits: number): string {
  return value.toString(16).padStart(digits, '0');
}
