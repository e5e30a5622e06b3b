// Where groups come from and where they go: made with the first device of an IOMMU group, removed with the last.

import {
  Device,
  type DeviceClass,
  type DeviceNumber,
  type DeviceOptions,
  type File,
  type IommuGroup,
  type Process,
  type Tracked,
  Undo,
} from '@vfio/host';
import type { VfioDevice } from './device.js';
import { VfioError } from './errors.js';
import { Group } from './group.js';
import { openGroup } from './group-file.js';
import type { GroupType } from './iommu-driver.js';
import type { Vfio } from './vfio.js';

/** How a device asks to be registered; `no-iommu` is decided by the core. */
export type GroupKind = Exclude<GroupType, 'no-iommu'>;

/** Name that the core gives to the IOMMU groups that it makes itself, the emulated ones too. */
const ownGroupName = 'vfio-noiommu';

/**
 * Finds or makes the group of a device that is being registered.
 *
 * @returns undefined on a kernel without groups
 * @throws EINVAL - no IOMMU group, or the parent is in the group already
 * @source drivers/vfio/group.c vfio_device_set_group()
 */
export async function setGroup(device: VfioDevice, kind: GroupKind): Promise<Group | undefined> {
  if (!device.vfio.options.group) return undefined;
  const group =
    kind === 'iommu' ? await findOrAllocGroup(device) : await allocOwnGroup(device.vfio, device.dev, 'emulated-iommu');
  device.group = group;
  return group;
}

async function findOrAllocGroup(device: VfioDevice): Promise<Group> {
  const { vfio, dev } = device;
  const { host } = vfio;
  const iommuGroup = dev.iommuGroup;
  if (!iommuGroup) {
    if (!vfio.noiommuEnabled()) throw new VfioError('EINVAL', `${dev.name} is in no IOMMU group`);
    const group = await allocOwnGroup(vfio, dev, 'no-iommu');
    host.log.taint('U', 'vfio-noiommu');
    host.log.warn('Adding kernel taint for vfio-noiommu group on device', dev.name);
    return group;
  }
  using _held = await vfio.groupListLock.lock();
  const known = vfio.groupOf.get(iommuGroup);
  if (!known) return await createGroup(vfio, iommuGroup, 'iommu');
  const twice = known.devices.some((member) => member.dev === dev);
  if (host.log.warnOn(twice, `${dev.name} is in group ${known.name} already`)) {
    throw new VfioError('EINVAL', `${dev.name} is registered already`);
  }
  known.drivers++;
  return known;
}

/** An IOMMU group that holds just this device. Source: drivers/vfio/group.c vfio_noiommu_group_alloc() */
async function allocOwnGroup(vfio: Vfio, dev: Device, kind: 'emulated-iommu' | 'no-iommu'): Promise<Group> {
  const { iommu } = vfio.host;
  const iommuGroup = iommu.allocGroup(ownGroupName);
  try {
    await using undo = new Undo();
    iommu.addDevice(iommuGroup, dev);
    undo.add(() => iommu.removeDevice(dev));
    using _held = await vfio.groupListLock.lock();
    const group = await createGroup(vfio, iommuGroup, kind);
    undo.keep();
    return group;
  } finally {
    iommuGroup.put();
  }
}

/** What the device of a group is made of: its node, which lives as long as somebody has it open. */
class GroupNode implements DeviceOptions {
  readonly name: string;
  readonly class: DeviceClass;
  readonly devt: DeviceNumber;
  readonly #group: Group;
  readonly #tracked: Tracked;

  constructor(group: Group) {
    const { vfio, name, minor } = group;
    this.name = name;
    this.class = vfio.groupClass;
    this.devt = { major: vfio.groupMajor, minor };
    this.#group = group;
    this.#tracked = vfio.host.tracker.track('group', () => `group ${name}`);
  }

  open(process: Process, flags: number): File | Promise<File> {
    return openGroup(this.#group, process, flags);
  }

  release(): void {
    this.#group.vfio.groupMinors.free(this.#group.minor);
    this.#tracked.release();
  }
}

/** The list's lock is held. Source: drivers/vfio/group.c vfio_create_group() */
async function createGroup(vfio: Vfio, iommuGroup: IommuGroup, kind: GroupType): Promise<Group> {
  const { host } = vfio;
  await using undo = new Undo();
  host.faults.check('vfio_group_alloc:memory');
  const minor = vfio.groupMinors.alloc();
  const group = new Group(vfio, iommuGroup, kind, minor);
  const device = new Device(new GroupNode(group));
  host.devices.init(device);
  undo.add(() => device.put());
  iommuGroup.get();
  undo.add(() => iommuGroup.put());
  host.faults.check('vfio_create_group:name');
  // whoever opens the node at once holds the device, and with it the minor
  group.device = device;
  await host.devices.add(device);
  undo.keep();
  vfio.groupOf.set(iommuGroup, group);
  return group;
}

/**
 * A device that was registered, or failed to, leaves its group. The last one takes the node along and detaches the group
 * from its container; the object lives on while its file is open.
 *
 * @source drivers/vfio/group.c vfio_device_remove_group()
 */
export async function leaveGroup(device: VfioDevice): Promise<void> {
  const group = device.group;
  if (!group) return;
  const { vfio } = group;
  const { host } = vfio;
  device.group = undefined;
  if (group.kind !== 'iommu') host.iommu.removeDevice(device.dev);
  using _list = await vfio.groupListLock.lock();
  group.drivers--;
  if (group.drivers > 0) return;
  if (group.iommuGroup) vfio.groupOf.delete(group.iommuGroup);
  const node = group.device;
  group.device = undefined;
  if (node) await host.devices.del(node);
  {
    using _group = await group.groupLock.lock();
    host.log.warnOn(group.devices.length > 0, `group ${group.name} goes although it has devices`);
    if (group.container) await group.container.detachGroup(group);
    const { iommuGroup } = group;
    group.iommuGroup = undefined;
    iommuGroup?.put();
  }
  node?.put();
}
