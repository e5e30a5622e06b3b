// What is on a machine: devices with their drivers, groups and numbers, found as a person would find them, in sysfs.

import type { Vfio } from '@vfio/core';
import type { Host } from '@vfio/host';

/** A device in an IOMMU group. */
export interface InventoryEntry {
  /** Name on its bus: `0000:01:00.0`, a UUID. */
  readonly address: string;
  /** Name of the bus, if it is on one. */
  readonly bus: string | undefined;
  readonly driver: string | undefined;
  readonly iommuGroup: number;
  /** `vfioN`, while it is registered with VFIO. */
  readonly vfio: string | undefined;
  /** Node of its group: `/dev/vfio/26`. */
  readonly node: string | undefined;
  /** Its own node: `/dev/vfio/devices/vfio0`. */
  readonly cdev: string | undefined;
  /** Type of a mediated device. */
  readonly type: string | undefined;
  /** Open files of the device. */
  readonly users: number;
}

/** All devices in IOMMU groups, by group and then in the order in which they joined. */
export async function inventory(host: Host, vfio: Vfio): Promise<InventoryEntry[]> {
  const entries: InventoryEntry[] = [];
  const registered = vfio.devices();
  const groups = [...host.iommu.groups.values()].sort((a, b) => a.id - b.id);
  for (const group of groups) {
    for (const dev of group.devices) {
      const device = registered.find((candidate) => candidate.dev === dev);
      entries.push({
        address: dev.name,
        bus: dev.bus?.name,
        driver: dev.driver?.name,
        iommuGroup: group.id,
        vfio: device?.name,
        node: device?.group && `/dev/vfio/${device.group.name}`,
        cdev: device?.device.devt && `/dev/vfio/devices/${device.name}`,
        type: await linkName(host, `${dev.sysfs.path()}/mdev_type`),
        users: device?.openCount ?? 0,
      });
    }
  }
  return entries;
}

async function linkName(host: Host, path: string): Promise<string | undefined> {
  try {
    return (await host.init.readlink(path)).split('/').at(-1);
  } catch {
    return undefined;
  }
}
