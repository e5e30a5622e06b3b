// What is on a machine: devices with their drivers, groups and numbers, found as a person would find them, in sysfs.

import type { Vfio, VfioDevice } from '@vfio/core';
import { type Device, type Host, isSystemError, type Process } from '@vfio/host';

/** A device in an IOMMU group, or one that is registered without. */
export interface InventoryEntry {
  /** Name on its bus: `0000:01:00.0`, a UUID. */
  readonly address: string;
  /** Name of the bus, if it is on one. */
  readonly bus: string | undefined;
  readonly driver: string | undefined;
  /** `8086:10d3`, of a device that says who made it. */
  readonly ids: string | undefined;
  /** Absent without an IOMMU, on a kernel without VFIO's groups. */
  readonly iommuGroup: number | undefined;
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

/** All devices in IOMMU groups, by group and then in the order in which they joined; then those that are in none. */
export async function inventory(host: Host, vfio: Vfio): Promise<InventoryEntry[]> {
  const entries: InventoryEntry[] = [];
  const registered = vfio.devices();
  const groups = [...host.iommu.groups.values()].sort((a, b) => a.id - b.id);
  for (const group of groups) {
    for (const dev of group.devices) {
      const device = registered.find((candidate) => candidate.dev === dev);
      entries.push(await entryOf(host, dev, device));
    }
  }
  for (const device of registered) {
    if (!device.dev.iommuGroup) entries.push(await entryOf(host, device.dev, device));
  }
  return entries;
}

async function entryOf(host: Host, dev: Device, device: VfioDevice | undefined): Promise<InventoryEntry> {
  return {
    address: dev.name,
    bus: dev.bus?.name,
    driver: dev.driver?.name,
    ids: await deviceIds(host.init, dev.sysfs.path()),
    iommuGroup: dev.iommuGroup?.id,
    vfio: device?.name,
    node: device?.group && `/dev/vfio/${device.group.name}`,
    cdev: device?.device.devt && `/dev/vfio/devices/${device.name}`,
    type: await linkName(host, `${dev.sysfs.path()}/mdev_type`),
    users: device?.openCount ?? 0,
  };
}

/**
 * Who made a device, and what it is, in the way of `lspci -n`: `8086:10d3`.
 *
 * @param directory - of the device, in sysfs
 * @returns undefined for one that does not say
 */
export async function deviceIds(process: Process, directory: string): Promise<string | undefined> {
  const [vendor, device] = [await hexOf(process, `${directory}/vendor`), await hexOf(process, `${directory}/device`)];
  return vendor === undefined || device === undefined ? undefined : `${vendor}:${device}`;
}

/** What a file like `vendor` says, without its prefix; undefined if there is no such file. */
async function hexOf(process: Process, path: string): Promise<string | undefined> {
  try {
    return /^0x([0-9a-f]{4})$/.exec((await process.readFile(path)).trim())?.[1];
  } catch (error) {
    if (!isSystemError(error)) throw error;
    return undefined;
  }
}

async function linkName(host: Host, path: string): Promise<string | undefined> {
  try {
    return (await host.init.readlink(path)).split('/').at(-1);
  } catch {
    return undefined;
  }
}
