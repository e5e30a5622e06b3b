// What the core keeps about a device and drivers have no business with.

import type { Completion, Device, Module, RefCount, SysfsDir, Tracked } from '@vfio/host';
import type { DeviceBackend } from './backend.js';
import type { EmulatedBinding } from './iommufd-emulated.js';
import type { PhysicalBinding } from './iommufd-physical.js';
import type { PseudoInode } from './pseudo-fs.js';
import type { Vfio } from './vfio.js';

/** What the first open took, so that the last close gives back just that. */
export interface OpenState {
  readonly backend: DeviceBackend;
  /** The driver's module. */
  readonly module: Module | undefined;
}

/** The core's part of `struct vfio_device`. Nothing is ever deleted from it: an object that loses a field is slow for life. */
export interface DeviceRecord {
  readonly vfio: Vfio;
  readonly dev: Device;
  readonly index: number;
  /** `vfioN`. */
  readonly name: string;
  readonly device: Device;
  readonly inode: PseudoInode;
  /** Registration references: one for being registered, one for each file and each `tryGetRegistration`. */
  readonly registration: RefCount;
  /** Those of `tryGetRegistration`, oldest first, for the report of one that nobody gives back. */
  users?: Tracked[];
  /** Fires when the last registration reference went. */
  readonly unregistered: Completion;
  /** Whether the core or the owner of a pre-allocated structure ends the object's life. */
  readonly ownedBy: 'core' | 'owner';
  readonly tracked: Tracked;
  /** Resolves when `release` has run; set when the last object reference goes. */
  releasing?: Promise<void>;
  /** The older model has none to call. */
  withoutRelease: boolean;
  /** While the driver's `release` runs. */
  inRelease: boolean;
  /** Set by `freeDevice` inside `release`: where that was. */
  freedBy?: string;
  opened?: OpenState | undefined;
  /** What a driver of hardware bound to an iommufd. */
  physical?: PhysicalBinding | undefined;
  /** What a driver of an emulated device bound to one. */
  emulated?: EmulatedBinding | undefined;
  /** It was opened through its own node. */
  cdevOpened: boolean;
  /** In debugfs, while it is registered. */
  debugRoot: SysfsDir | undefined;
}
