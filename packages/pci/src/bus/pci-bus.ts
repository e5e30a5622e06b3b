/*
 * Buses and slots, as enumeration found them. A bus is what shares wires: functions that are reset together.
 */
import type { Device } from '@vfio/host';
import type { PciSegment } from './function.js';
import type { PciDev } from './pci-dev.js';
import type { PciDomain } from './pci-domain.js';

/**
 * A bus of a domain.
 *
 * @source include/linux/pci.h struct pci_bus
 */
export class PciBus {
  readonly domain: PciDomain;
  readonly number: number;
  /** Highest bus number below it. */
  subordinate: number;
  /** The bridge above; undefined on a root bus. */
  readonly self: PciDev | undefined;
  readonly segment: PciSegment;
  /** Functions, in the order of their numbers; virtual functions behind them. */
  readonly devices: PciDev[] = [];
  /** The buses below it. */
  readonly children: PciBus[] = [];
  /** What is below may have 256 functions in one slot: the bridge above routes them so. */
  ariEnabled = false;
  /** `pci_bus/0000:00`, below the bridge above or the host bridge. */
  dev: Device | undefined;
  /** Slots that a hotplug driver has registered. */
  readonly slots: PciSlot[] = [];

  constructor(domain: PciDomain, number: number, segment: PciSegment, self?: PciDev) {
    this.domain = domain;
    this.number = number;
    this.subordinate = number;
    this.segment = segment;
    this.self = self;
  }

  /** The bus above. */
  get parent(): PciBus | undefined {
    return this.self?.pciBus;
  }

  /** Whether it hangs on the host bridge. Source: include/linux/pci.h pci_is_root_bus() */
  get isRoot(): boolean {
    return this.self === undefined;
  }

  /** The function at a devfn. Source: drivers/pci/search.c pci_get_slot() */
  device(devfn: number): PciDev | undefined {
    return this.devices.find((dev) => dev.devfn === devfn);
  }
}

/** What a hotplug driver can do with a slot. */
export interface HotplugSlot {
  /**
   * Resets what is in the slot.
   *
   * @param probe - only says whether it could
   * @throws ENOTTY - it can not
   */
  resetSlot(probe: boolean): void | Promise<void>;
  /**
   * Somebody writes the slot's file `power`. Absent: EINVAL.
   *
   * @param on - finds what is in the slot; else takes it off the bus
   */
  switchSlot?(on: boolean): void | Promise<void>;
}

/**
 * A slot: the functions of one device number that a hotplug driver looks after.
 *
 * @source include/linux/pci.h struct pci_slot
 */
export class PciSlot {
  readonly bus: PciBus;
  /** Device number. */
  readonly number: number;
  readonly name: string;
  readonly hotplug: HotplugSlot | undefined;

  constructor(bus: PciBus, number: number, name: string, hotplug?: HotplugSlot) {
    this.bus = bus;
    this.number = number;
    this.name = name;
    this.hotplug = hotplug;
  }
}
