// What the kernel was built with: the switches of drivers/vfio/Kconfig, what they are when nobody says, and which of them do
// not go together.

import type { IommufdHardware } from './iommufd/iommufd.js';

/**
 * What the kernel was built with.
 *
 * @source drivers/vfio/Kconfig, drivers/iommu/iommufd/Kconfig
 */
export interface VfioOptions {
  /**
   * CONFIG_VFIO_GROUP: groups, their nodes and their class. On by default; without, every device has a node of its own and
   * nothing else, which needs `iommufd`.
   */
  readonly group?: boolean;
  /** CONFIG_VFIO_CONTAINER: the container node and type1. On by default where there are groups. */
  readonly container?: boolean;
  /**
   * CONFIG_IOMMUFD: module iommufd comes with vfio, groups take an iommufd for a container, and devices must have the
   * operations that bind them to one. Off by default; an object says what its hardware can do.
   */
  readonly iommufd?: boolean | IommufdHardware;
  /**
   * CONFIG_IOMMUFD_VFIO_CONTAINER: iommufd serves /dev/vfio/vfio, and charges as containers do. On by default where there are
   * groups, an iommufd and no `container`.
   */
  readonly iommufdVfioContainer?: boolean;
  /** CONFIG_VFIO_DEVICE_CDEV: each device has a node of its own, which needs `iommufd`. On by default without groups. */
  readonly deviceCdev?: boolean;
  /** CONFIG_VFIO_NOIOMMU: the parameter `enable_unsafe_noiommu_mode` exists. Off by default. */
  readonly noiommu?: boolean;
  /** CONFIG_KVM: virtual machines can be told of devices. On by default. */
  readonly kvm?: boolean;
  /** CONFIG_VFIO_DEBUGFS: a directory for each device in debugfs. On by default. */
  readonly debugfs?: boolean;
  /** CONFIG_IOMMUFD_DRIVER: IOVA bitmaps, without which DMA logging can not report. On by default. */
  readonly iovaBitmap?: boolean;
}

/** A switch that does not go with the others, and what to do. */
export interface OptionConflict {
  readonly option: keyof VfioOptions;
  readonly problem: string;
}

/** The switches with what they are when nobody says. */
export function withDefaults(options: VfioOptions): Required<VfioOptions> {
  const { group = true, container = group, iommufd = false } = options;
  return {
    deviceCdev: !group,
    iommufdVfioContainer: group && !container && iommufd !== false,
    noiommu: false,
    kvm: true,
    debugfs: true,
    iovaBitmap: true,
    ...options,
    group,
    container,
    iommufd,
  };
}

/** The first switch that does not go with the others; undefined if they all do. */
export function optionConflict(options: VfioOptions): OptionConflict | undefined {
  const { group, container, iommufd, iommufdVfioContainer, deviceCdev, noiommu } = withDefaults(options);
  if (!group) {
    if (!iommufd) return { option: 'group', problem: 'without groups, devices need an iommufd: add iommufd: true' };
    if (!deviceCdev) return { option: 'group', problem: 'without groups, devices need nodes: add deviceCdev: true' };
    if (container)
      return { option: 'container', problem: 'containers are made of groups: remove this, or group: false' };
    if (noiommu)
      return { option: 'noiommu', problem: 'devices without an IOMMU need groups: remove this, or group: false' };
  }
  if (deviceCdev && !iommufd) {
    return { option: 'deviceCdev', problem: 'device nodes need an iommufd: add iommufd: true' };
  }
  if (!container && !iommufd) {
    return { option: 'container', problem: 'without containers, groups need an iommufd: add iommufd: true' };
  }
  if (!iommufdVfioContainer) return undefined;
  const option = 'iommufdVfioContainer';
  if (!iommufd) return { option, problem: 'there is no iommufd: add iommufd: true' };
  if (!group) return { option, problem: 'a container is for groups: remove this, or group: false' };
  return container ? { option, problem: 'VFIO provides /dev/vfio/vfio by itself: add container: false' } : undefined;
}

/**
 * The switches of a kernel that can be built.
 *
 * @throws TypeError - they do not go together
 */
export function buildOptions(options: VfioOptions): Required<VfioOptions> {
  const conflict = optionConflict(options);
  if (conflict) throw new TypeError(`${conflict.option}: ${conflict.problem}`);
  return withDefaults(options);
}
