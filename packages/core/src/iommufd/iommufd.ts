/**
 * iommufd on one host: the switches it was built with, its module's parameter, and what users have locked through it.
 */
import type { Device, Host } from '@vfio/host';
import { LockedByUser } from './accounting.js';

/** What an IOMMU driver tells about the hardware behind a device. Source: include/linux/iommu.h struct iommu_ops hw_info */
export interface HwInfo {
  /** An `IommuHwInfoType`, not NONE. */
  readonly type: number;
  /** The bytes of the struct that belongs to the type. */
  readonly data: Uint8Array;
}

/** What the host does not know of its hardware. */
export interface IommufdHardware {
  /** Whether a device and its IOMMU can use ATS; without it none can. */
  readonly atsSupported?: (device: Device) => boolean;
  /** What GET_HW_INFO answers for a device; without it the type is NONE. */
  readonly hwInfo?: (device: Device) => HwInfo | undefined;
}

/** What the kernel was built with, and its hardware. */
export interface IommufdOptions extends IommufdHardware {
  /** CONFIG_VFIO_NOIOMMU: the compat requests know VFIO_NOIOMMU_IOMMU. Off by default. */
  readonly noiommu?: boolean;
  /** CONFIG_IOMMUFD_VFIO_CONTAINER: iommufd also serves /dev/vfio/vfio. Off by default. */
  readonly vfioContainer?: boolean;
}

/** iommufd on a host. Two of them know nothing of each other. */
export class Iommufd {
  readonly host: Host;
  readonly options: IommufdOptions;
  /** @internal pages that each user has pinned */
  readonly lockedByUser = new LockedByUser();

  constructor(host: Host, options: IommufdOptions = {}) {
    this.host = host;
    this.options = options;
  }

  /** Whether devices may be bound whose interrupts are not isolated: the module's parameter, read anew each time. */
  get allowUnsafeInterrupts(): boolean {
    return this.host.modules.get('iommufd')?.paramOf('allow_unsafe_interrupts', 'bool') === true;
  }
}
