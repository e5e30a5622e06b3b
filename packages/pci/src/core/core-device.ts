/*
 * The device of every VFIO driver for PCI functions: `vfio-pci` itself and the vendors' drivers are subclasses. What it does
 * stands in the other files of this folder, by concern; here is what it consists of, and which operation is where. A subclass
 * overrides what it does differently and calls `super` for the rest.
 */
import {
  type FeatureCall,
  type InfoCap,
  type IommufdContext,
  iommufdPhysicalAttachIoas,
  iommufdPhysicalBind,
  iommufdPhysicalDetachIoas,
  iommufdPhysicalPasidAttachIoas,
  iommufdPhysicalPasidDetachIoas,
  iommufdPhysicalUnbind,
  type RegionInfo,
  VfioDevice,
} from '@vfio/core';
import {
  type ErrnoCode,
  type EventFd,
  type IoctlCall,
  type Mapping,
  type MmapRequest,
  Mutex,
  RwLock,
  type UserBuffer,
} from '@vfio/host';
import type { PciDev } from '../bus/pci-dev.js';
import type { Resource } from '../bus/resource-tree.js';
import type { BarMapping } from '../bus/resources.js';
import type { StoredState } from '../bus/state.js';
import { coreCloseDevice } from './close.js';
import type { ConfigView } from './config/view.js';
import { DmaBufs } from './dma-buf.js';
import { openDevice } from './enable.js';
import { coreRequest } from './events.js';
import { coreIoctlFeature } from './feature.js';
import { coreIoctl } from './ioctl.js';
import { Ioeventfds } from './ioeventfd.js';
import { IrqState } from './irqs/irq-state.js';
import { corePm } from './power.js';
import type { IoRange } from './regions/bar-access.js';
import type { DeviceRegion } from './regions/device-region.js';
import { getRegionInfo } from './regions/info.js';
import { coreMmap } from './regions/mmap.js';
import { coreRead, coreWrite } from './regions/rw.js';
import { coreMatch, coreMatchTokenUuid } from './token-match.js';
import type { VfToken } from './vf-token.js';

/** What a driver decides for its devices when they are made; latched for their life. */
export interface PciCoreOptions {
  /** Interrupt pins are not masked in the function: its line must be exclusive. */
  readonly nointxmask: boolean;
  /** An unused function is not suspended. */
  readonly disableIdleD3: boolean;
  /** Legacy VGA addresses are not offered. */
  readonly disableVga: boolean;
}

/** What a vendor's driver has. */
export const defaultPciCoreOptions: PciCoreOptions = { nointxmask: false, disableIdleD3: false, disableVga: false };

/** A BAR that was mapped at open, or why it could not be. */
export type BarMap = (BarMapping & Disposable) | ErrnoCode | undefined;

/**
 * A PCI function in VFIO.
 *
 * @source include/linux/vfio_pci_core.h struct vfio_pci_core_device
 */
export abstract class PciCoreDevice extends VfioDevice {
  /** What tells it from other devices, whichever copy of this package made it. */
  readonly isPciCore = true;
  readonly pdev: PciDev;
  readonly options: PciCoreOptions;

  /** Readers access BARs; writers change whether they answer. */
  readonly memoryLock: RwLock;
  /** Held while interrupts are configured. */
  readonly igate: Mutex;

  /** BARs, while the device is open. */
  readonly barmap: BarMap[] = [undefined, undefined, undefined, undefined, undefined, undefined];
  /** How their registers are accessed: of those that are mapped. */
  readonly barIo: (IoRange | undefined)[] = [undefined, undefined, undefined, undefined, undefined, undefined];
  readonly barMmapSupported: boolean[] = [false, false, false, false, false, false];
  /** What fills the pages of small BARs, so that nobody else gets mapped with them. */
  readonly dummyResources: Resource[] = [];
  /** Config space as the user sees it, while the device is open. */
  config: ConfigView | undefined;
  /** Regions from index 9 on. */
  readonly regions: DeviceRegion[] = [];
  readonly irqs: IrqState;
  /** The user has disabled the interrupt pin in the command register. */
  virqDisabled = false;
  /** The function can mask its interrupt pin itself. */
  pci23 = false;
  /** Its interrupt pin must never be used. */
  nointx = false;
  /** MSI-X table: its BAR, 0xff without one; where it starts there, and its bytes. */
  msixBar = 0xff;
  msixOffset = 0;
  msixSize = 0;
  hasDynMsix = false;
  hasVga = false;
  resetWorks = false;
  /** It was not reset since it was used. */
  needsReset = false;
  /** It forgets its state on the way from D3 to D0. */
  needsPmRestore = false;
  /** A low power state was asked for by feature. */
  pmRuntimeEngaged = false;
  /** Suspend has masked the interrupt pin. */
  pmIntxMasked = false;
  pmWakeEventfd: EventFd | undefined;
  /** Its state at open, for the close. */
  pciSavedState: StoredState | undefined;
  /** Its state before D3hot. */
  pmSave: StoredState | undefined;
  readonly ioeventfds: Ioeventfds;
  readonly dmabufs: DmaBufs;
  /** Whether BARs can be given to other devices as buffers: what a driver says before it registers. */
  exportsDmaBufs = false;
  /** Of a physical function: what opens it. */
  vfToken: VfToken | undefined;
  /** Of a virtual function whose physical one is in VFIO too. */
  sriovPfCoreDev: PciCoreDevice | undefined;
  /** Virtual functions are made by this driver, or were: no others may come. */
  sriovListed = false;
  /** Virtual functions were made by this driver. */
  sriovActive = false;

  constructor(pdev: PciDev, options: PciCoreOptions = defaultPciCoreOptions) {
    super();
    const { pciHost } = pdev;
    this.pdev = pdev;
    this.options = options;
    this.memoryLock = new RwLock(pciHost, 'vfio_pci.memory_lock');
    this.igate = new Mutex(pciHost, 'vfio_pci.igate');
    this.irqs = new IrqState(this);
    this.ioeventfds = new Ioeventfds(this);
    this.dmabufs = new DmaBufs(this);
    this.runtimePm = corePm(pdev);
  }

  /**
   * @throws ENOMEM
   * @source drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_init_dev()
   */
  override init(): void | Promise<void> {
    this.pdev.pciHost.faults.check('pcim_p2pdma_init:p2p');
  }

  /** Source: drivers/vfio/pci/vfio_pci_core.c vfio_pci_core_release_dev() */
  override release(): void {
    this.regions.length = 0;
    this.pmSave = undefined;
  }

  /** What a driver does that adds nothing to it. */
  override openDevice(): Promise<void> {
    return openDevice(this);
  }

  override closeDevice(): Promise<void> {
    return coreCloseDevice(this);
  }

  override ioctl(call: IoctlCall): number | Promise<number> {
    return coreIoctl(this, call);
  }

  override deviceFeature(call: FeatureCall): number | Promise<number> {
    return coreIoctlFeature(this, call);
  }

  override getRegionInfoCaps(info: RegionInfo, caps: InfoCap): Promise<void> {
    return getRegionInfo(this, info, caps);
  }

  override read(buffer: UserBuffer, position: number): number | Promise<number> {
    return coreRead(this, buffer, position);
  }

  override write(buffer: UserBuffer, position: number): number | Promise<number> {
    return coreWrite(this, buffer, position);
  }

  override mmap(request: MmapRequest): Mapping {
    return coreMmap(this, request);
  }

  override request(count: number): void {
    coreRequest(this, count);
  }

  override match(name: string): Promise<boolean> {
    return coreMatch(this, name);
  }

  override matchTokenUuid(uuid: Uint8Array | undefined): Promise<void> {
    return coreMatchTokenUuid(this, uuid);
  }

  override bindIommufd(context: IommufdContext): Promise<number> {
    return iommufdPhysicalBind(this, context);
  }

  override unbindIommufd(): Promise<void> {
    return iommufdPhysicalUnbind(this);
  }

  override attachIoas(ptId: number): Promise<number> {
    return iommufdPhysicalAttachIoas(this, ptId);
  }

  override detachIoas(): Promise<void> {
    return iommufdPhysicalDetachIoas(this);
  }

  override pasidAttachIoas(pasid: number, ptId: number): Promise<number> {
    return iommufdPhysicalPasidAttachIoas(this, pasid, ptId);
  }

  override pasidDetachIoas(pasid: number): Promise<void> {
    return iommufdPhysicalPasidDetachIoas(this, pasid);
  }
}
