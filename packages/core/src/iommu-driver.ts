/**
 * What a container asks of an IOMMU driver: a driver makes a backend when SET_IOMMU chooses it, and the backend then
 * owns the mappings of the container. Type1 and the no-IOMMU driver implement these interfaces; the container knows
 * nothing else about either.
 */
import type { AddressSpace, IoctlCall, IommuDomain, IommuGroup, Module, Process } from '@vfio/host';

/**
 * How a group reaches memory: through hardware translation, through pins that its emulated devices ask for, or with no
 * translation at all.
 *
 * @source drivers/vfio/vfio.h enum vfio_group_type
 */
export type GroupType = 'iommu' | 'emulated-iommu' | 'no-iommu';

/**
 * The one thing that a backend needs to know of a device: how to tell it that an IOVA range is going away.
 *
 * @source include/linux/vfio.h struct vfio_device_ops.dma_unmap
 */
export interface DmaUnmapListener {
  /**
   * A mapping with pinned pages is about to be removed; the device must unpin what it pinned there.
   *
   * @param iova - first byte of the whole mapping
   * @param length - bytes of the whole mapping
   */
  dmaUnmap?(iova: bigint, length: bigint): void | Promise<void>;
}

/**
 * A page of a process that stays where it is until it is unpinned. Belongs to the backend that made it: the device gives
 * it back through `unpinPages` and does not keep the bytes beyond that.
 *
 * @source drivers/vfio/vfio_main.c vfio_pin_pages()
 */
export interface PinnedPage {
  /** IOVA of the page's first byte. */
  readonly iova: bigint;
  /** Page frame number. */
  readonly pfn: number;
  /** The page itself, 4096 bytes, no copy. */
  readonly bytes: Uint8Array;
}

/**
 * A driver that containers can choose with SET_IOMMU.
 *
 * @source drivers/vfio/vfio.h struct vfio_iommu_driver_ops
 */
export interface IommuDriver {
  /** The kernel's name, e.g. `vfio-iommu-type1`. */
  readonly name: string;
  /** Held while the driver is set on a container; absent for one that is built in. */
  readonly module?: Module;
  /**
   * Makes the backend of one container.
   *
   * @param arg - the argument of SET_IOMMU, one that `checkExtension` answered with a positive number
   * @param caller - the process inside SET_IOMMU
   * @returns a backend that the container owns until `release`
   * @throws EINVAL - `arg` is not a kind this driver provides
   * @throws EPERM - the caller lacks the capability the driver asks for
   */
  open(arg: number, caller: Process): IommuBackend;
  /**
   * CHECK_EXTENSION of a container that has no driver yet.
   *
   * @param arg - extension number
   * @returns positive when supported, else 0
   */
  checkExtension(arg: number): number;
}

/**
 * The mappings of one container. The container calls `attachGroup` and `detachGroup` in pairs and `release` once, last,
 * when no group is left.
 *
 * @source drivers/vfio/vfio.h struct vfio_iommu_driver_ops
 */
export interface IommuBackend {
  /** CHECK_EXTENSION of the container while this backend is set: positive when supported, else 0. May wait for its lock. */
  checkExtension(arg: number): number | Promise<number>;
  /**
   * Any request of the container that the container does not answer itself.
   *
   * @returns the result of the system call, never negative
   * @throws ENOTTY - the request is unknown
   */
  ioctl(call: IoctlCall): Promise<number>;
  /** Gives the devices of a group access to the mappings. Throws the errno and leaves everything as it was. */
  attachGroup(group: IommuGroup, type: GroupType): Promise<void>;
  /** Takes the access away; a group that is not attached is ignored. */
  detachGroup(group: IommuGroup): Promise<void>;
  /** Gives back whatever the backend still holds. */
  release(): Promise<void>;
  /** Enters a device in the list of those that hear about IOVA going away. Present together with `unregisterDevice`. */
  registerDevice?(device: DmaUnmapListener): void | Promise<void>;
  /** Takes the device from that list; waits for a notification under way. */
  unregisterDevice?(device: DmaUnmapListener): void | Promise<void>;
  /**
   * Pins pages for an emulated device.
   *
   * @param group - the group of the device
   * @param iova - first byte; the offset within its page is ignored
   * @param npage - pages
   * @param prot - bits of `Prot`: the access that each mapping must allow
   * @returns one entry per page, in order; all or nothing
   */
  pinPages?(group: IommuGroup, iova: bigint, npage: number, prot: number): Promise<PinnedPage[]>;
  /** Drops one pin of each page; stops at the first page that is not mapped. */
  unpinPages?(iova: bigint, npage: number): Promise<void>;
  /**
   * Copies between `bytes` and the memory behind an IOVA, as the CPU.
   *
   * @param write - true: from `bytes` to memory
   * @param caller - address space of the running task; undefined for a kernel thread, which borrows the mapping's
   */
  dmaRw?(iova: bigint, bytes: Uint8Array, write: boolean, caller?: AddressSpace): Promise<void>;
  /**
   * The hardware domain a group is attached to.
   *
   * @throws ENODEV - the group has none, or is not attached
   */
  groupDomain?(group: IommuGroup): Promise<IommuDomain> | IommuDomain;
}
