/*
 * A PCI function as drivers see it: what enumeration read of it, its resources, and what the services of the bus keep about
 * it. The services themselves are functions, one file for each concern beside this one, named as in the kernel without `pci_`.
 */
import {
  type AttributeGroup,
  Device,
  type DeviceOptions,
  type Host,
  type IrqLine,
  type RuntimePm,
  type RuntimePmOps,
} from '@vfio/host';
import type { AerState } from './aer-state.js';
import type { PciFunction } from './function.js';
import type { IntxWire } from './intx-routing.js';
import type { SriovState } from './iov.js';
import type { MsiState } from './msi.js';
import type { PciBus, PciSlot } from './pci-bus.js';
import type { PciDevPort } from './port.js';
import { runtimePmInit } from './power.js';
import type { PowerState } from './power-state.js';
import { CFG_SPACE_SIZE, HeaderType, ResourceIndex } from './regs.js';
import type { ResetMethod, SpecificReset } from './reset-methods.js';
import { Resource } from './resource-tree.js';
import type { SavedState } from './state.js';

/** What enumeration has read before the device exists. */
export interface PciDevParts {
  readonly bus: PciBus;
  readonly devfn: number;
  readonly hw: PciFunction;
  readonly device: DeviceOptions;
}

/**
 * A function of a device.
 *
 * @source include/linux/pci.h struct pci_dev
 */
export class PciDev extends Device {
  readonly pciBus: PciBus;
  readonly devfn: number;
  /** The hardware. Services use it; drivers use the services. */
  readonly hw: PciFunction;
  /** The bus below it, if it is a bridge. */
  subordinate: PciBus | undefined;
  slot: PciSlot | undefined;

  vendor = 0xffff;
  deviceId = 0xffff;
  subsystemVendor = 0;
  subsystemDevice = 0;
  /** 24 bits: base class, subclass, programming interface. */
  classCode = 0;
  revision = 0;
  /** `HeaderType`, without the multifunction bit. */
  hdrType: number = HeaderType.NORMAL;
  multifunction = false;
  cfgSize = CFG_SPACE_SIZE;
  /** Interrupt pin, 1 to 4; 0: none. */
  pin = 0;
  /** The number that its interrupt has: of the pin's line, or of its vector 0 while MSI is enabled; 0: none. */
  irq = 0;
  /** The pin's line; several functions may have the same. */
  irqLine: IrqLine | undefined;

  /** Where its pin leads; undefined: nowhere. */
  intxWire: IntxWire | undefined;
  /** Its hardware's side of the bus, while it is in the machine. */
  port: PciDevPort | undefined;

  /** Offsets of capabilities; 0: it has none. */
  pmCap = 0;
  pcieCap = 0;
  msiCap = 0;
  msixCap = 0;
  afCap = 0;
  /** The flags register of its PCI Express capability. */
  pcieFlags = 0;

  /** By `ResourceIndex`: BARs, ROM, SR-IOV BARs, windows of a bridge. One that is not there has no flags. */
  readonly resource: Resource[] = Array.from({ length: ResourceIndex.COUNT }, () => new Resource('', 0, 0));

  /** @internal its files, made when it is added */
  sysfsGroups: readonly AttributeGroup[] | undefined;
  /** Drivers may have it: enumeration is done with it. */
  matchDriver = false;
  /** Its hardware has parity errors that nobody should act on, says an administrator. */
  brokenParityStatus = false;
  /** It may not use message signalled interrupts. */
  noMsi = false;
  /** Bits of addresses that it can reach, as its driver said. */
  dmaMaskBits = 32;
  coherentDmaMaskBits = 32;
  /** How often it is enabled. */
  enableCnt = 0;
  isBusmaster = false;
  currentState: PowerState | 'unknown' = 'unknown';
  /** Its pin's disable bit can not be used to mask. */
  brokenIntxMasking = false;
  /** It has no memory bit in its command register (a virtual function). */
  noCommandMemory = false;
  /** Its BARs may be neither mapped nor accessed. */
  nonMappableBars = false;
  /** Saved by `saveState`, and not yet restored. */
  stateSaved = false;
  savedState: SavedState | undefined;
  override pm: RuntimePm;
  /** What its driver does around a suspend at runtime. Differs: Linux has this in the driver, and VFIO's changes it there. */
  runtimeOps: RuntimePmOps | undefined;
  /** Power may be taken from it in D3, says an administrator. */
  d3coldAllowed = true;
  /** A reset that only its kind knows; set before it is added. */
  specificReset: SpecificReset | undefined;
  /** Reset methods that it has, in the order in which they are tried; administrators may change it. */
  resetMethods: readonly ResetMethod[] = [];
  msi: MsiState | undefined;
  sriov: SriovState | undefined;
  aer: AerState | undefined;
  /** What the control register of its PASID capability has to be, bits of `Pasid`; 0: it tags nothing. */
  pasidControl = 0;
  isPhysfn = false;
  isVirtfn = false;
  /** Of a virtual function: the physical one. */
  physfn: PciDev | undefined;
  /** It was unplugged: configuration reads give all ones. */
  disconnected = false;
  /** Configuration accesses of users wait: a reset is under way. */
  cfgBlocked: Promise<void> | undefined;

  constructor({ bus, devfn, hw, device }: PciDevParts) {
    super(device);
    this.pciBus = bus;
    this.devfn = devfn;
    this.hw = hw;
    this.cfgSize = hw.configSize;
    this.pm = runtimePmInit(this);
  }

  /** The host that it is on. */
  get pciHost(): Host {
    return this.pciBus.domain.host;
  }

  /** Bus, device and function in 16 bits. */
  get rid(): number {
    return (this.pciBus.number << 8) | this.devfn;
  }

  /** Whether it is a PCI Express function. Source: include/linux/pci.h pci_is_pcie() */
  get isPcie(): boolean {
    return this.pcieCap !== 0;
  }

  /** `ExpType`. */
  get pcieType(): number {
    return (this.pcieFlags >> 4) & 0xf;
  }

  /** Whether it is a bridge with a bus below. Source: include/linux/pci.h pci_is_bridge() */
  get isBridge(): boolean {
    return this.hdrType === HeaderType.BRIDGE;
  }
}

/** Whether a device is a PCI function. Source: include/linux/pci.h dev_is_pci() */
export function isPciDev(dev: Device | undefined): dev is PciDev {
  return dev instanceof PciDev;
}
